from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from trainyard.data.check import check
from trainyard.data.series_csv import SeriesCSVConfig
from trainyard.errors import InputError
from trainyard.intake import columns
from trainyard.intake.columns import Named
from trainyard.intake.suggest import suggest
from trainyard.recipe import read_recipe
from trainyard.recipe_text import add_recipe


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


def table(root: Path, rows: list[str], header: str = "when,load") -> Path:
    (root / "s.csv").write_text("\n".join([header, *rows]) + "\n")
    return root / "s.csv"


HOURS = [str(datetime(2024, 1, 1) + timedelta(hours=number)) for number in range(400)]


def test_words_for_nothing_leave_a_column_one_of_numbers(tmp_path: Path) -> None:
    path = table(
        tmp_path, [f"{hour},{'NaN' if n % 5 == 0 else n % 13},{n % 7}" for n, hour in enumerate(HOURS)], "when,load,heat"
    )
    text, data = suggested(path)
    assert data.targets == "all" and data.missing == "interpolate"
    assert "80 cells are empty" in text


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_commas_between_thousands_are_not_taken_for_decimal_ones(tmp_path: Path, delimiter: str) -> None:
    rows = [f'{hour}{delimiter}"{500 + n * 7:,}"' for n, hour in enumerate(HOURS)]
    with pytest.raises(InputError, match=r"it is open whether '1,004' is 1004 or 1\.004; write numbers without commas"):
        suggest("mine", "lstm", table(tmp_path, rows, f"when{delimiter}load"), "s.csv")


def test_decimal_commas_with_three_digits_everywhere_are_read_and_shown(tmp_path: Path) -> None:
    rows = [f"{hour};{n % 7},{n % 3}25" for n, hour in enumerate(HOURS)]
    text, data = suggested(table(tmp_path, rows, "when;load"))
    assert data.decimal == ","
    assert "0,025 is read as 0.025" in text


@pytest.mark.parametrize("form", ["%d/%m/%Y", "%Y/%m/%d", "%b %d, %Y", "%Y-%m"])
@pytest.mark.parametrize("named", [Named(), Named(target=("load",)), Named(time="when")])
def test_dates_written_otherwise_are_named_and_not_passed_over(tmp_path: Path, form: str, named: Named) -> None:
    days = [datetime(2024, 1, 1) + timedelta(days=31 * number) for number in range(90)]
    path = table(tmp_path, [f'"{day.strftime(form)}",{n % 7}' for n, day in enumerate(days)])
    with pytest.raises(InputError, match=r"column when holds (dates such as|time) '"):
        suggest("mine", "lstm", path, "s.csv", named)


def test_a_few_bad_times_are_left_to_the_checks(tmp_path: Path) -> None:
    rows = [f"{'soon' if n == 5 else hour},{n % 7}" for n, hour in enumerate(HOURS)]
    assert "time: when" in suggest("mine", "lstm", table(tmp_path, rows), "s.csv")


def test_a_column_without_times_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="column when is empty; expected a time in each row"):
        suggest("mine", "lstm", table(tmp_path, [f",{n}" for n in range(50)]), "s.csv", Named(time="when"))


def test_times_beside_no_numbers_say_what_stands_there(tmp_path: Path) -> None:
    rows = [f"{hour},${n % 7}.50" for n, hour in enumerate(HOURS)]
    with pytest.raises(InputError, match=r"holds times, and no column numbers; column load holds '\$0\.50'"):
        suggest("mine", "lstm", table(tmp_path, rows), "s.csv")


def test_a_series_without_a_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no header: its first row, with '2024-01-01 00:00:00', is like those below"):
        suggest(
            "mine", "lstm", table(tmp_path, [f"{hour},{n % 7}" for n, hour in enumerate(HOURS[1:])], f"{HOURS[0]},3"), "s.csv"
        )


