from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainyard.data.problems import DataError
from trainyard.data.series_csv import SeriesCSVConfig, load

Write = Callable[..., Path]


def config(**changes: Any) -> SeriesCSVConfig:
    values = {"path": "s.csv", "time": "date", "targets": ("load",), "context_length": 4, "horizon": 2}
    return SeriesCSVConfig(source="series_csv", **{**values, **changes})


def rows(count: int = 40) -> list[str]:
    return [f"2024-01-{1 + hour // 24:02d} {hour % 24:02d}:00:00,{hour % 7},{hour * 0.5}" for hour in range(count)]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(lines: list[str], header: str = "date,load,wind") -> Path:
        (tmp_path / "s.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
        return tmp_path

    return make


def refused(root: Path, **changes: Any) -> str:
    with pytest.raises(DataError) as error:
        load(config(**changes), root, root)
    return str(error.value)


def test_targets_come_first_and_features_after_them(write: Write) -> None:
    raw = load(config(features=("wind",)), write(rows()), Path())
    assert raw.classes == ("load",)
    assert raw.arrays["values"].shape == (40, 2)
    assert raw.arrays["values"][9].tolist() == [2.0, 4.5]
    assert raw.arrays["offsets"].tolist() == [0, 40]
    assert "40 steps" in raw.about and "dates without a time zone" in raw.about


def test_all_targets_are_the_columns_without_another_use(write: Write) -> None:
    assert load(config(targets="all"), write(rows()), Path()).classes == ("load", "wind")
    assert load(config(targets="all", features=("wind",)), write(rows()), Path()).classes == ("load",)


def test_every_cell_that_is_no_number_is_named_with_its_row(write: Write) -> None:
    lines = rows()
    for row, cell in ((3, "n/a"), (5, ""), (7, "inf"), (9, "1e400"), (11, "nan"), (13, "1_000")):
        lines[row] = lines[row].replace(f",{row % 7},", f",{cell},", 1)
    text = refused(write(lines))
    for line, cell in ((5, "n/a"), (7, ""), (9, "inf"), (11, "1e400"), (13, "nan"), (15, "1_000")):
        assert f"s.csv:{line}: column load holds '{cell}'; expected" in text
    assert "6 problems" in text


def test_missing_numbers_are_left_open_where_they_may_be_filled(write: Write) -> None:
    lines = rows()
    lines[5] = lines[5].replace(",5,", ",,")
    del lines[9]
    raw = load(config(missing="interpolate"), write(lines), Path())
    assert np.flatnonzero(np.isnan(raw.arrays["values"][:, 0])).tolist() == [5, 9]
    assert len(raw.arrays["values"]) == 40


def test_infinity_is_refused_even_where_missing_numbers_are_filled(write: Write) -> None:
    lines = rows()
    lines[5] = lines[5].replace(",5,", ",-inf,")
    assert "s.csv:7: column load holds '-inf'" in refused(write(lines), missing="interpolate")


def test_one_more_field_than_the_header_is_refused(write: Write) -> None:
    lines = rows()
    lines[2] += ",9"
    lines[4] = "2024-01-01 04:00:00"
    text = refused(write(lines))
    assert "s.csv:4: 4 fields; the header has 3" in text and "s.csv:6: 1 fields" in text


def test_a_column_that_is_not_there_is_named_with_the_nearest(write: Write) -> None:
    text = refused(write(rows()), targets=("laod",), features=("wnd",))
    assert "s.csv:laod: no such column" in text and "did you mean 'load'?" in text and "did you mean 'wind'?" in text


def test_semicolons_and_decimal_commas_are_read_and_said(write: Write) -> None:
    lines = [line.replace(",", ";").replace(".", ",") for line in rows()]
    root = write(lines, "date;load;wind")
    text = refused(root, features=("wind",))
    assert "s.csv:2: column wind holds '0,0'; expected" in text and "set data.decimal: ','" in text
    raw = load(config(features=("wind",), decimal=","), root, root)
    assert raw.arrays["values"][9].tolist() == [2.0, 4.5]
    assert "fields between semicolons, UTF-8" in raw.about


def test_a_number_with_both_a_point_and_decimal_commas_is_refused(write: Write) -> None:
    lines = [line.replace(",", ";").replace(".", ",") for line in rows()]
    lines[3] = lines[3].replace("1,5", "1.001,5")
    assert "s.csv:5: column wind holds '1.001,5'" in refused(write(lines, "date;load;wind"), targets=("wind",), decimal=",")


def test_a_broken_quote_is_said_without_a_key_that_no_recipe_of_series_has(write: Write) -> None:
    lines = rows()
    lines[4] += ' "'
    lines[5] = '"' + lines[5].replace(",", '" x,', 1)
    said = refused(write(lines))
    assert 's.csv:7: text follows the closing quote; close each quote, and write "" for one within a field' in said
    assert "data.quotes" not in said


def test_a_byte_order_mark_is_no_part_of_the_first_column(write: Write) -> None:
    root = write(rows())
    (root / "s.csv").write_bytes(b"\xef\xbb\xbf" + (root / "s.csv").read_bytes())
    assert len(load(config(), root, root)) == 40


@pytest.mark.parametrize("content", ["", "date,load,wind\n"])
def test_a_file_without_rows_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "s.csv").write_text(content)
    assert "holds no rows" in refused(tmp_path)


