import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from trainyard.errors import IntegrityError
from trainyard.evaluation.summary import duration, file_size, render, verdict

TRAIN = {"best/accuracy": 0.98, "best/epoch": 20, "epochs": 30, "seconds": 245.3, "samples_per_s": 900.0}
EVALUATE = {
    "test/accuracy": 0.97,
    "test/accuracy_low": 0.95,
    "test/accuracy_high": 0.99,
    "test/macro_f1": 0.9,
    "baseline/accuracy": 0.96,
    "baseline/accuracy_low": 0.94,
    "baseline/accuracy_high": 0.98,
    "test/accuracy_minus_baseline": 0.01,
    "test/accuracy_minus_baseline_low": -0.01,
    "test/accuracy_minus_baseline_high": 0.03,
}
EXPORT = {"size_bytes": 290_000, "latency_p50_ms": 0.213, "latency_p95_ms": 0.3, "parity_max_difference": 1e-6}


def write(root: Path, recipe: str, **reports: Any) -> None:
    folder = root / "reports" / recipe
    folder.mkdir(parents=True)
    for stage, values in reports.items():
        (folder / f"{stage}.json").write_text(json.dumps(values))


def shown(root: Path, width: int = 80, known: tuple[str, ...] | None = None) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(render(root, known))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_finished_recipe_is_shown_whole_within_eighty_columns(tmp_path: Path) -> None:
    write(tmp_path, "cnn", train=TRAIN, evaluate=EVALUATE, export=EXPORT)
    text = shown(tmp_path)
    for part in ("cnn", "accuracy", "0.970", "0.950-0.990", "0.960", "0.940-0.980", "4:05 min", "30 epochs", "290 kB"):
        assert part in text
    assert "0.21 ms" in text
    assert "unclear" in text
    assert "…" not in text


def test_a_long_name_goes_on_below_after_a_hyphen(tmp_path: Path) -> None:
    write(tmp_path, "handwritten-digits-8x8-two_epochs", train=TRAIN, evaluate=EVALUATE, export=EXPORT)
    starts = [line.split()[0] for line in shown(tmp_path).splitlines() if line.strip()]
    assert starts[2:6] == ["handwritten-", "digits-8x8-two_", "epochs", "accuracy"]
    assert "handwritten-digits-8x8-two_epochs" in shown(tmp_path, width=120)


def test_a_long_name_takes_no_digit_from_the_numbers(tmp_path: Path) -> None:
    series = {name.replace("accuracy", "mse"): value for name, value in EVALUATE.items()}
    train = {"best/mse": 0.1, "epochs": 30, "seconds": 245.3}
    write(tmp_path, "electricity_of_all_quarters", train=train, evaluate=series, export=EXPORT)
    text = shown(tmp_path)
    for part in ("0.950-0.990", "0.940-0.980", "4:05 min", "30 epochs", "290 kB", "0.21 ms", "MSE, lower wins"):
        assert part in text
    assert "…" not in text


def test_stages_that_did_not_run_yet_show_a_dash(tmp_path: Path) -> None:
    write(tmp_path, "cnn", train=TRAIN)
    write(tmp_path, "lstm", evaluate={"test/accuracy": 0.5, "test/macro_f1": 0.4, "test/macro_f1_minus_baseline": 0.1})
    row, lstm = (next(line for line in shown(tmp_path).splitlines() if name in line) for name in ("cnn", "lstm"))
    assert row.split() == ["cnn", "-", "-", "-", "4:05", "min", "-", "-"]
    # The primary metric is the one that was compared with the baseline.
    assert lstm.split()[1] == "0.400"


def test_recipes_that_are_no_more_are_said_to_be(tmp_path: Path) -> None:
    for name in ("cnn", "cats", "dogs"):
        write(tmp_path, name, train={**TRAIN, "epochs": 1})
    text = shown(tmp_path, known=("cnn", "cats"))
    assert "not in params.yaml any more: dogs; delete reports/dogs to leave them out" in text
    assert " 1 epoch " in text
    assert "not in params.yaml" not in shown(tmp_path, known=("cnn", "cats", "dogs")) + shown(tmp_path)


def test_summary_says_where_to_look_next(tmp_path: Path) -> None:
    write(tmp_path, "cnn", train=TRAIN)
    for command in (
        "make ui",
        "dvc dag",
        "dvc metrics show",
        "reports/<recipe>/figures",
        "models/<recipe>/card.html",
        "trainyard predict",
    ):
        assert command in shown(tmp_path)


def test_summary_before_any_training_says_how_to_begin(tmp_path: Path) -> None:
    (tmp_path / "reports" / "empty").mkdir(parents=True)
    assert "run `make run`" in shown(tmp_path, width=300)


@pytest.mark.parametrize(
    ("low", "high", "winner"),
    [(0.01, 0.2, "model"), (-0.2, -0.01, "baseline"), (-0.1, 0.1, "unclear"), (0, 0, "unclear")],
)
def test_winner_is_named_only_if_the_interval_leaves_nothing_out(low: float, high: float, winner: str) -> None:
    scores = {"test/dice_minus_baseline_low": low, "test/dice_minus_baseline_high": high}
    assert verdict(scores, "dice").plain == winner


@pytest.mark.parametrize("content", ["{", "[1]", '{"seconds": null}', '{"seconds": "long"}'])
def test_broken_report_is_named(tmp_path: Path, content: str) -> None:
    write(tmp_path, "cnn")
    (tmp_path / "reports" / "cnn" / "train.json").write_text(content)
    with pytest.raises(IntegrityError, match=r"train.json: .*run `dvc repro` to make it again"):
        render(tmp_path)


@pytest.mark.parametrize(("seconds", "text"), [(8.61, "8.6 s"), (59.97, "1:00 min"), (245.3, "4:05 min"), (7800, "2:10 h")])
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("size", "text"), [(512, "512 B"), (290_000, "290 kB"), (999_600, "1.0 MB"), (4.2e6, "4.2 MB")])
def test_file_sizes_are_readable(size: float, text: str) -> None:
    assert file_size(size) == text


def test_summary_loads_without_torch_and_matplotlib() -> None:
    heavy = ("torch", "matplotlib", "sklearn")
    code = f"import sys, trainyard.evaluation.summary; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_of_errors_the_lower_one_is_better() -> None:
    def of(low: float, high: float, primary: str) -> str:
        return verdict(
            {f"test/{primary}_minus_baseline_{end}": value for end, value in (("low", low), ("high", high))}, primary
        ).plain

    assert [of(-2, -1, "mse"), of(1, 2, "mse"), of(-1, 1, "mse")] == ["model", "baseline", "unclear"]
    assert [of(-2, -1, "accuracy"), of(1, 2, "accuracy")] == ["baseline", "model"]