@pytest.mark.parametrize(("series", "steps"), [(4, 300), (2, 700)])
def test_series_are_told_from_all_rows_however_many_are_kept(
    tmp_path: Path, series: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainyard.data.table_csv.BLOCK_ROWS", 100)
    monkeypatch.setattr("trainyard.intake.columns.LOOKED_AT", 600)
    times = [datetime(2024, 1, 1) + timedelta(hours=number) for number in range(steps)]
    rows = [f"{time},m{number},{number + n * 7 % 24 + n / 8}" for number in range(series) for n, time in enumerate(times)]
    text, data = suggested(table(tmp_path, rows, "when,meter,load"))
    assert data.series == "meter"
    assert f"of {series} series, the shortest of {steps} steps" in text


DAYS = [str((datetime(2024, 1, 1) + timedelta(days=number)).date()) for number in range(400)]


@pytest.mark.parametrize(
    ("header", "rows", "said"),
    [
        ("date,hour,load", [f"{DAYS[n // 24]},{n % 24},{n % 7}.5" for n in range(400)], "and hour may say the rest of a time"),
        ("date,at,load", [f"{DAYS[n // 24]},{n % 24}:00,{n % 7}.5" for n in range(400)], "and at may say the rest of a time"),
        (
            "year,month,day,load",
            [f"{day.replace('-', ',')},{n % 7}.5" for n, day in enumerate(DAYS)],
            "times in year come more than once, and month, day may say the rest of a time; write it into one column",
        ),
    ],
)
def test_a_time_in_several_columns_is_not_taken_for_several_series(
    tmp_path: Path, header: str, rows: list[str], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        suggest("mine", "lstm", table(tmp_path, rows, header), "s.csv")


def test_series_beside_a_part_of_the_time_are_told_apart(tmp_path: Path) -> None:
    rows = [f"{day},{day[5:7]},{shop},{n % 7}" for shop in "ab" for n, day in enumerate(DAYS)]
    assert suggested(table(tmp_path, rows, "date,month,shop,load"))[1].series == "shop"


def test_numbers_of_the_rows_are_no_target(tmp_path: Path) -> None:
    rows = [f"{n},{hour},{n % 7},{n % 2}" for n, hour in enumerate(HOURS)]
    text, data = suggested(table(tmp_path, rows, "Unnamed: 0,when,load,on"))
    assert data.targets == ("load", "on")
    assert "Unnamed: 0 left out, as it counts the rows" in text


def test_numbers_in_another_form_are_shown_where_they_are_left_out(tmp_path: Path) -> None:
    rows = [f'{hour},{n % 7},"$1,{n:03}.50",west' for n, hour in enumerate(HOURS)]
    text, _ = suggested(table(tmp_path, rows, "when,load,price,place"))
    assert "; price ('$1,000.50'), place left out, as no numbers" in text


@pytest.mark.parametrize(
    "dates", [[str(45292 + n) for n in range(100)], [f"{2024 + n // 12}{n % 12 + 1:02d}" for n in range(100)]]
)
def test_days_of_a_spreadsheet_and_months_are_not_taken_for_seconds(tmp_path: Path, dates: list[str]) -> None:
    path = table(tmp_path, [f"{date},{n % 7}.5" for n, date in enumerate(dates)], "date,load")
    with pytest.raises(InputError, match=rf"column date: numbers from {dates[0]} on are read as seconds since 1970"):
        suggest("mine", "lstm", path, "s.csv")


def test_counted_steps_have_no_season_of_seconds(tmp_path: Path) -> None:
    text, _ = suggested(table(tmp_path, [f"{n},{n % 7}.5" for n in range(400)], "time,load"))
    assert "a step is mostly 1 of time" in text and "season: 12 #" in text


def test_rows_from_the_latest_to_the_earliest_have_the_same_step(tmp_path: Path) -> None:
    text = suggest("mine", "lstm", table(tmp_path, [f"{hour},{n % 7}.5" for n, hour in enumerate(HOURS[::-1])]), "s.csv")
    assert "a step is mostly 1:00:00" in text and "season: 24 #" in text


def test_a_zone_in_some_rows_is_named_instead_of_the_form_of_dates(tmp_path: Path) -> None:
    path = table(tmp_path, [f"{hour}{'Z' if n % 2 else ''},{n % 7}.5" for n, hour in enumerate(HOURS)])
    with pytest.raises(InputError, match="is of the dates with a time zone; the rows before have dates without a time zone"):
        suggest("mine", "lstm", path, "s.csv")


def test_neither_times_nor_texts_are_said_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no column looks like times or texts; it has quarter, load"):
        suggest("mine", "lstm", table(tmp_path, [f"{n // 4}Q{n % 4},{n % 7}.5" for n in range(100)], "quarter,load"), "s.csv")


def test_the_series_that_is_too_short_is_named(tmp_path: Path) -> None:
    rows = [f"{day},{shop},{n % 7}" for shop, days in (("a", 300), ("b", 3)) for n, day in enumerate(DAYS[:days])]
    with pytest.raises(InputError, match=r"3 steps of series b are too few .*; give more rows, or leave the series out"):
        suggest("mine", "lstm", table(tmp_path, rows, "date,shop,load"), "s.csv")


def test_a_title_above_the_names_of_the_columns_is_named(tmp_path: Path) -> None:
    path = table(tmp_path, [f"{hour},{n % 7}" for n, hour in enumerate(HOURS)], "Loads of 2024\n\nwhen,load")
    with pytest.raises(InputError, match="holds one column, 'Loads of 2024'; a table has several, named in its first row"):
        suggest("mine", "lstm", path, "s.csv")


def test_series_of_seconds_are_not_seen_for_hours(tmp_path: Path) -> None:
    text, data = suggested(write(tmp_path, "when,load", "{time},{load}", timedelta(seconds=1), 12_000))
    assert (data.horizon, data.context_length) == (96, 384)
    assert "season: 3600 #" in text


def test_remarks_in_some_rows_do_not_make_texts_of_a_series(tmp_path: Path) -> None:
    rows = [f"{hour},{n % 7},{'the sensor was replaced' if n % 50 == 0 else ''}" for n, hour in enumerate(HOURS)]
    text, data = suggested(table(tmp_path, rows, "when,load,remark"))
    assert data.targets == ("load",) and "remark left out, as no numbers" in text


def test_columns_are_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    read = columns.read_times
    monkeypatch.setattr(columns, "read_times", lambda *given: seen.append(given[2]) or read(*given))
    suggested(table(tmp_path, [f"{hour},{n % 7},{n % 5}" for n, hour in enumerate(HOURS)], "when,load,heat"))
    assert sorted(seen) == ["heat", "load", "when"]
