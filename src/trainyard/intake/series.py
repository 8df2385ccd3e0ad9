"""A recipe for a table of measurements over time that a user points at."""

from __future__ import annotations

import re
from collections import Counter
from datetime import timedelta
from shlex import quote

import numpy as np

from trainyard.data.problems import Problem, printable
from trainyard.data.series_time import COUNTED, PLAIN, SECONDS, ZONED, is_doubtful, read_times
from trainyard.data.table_form import shown
from trainyard.errors import InputError
from trainyard.intake.columns import NUMBER, TIME_NAMES, TIMES_READ, Column, Look, Named, choose, no_header, quoted
from trainyard.intake.training import training_length

SHARES = (0.1, 0.2)
"""Of the steps, for validation and test."""
HOUR, DAY = 3600, 86_400
STEPS = 1500
"""Optimizer steps that a suggested training has, as far as that makes a sensible number of epochs."""
LONGEST_HORIZON, LONGEST_CONTEXT = 96, 384
"""Steps that are suggested at most, as for quarters of an hour: a network goes through them one after the other."""
COMMA = re.compile(r"[+-]?\d+,\d+")
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")


def is_series(table: Look, named: Named) -> bool:
    """Whether a table is taken for a series, and not for texts.

    Raises:
        InputError: the options speak of both, or the table holds both and no option says which.
    """
    text = [option for option in named.given() if option in ("--text", "--label")]
    series = [option for option in named.given() if option not in text]
    if text and series:
        raise InputError(f"{', '.join(text)} is for texts, and {', '.join(series)} for series; give one or the other")
    if text or series:
        return bool(series)
    if table.files:
        return False
    times = [column.name for column in table.columns.values() if column.is_time()]
    texts = [column.name for column in table.columns.values() if column.is_text()]
    numbers = [column.name for column in _numbers(table)]
    if not times and numbers and not texts:
        refuse_odd_dates(table)
        raise InputError(
            f"{table.path}: no column looks like times or texts; it has {table.listed()}: say which, such as --time COLUMN "
            "for a series, or --text COLUMN and --label COLUMN"
        )
    if times and not numbers and not texts:
        other = next((column for column in table.columns.values() if column.name not in times and column.filled), None)
        such = f"; column {other.name} holds {shown(other.filled[0])}" if other else ""
        raise InputError(
            f"{table.path}: column {times[0]} holds times, and no column numbers{such}; it has {table.listed()}: write plain "
            "numbers to forecast, or say --text COLUMN and --label COLUMN"
        )
    if times and numbers and texts:
        raise InputError(
            f"{table.path}: holds texts ({', '.join(texts)}) and measurements over time ({', '.join(numbers)}, at {times[0]}); "
            f"say what to learn: --label COLUMN for texts, or --target {quote(numbers[0])} for a series"
        )
    return bool(times and numbers)


def suggest_series(table: Look, named: Named, shown_path: str) -> list[str]:
    """Return the lines of a recipe, without its `name:`, up to `evaluate:`.

    Raises:
        InputError: it is open which columns hold times and numbers, or there are too few rows.
    """
    if table.files:
        raise InputError(f"{table.path}: is a folder; a series is one table, which is cut by time: give its path")
    time = _time(table, named)
    series = _series(table, named, time)
    other = {time.name, *([series.name] if series else [])}
    targets, why = _targets(table, named, other)
    left = [column.name for column in _numbers(table) if column.name not in (*other, *targets)]
    features = left if named.target else []
    lengths = Counter(series.cells if series else [""] * table.rows)
    shortest, rows = min(lengths.items(), key=lambda item: item[1])
    step, season = _step(time, series)
    horizon, context = _lengths(table, named, season, rows, shortest)
    numbers = [table.columns[name] for name in (*targets, *features)]
    comma = _decimal_comma(table, numbers)
    holes = sum(column.missing() for column in numbers)
    whole = len(targets) + len(other) == len(table.columns) and not table.left_out
    listed = "all" if whole and not named.target else f"[{', '.join(map(quoted, targets))}]"
    known = [quoted(name) for name in features]
    several = f" of {len(lengths):,} series, the shortest of {rows:,} steps" if series else ""
    return [
        "family: lstm",
        f"# {table.rows:,} rows{several}, a step is mostly {step}; {table.about}.",
        "data:",
        "  source: series_csv",
        f"  path: {shown_path}",
        f"  time: {quoted(time.name)} # from {printable(time.filled[0])} on",
        *([f"  series: {quoted(series.name)} # {len(lengths):,} values; each is a series of its own"] if series else []),
        f"  targets: {listed} # {why}",
        *([f"  features: [{', '.join(known)}] # their past is seen, too"] if known else []),
        f"  context_length: {context} # steps that are seen",
        f"  horizon: {horizon} # steps that are forecast",
        *([f"  missing: interpolate # {holes:,} cells are empty"] if holes else []),
        *([f"  decimal: ',' # {comma} is read as {comma.replace(',', '.')}"] if comma else []),
        f"  val_fraction: {SHARES[0]} # of the steps, before those of the test split",
        f"  test_fraction: {SHARES[1]} # the latest steps",
        "model:",
        "  hidden_size: 48",
        "  bidirectional: false",
        "  residual: last # learns the change from the last step, whatever the level",
        "  autoregression: true # beside a linear forecast, so that the cells learn what is not linear",
        *_training(table.rows),
        "evaluate:",
        f"  season: {season} # steps after which the series may repeat, for a naive forecast beside the network's",
    ]


