from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from trainyard.data.check import check
from trainyard.data.series_csv import SeriesCSVConfig
from trainyard.errors import InputError
from trainyard.recipe import read_recipe
from trainyard.recipe_text import add_recipe
from trainyard.suggest import suggest
from trainyard.suggest_columns import Named


def write(root: Path, header: str, row: str, step: timedelta = timedelta(hours=1), count: int = 400) -> Path:
    times = [datetime(2024, 1, 1) + number * step for number in range(count)]
    lines = [row.format(time=time, n=number, load=(number * 7) % 24 / 2) for number, time in enumerate(times)]
    (root / "s.csv").write_text("\n".join([header, *lines]) + "\n")
    return root / "s.csv"


def suggested(path: Path, named: Named | None = None) -> tuple[str, SeriesCSVConfig]:
    """Return the suggestion, and the data block that it becomes in a params.yaml; `check` finds no error in it."""
    text = suggest("mine", "lstm", path, path.name, named)
    (path.parent / "params.yaml").unlink(missing_ok=True)
    add_recipe(path.parent / "params.yaml", "mine", text)
    data = read_recipe(path.parent / "params.yaml", "mine").data
    assert isinstance(data, SeriesCSVConfig)
    check(data, path.parent)
    return text, data


def test_times_and_numbers_become_a_series_with_the_season_of_its_step(tmp_path: Path) -> None:
    text, data = suggested(write(tmp_path, "when,load,heat", "{time},{load},{n}.5"))
    assert (data.time, data.targets, data.horizon) == ("when", "all", 13)
    assert "season: 24" in text
    text, data = suggested(write(tmp_path, "when,load", "{time},{load}", timedelta(days=1)))
    assert (data.horizon, data.context_length) == (7, 28)


def test_targets_that_are_named_leave_the_others_as_features(tmp_path: Path) -> None:
    path = write(tmp_path, "when,load,heat,sky", "{time},{load},{n}.5,clear")
    _, data = suggested(path, Named(target=("load",), horizon=6, context=12))
    assert (data.targets, data.features, data.horizon, data.context_length) == (("load",), ("heat",), 6, 12)
    text, data = suggested(path)
    assert data.targets == ("load", "heat")
    assert "sky left out, as no numbers" in text


def test_decimal_commas_and_empty_cells_are_seen(tmp_path: Path) -> None:
    path = write(tmp_path, "when;load", "{time};{n},5")
    path.write_text(path.read_text().replace(";7,5\n", ";\n"))
    text, data = suggested(path)
    assert (data.decimal, data.missing) == (",", "interpolate")
    assert "1 cells are empty" in text


@pytest.mark.parametrize(
    ("header", "row", "named", "said"),
    [
        (
            "start,end,load",
            "{time},{time},{load}",
            Named(target=("load",)),
            "columns start, end all hold times; .* --time start",
        ),
        ("when,load", "{time},{load}", Named(target=("when",)), "column when does not hold numbers; those that do: load"),
        ("when,load", "{time},{load}", Named(label="load", horizon=3), "--label is for texts, and --horizon for series"),
        ("when,load", "{time},{load}", Named(horizon=300), "400 steps are too few for a context of .* and a horizon of 300"),
    ],
)
def test_what_leaves_a_series_open_is_refused(tmp_path: Path, header: str, row: str, named: Named, said: str) -> None:
    with pytest.raises(InputError, match=said):
        suggest("mine", "lstm", write(tmp_path, header, row), "s.csv", named)