def test_a_file_outside_the_raw_data_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("date,load\n")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "s.csv").symlink_to(tmp_path / "secret.csv")
    for path in ("../secret.csv", "s.csv"):
        with pytest.raises(DataError, match="leads out of the folder") as error:
            load(config(path=path), tmp_path / "raw", tmp_path)
        assert error.value.exit_code == 5


def test_rows_of_several_series_may_be_mixed(write: Write) -> None:
    lines = [line + f",{name}" for line in rows() for name in ("north", "south")]
    root = write(lines, "date,load,wind,place")
    raw = load(config(series="place", targets=("load",)), root, root)
    assert raw.arrays["offsets"].tolist() == [0, 40, 80]
    assert np.array_equal(raw.arrays["values"][:40], raw.arrays["values"][40:])


def test_a_short_series_is_named_with_its_length_and_its_need(write: Write) -> None:
    lines = [line + ",long" for line in rows()] + [line + ",short" for line in rows(7)]
    root = write(lines, "date,load,wind,place")
    text = refused(root, series="place")
    assert "series short: 7 steps, of which 5 go to train; train needs 6 (context_length 4, horizon 2)" in text
    assert "series long" not in text


def test_series_of_different_steps_are_refused(write: Write) -> None:
    lines = [line + ",a" for line in rows()] + [line + ",b" for line in rows(80)[::2]]
    root = write(lines, "date,load,wind,place")
    assert "2 different time steps" in refused(root, series="place")


def test_a_constant_target_is_a_warning(write: Write) -> None:
    raw = load(config(), write([line.rsplit(",", 2)[0] + ",3,1" for line in rows()]), Path())
    assert [problem.rule for problem in raw.warnings] == ["constant-column"]


def test_small_numbers_that_differ_are_not_constant(write: Write) -> None:
    raw = load(config(), write([f"{line.rsplit(',', 2)[0]},{n % 7}e-12,1" for n, line in enumerate(rows())]), Path())
    assert raw.warnings == ()


def test_numbers_that_networks_cannot_compute_with_are_refused(write: Write) -> None:
    root = write([f"{line.rsplit(',', 2)[0]},{n % 7}e200,1" for n, line in enumerate(rows())])
    assert "s.csv:load: numbers up to 6e+200; 1e+37 at most" in refused(root)


def test_a_column_used_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="column 'load' is named twice among time, series, targets and features"):
        config(features=("load",))
    with pytest.raises(ValueError, match="column 'date' is named twice"):
        config(targets=("date",))


def test_steps_of_the_splits_go_together() -> None:
    with pytest.raises(ValueError, match="train_steps 9, val_steps None and test_steps 3 go together"):
        config(train_steps=9, test_steps=3)


def test_the_real_electricity_series_is_cut_as_in_the_literature(real_data: Path) -> None:
    from trainyard.data.series_windows import pack

    steps = {"train_steps": 8640, "val_steps": 2880, "test_steps": 2880}
    chosen = config(path="ETTh1.csv", targets="all", context_length=96, horizon=24, **steps)
    raw = load(chosen, real_data / "etth1", real_data)
    assert raw.arrays["values"].shape == (17420, 7)
    assert pack(raw, chosen).samples == {"train": 8521, "val": 2857, "test": 2857}