def _numbers(table: Look) -> list[Column]:
    """Return the columns of measured numbers."""
    return [column for column in table.columns.values() if column.is_number() and not column.is_time()]


def _time(table: Look, named: Named) -> Column:
    if named.time:
        return _readable(table, table.columns[named.time])
    found = [column for column in table.columns.values() if column.is_time()]
    chosen = choose(found, TIME_NAMES)
    if chosen is None:
        names = ", ".join(column.name for column in found)
        if not found:
            refuse_odd_dates(table)
        said = f"columns {names} all hold times" if found else "no column holds times"
        option = quote(found[0].name) if found else "COLUMN"
        raise InputError(f"{table.path}: {said}; it has {table.listed()}: say which, such as --time {option}")
    return _readable(table, chosen)


def _readable(table: Look, time: Column) -> Column:
    """Return a column of times, or refuse it where hardly anything in it can be read as one."""
    problems: list[Problem] = []
    cells = time.filled[:TIMES_READ]
    read_times(cells, range(len(cells)), time.name, problems)
    bad = [problem for problem in problems if problem.severity != "warning"]
    if not cells:
        raise InputError(f"{table.path}: column {printable(time.name)} is empty; expected a time in each row")
    if len(bad) > len(cells) / 2:
        found, expected = printable(bad[0].found), printable(bad[0].expected)
        raise InputError(f"{table.path}: column {printable(time.name)} holds {found}; {expected}")
    named: list[Problem] = []
    clock = read_times([time.name], [1], time.name, named)
    if clock.form in (PLAIN, ZONED) and not named:
        raise no_header(table, time.name)
    problems.clear()
    clock = read_times(time.filled, range(len(time.filled)), time.name, problems)
    if is_doubtful(clock.times, clock.form):
        raise InputError(
            f"{table.path}: column {printable(time.name)}: {printable(problems[-1].found)}; {problems[-1].expected}"
        )
    return time


def refuse_odd_dates(table: Look) -> None:
    """Refuse a table whose only dates are written in a way that has several meanings, or is not read."""
    for column in table.columns.values():
        cells = column.filled[:TIMES_READ]
        problems: list[Problem] = []
        if column.is_date_like():
            read_times(cells, range(len(cells)), column.name, problems)
        bad = [problem for problem in problems if problem.severity != "warning"]
        if 0 < len(bad) < len(cells):
            raise InputError(f"{table.path}: column {printable(column.name)} holds {bad[0].found}; {bad[0].expected}")
    odd = next((column for column in table.columns.values() if column.is_date_like()), None)
    if odd is not None:
        raise InputError(
            f"{table.path}: column {printable(odd.name)} holds dates such as {odd.filled[0].strip()!r}; dates are read as "
            "2016-07-31 or 2016-07-31 18:00:00, which have one meaning everywhere: write them so"
        )


def _decimal_comma(table: Look, numbers: list[Column]) -> str:
    """Return a number with a decimal comma, if there are any.

    Raises:
        InputError: the commas may as well stand between thousands.
    """
    cells = [cell.strip() for column in numbers for cell in column.cells if cell.strip()]
    commas = [cell for cell in cells if COMMA.fullmatch(cell)]
    if not commas:
        return ""
    if all(THOUSANDS.fullmatch(cell) for cell in commas) and ("commas" in table.about or len(commas) < len(cells)):
        raise InputError(
            f"{table.path}: it is open whether '{commas[0]}' is {commas[0].replace(',', '')} or {commas[0].replace(',', '.')}; "
            "write numbers without commas between thousands, or write the recipe by hand, with data.decimal: ','"
        )
    return commas[0]


def _series(table: Look, named: Named, time: Column) -> Column | None:
    """Return the column that says to which series a row belongs, where times come twice."""
    if named.series:
        return table.whole([named.series])[named.series]
    cells = table.whole([time.name])[time.name].cells
    if len(set(cells)) == len(cells):
        return None
    few = [column.name for column in table.columns.values() if column.classes() <= len(column.cells) / 10]
    found = []
    for column in table.whole([name for name in few if name != time.name]).values():
        once = len(set(zip(cells, column.cells, strict=True))) == len(cells)
        if 1 < column.classes() <= len(cells) / 10 and not column.is_time() and once:
            found.append(column)
    parts = [column.name for column in table.columns.values() if column.name != time.name and column.is_time_part()]
    found = [column for column in found if column.name not in parts]
    if len(found) == 1:
        return found[0]
    if not found and parts:
        raise InputError(
            f"{table.path}: times in {time.name} come more than once, and {', '.join(parts)} may say the rest of a time; write "
            "it into one column, such as 2016-07-31 18:00:00, or say --series COLUMN if it tells several series apart"
        )
    if not found and len(set(cells)) > len(cells) / 2:
        return None  # Some times are doubled by mistake, which the checks name with their rows.
    names = ", ".join(column.name for column in found) or "none"
    raise InputError(
        f"{table.path}: times in {time.name} come more than once, so it holds several series; "
        f"columns that may tell them apart: {names}; say which, such as --series {quote(found[0].name) if found else 'COLUMN'}"
    )


def _targets(table: Look, named: Named, used: set[str]) -> tuple[list[str], str]:
    numbers = [column.name for column in _numbers(table) if column.name not in used]
    if named.target:
        if wrong := [name for name in named.target if name not in numbers]:
            raise InputError(
                f"{table.path}: column {wrong[0]} does not hold numbers; those that do: {', '.join(numbers) or 'none'}"
            )
        return list(named.target), "as asked"
    if not numbers:
        raise InputError(f"{table.path}: no column holds numbers to forecast; it has {table.listed()}")
    counters = [name for name in numbers if table.columns[name].counts_rows()]
    numbers = [name for name in numbers if name not in counters] or numbers
    others = [_with_cell(table.columns[name]) for name in table.columns if name not in (*numbers, *counters, *used)]
    others += map(printable, table.left_out)
    left_out = f"; {', '.join(others)} left out, as no numbers" if others else ""
    counted = [printable(name) for name in counters if name not in numbers]
    left_out += f"; {', '.join(counted)} left out, as it counts the rows" if counted else ""
    listed = f": {', '.join(map(printable, numbers))}" if not left_out else ""
    return numbers, f"forecast together{listed}{left_out}; or name some, and the others under features"


def _with_cell(column: Column) -> str:
    """Return the name of a column that is left out, with what may be numbers in another form, such as $1,234.50."""
    cells = [cell for cell in column.filled if not any(map(str.isalpha, cell)) and any(map(str.isdigit, cell))]
    if len(cells) < len(column.filled) / 2 or column.is_date_like() or column.is_time():
        return printable(column.name)
    other = next((cell for cell in column.filled if not NUMBER.fullmatch(cell)), cells[0] if cells else "")
    return f"{printable(column.name)} ({shown(other, 20)})" if other else printable(column.name)


def _step(time: Column, series: Column | None) -> tuple[str, int]:
    """Return the usual step in words, and how many of them make a day, or whatever repeats itself next."""
    cells = (
        time.cells
        if series is None
        else [cell for cell, name in zip(time.cells, series.cells, strict=False) if name == series.cells[0]]
    )
    problems: list[Problem] = []
    clock = read_times(cells[:2000], range(len(cells[:2000])), time.name, problems)
    # Rows that are out of order are named by the checks.
    steps = np.diff(np.unique(clock.times))
    if not len(steps):
        return "unknown", 12
    seconds = float(np.median(steps)) / 1e6
    if clock.form == SECONDS and int(clock.times.max()) < COUNTED:
        return f"{seconds:g} of {printable(time.name)}", 12
    if seconds >= 27 * DAY:
        return ("a month", 12) if seconds < 32 * DAY else ("a year" if seconds > 360 * DAY else "a quarter", 4)
    season = HOUR / seconds if seconds < 300 else DAY / seconds if seconds < DAY else 7 if seconds < 7 * DAY else 4
    return str(timedelta(seconds=round(seconds, 6))), max(2, round(season))


def _lengths(table: Look, named: Named, season: int, rows: int, shortest: str) -> tuple[int, int]:
    """Return horizon and context, for which every split of the shortest series, of so many rows, has steps enough."""
    horizon = named.horizon or max(1, min(season, LONGEST_HORIZON, int(SHARES[0] * rows) // 3))
    context = named.context or max(1, min(4 * season, LONGEST_CONTEXT, int((1 - sum(SHARES)) * rows) // 3))
    if horizon > SHARES[0] * rows or context + horizon > (1 - sum(SHARES)) * rows:
        of_series = f" of series {printable(shortest)}" if rows < table.rows else ""
        least = " or leave the series out" if of_series else ""
        raise InputError(
            f"{table.path}: {rows:,} steps{of_series} are too few for a context of {context} and a horizon of {horizon} "
            f"in each split; give more rows,{least or ' or smaller --context and --horizon'}"
        )
    return horizon, context


def _training(rows: int) -> list[str]:
    return [
        *training_length(int((1 - sum(SHARES)) * rows), STEPS, (4, 40)),
        "  optimizer: adamw",
        "  learning_rate: 2e-3 # of the highest point",
        "  weight_decay: 0.01",
        "  schedule: cosine",
        "  loss: mse",
        "  gradient_clip: 1.0",
        "  seed: 0",
    ]
