from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluation.comparing import ABOUT, about, write_labels
from trainyard.data.packed import file_sha256
from trainyard.errors import InputError, IntegrityError
from trainyard.evaluation.champion import promote, read_champion
from trainyard.evaluation.gate import Verdict, judge, write_verdict
from trainyard.evaluation.gate_config import GateConfig

BETTER, EQUAL, WORSE = (0.02, 0.01, 0.03), (0.0, -0.01, 0.01), (-0.05, -0.07, -0.03)


def metrics(
    value: float = 0.9, difference: tuple[float, float, float] | None = None, primary: str = "accuracy"
) -> dict[str, Any]:
    found: dict[str, Any] = {
        f"test/{primary}": value,
        f"test/{primary}_low": value - 0.01,
        f"test/{primary}_high": value + 0.01,
    }
    if difference is not None:
        found[f"baseline/{primary}"] = value - difference[0]
        found |= dict(zip((f"test/{primary}_minus_baseline{end}" for end in ("", "_low", "_high")), difference, strict=True))
    return found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose recipe cnn is right on 900 of 1,000 samples and passed the gate."""
    trained(tmp_path, np.arange(1000) >= 100, "cnn-1")
    return tmp_path


def trained(root: Path, right: np.ndarray, fingerprint: str, **config: Any) -> Verdict:
    """Write what stages train, evaluate and gate leave behind."""
    reports, models = root / "reports" / "cnn", root / "models" / "cnn"
    for folder in (reports, models):
        folder.mkdir(parents=True, exist_ok=True)
    write_labels(reports / "predictions.parquet", right, about("cnn", fingerprint))
    found = metrics(float(right.mean()), EQUAL)
    (reports / "evaluate.json").write_text(json.dumps(found))
    (models / "recipe.json").write_text(json.dumps({"fingerprint": fingerprint, "weights_sha256": "w"}))
    verdict = judge(GateConfig(**config), found, reports / "predictions.parquet", root / "champions" / "cnn")
    (models / "admitted.json").unlink(missing_ok=True)
    write_verdict(reports / "gate.json", models / "admitted.json", verdict)
    return verdict


def asked(config: GateConfig, found: dict[str, Any], project: Path) -> Verdict:
    return judge(config, found, project / "reports" / "cnn" / "predictions.parquet", project / "champions" / "cnn")


@pytest.mark.parametrize(("difference", "passed"), [(BETTER, True), (EQUAL, True), (WORSE, False)])
def test_a_model_passes_that_is_not_surely_worse_than_its_baseline(
    project: Path, difference: tuple[float, float, float], passed: bool
) -> None:
    verdict = asked(GateConfig(), metrics(0.9, difference), project)
    assert verdict.passed is passed
    assert asked(GateConfig(baseline=False), metrics(0.9, difference), project).passed
    if not passed:
        assert verdict.failures() == [
            "worse than the baseline (accuracy 0.9000, baseline 0.9500; difference -0.0500, -0.0700 to -0.0300)"
        ]


@pytest.mark.parametrize(("value", "passed"), [(0.8, False), (0.9, True), (0.95, True)])
def test_a_model_below_the_stated_minimum_does_not_pass(project: Path, value: float, passed: bool) -> None:
    verdict = asked(GateConfig(minimum=0.9), metrics(value), project)
    assert verdict.passed is passed
    assert passed or verdict.failures() == ["accuracy 0.8000, gate.minimum asks for at least 0.9"]


def test_of_an_error_the_minimum_is_the_most_it_may_be(tmp_path: Path) -> None:
    from trainyard.data.packed import Split
    from trainyard.evaluation.results import write_results

    series = replace(ABOUT, kind="forecasting", primary="mse", classes=("load",))
    test = Split("forecasting", "test", {"starts": np.arange(4)})
    write_results(tmp_path / "r.parquet", series, test, {"mse": np.ones(4), "mae": np.ones(4)})
    high, low = (
        judge(GateConfig(minimum=0.5), metrics(value, WORSE, "mse"), tmp_path / "r.parquet", tmp_path) for value in (0.6, 0.4)
    )
    assert high.failures() == ["mse 0.6000, gate.minimum asks for at most 0.5"]
    # An error that is lower than the baseline's by so much is better, not worse.
    assert low.passed and "better than the baseline" in low.tags()["gate.baseline"]


def test_without_baseline_or_champion_there_is_nothing_to_fail(project: Path) -> None:
    verdict = asked(GateConfig(), metrics(), project)
    assert verdict.passed
    assert verdict.tags() == {
        "gate": "passed",
        "gate.minimum": "not asked",
        "gate.baseline": "not asked: no baseline was evaluated (evaluate.baseline: false)",
        "gate.champion": "not asked: there is none yet to hold it against",
    }


def test_a_model_that_is_surely_worse_than_the_champion_does_not_pass(project: Path) -> None:
    promote(project, "cnn", "abc", force=False)
    slightly = trained(project, np.arange(1000) >= 101, "cnn-2")
    assert slightly.passed, slightly.failures()
    worse = trained(project, np.arange(1000) >= 150, "cnn-3")
    assert not worse.passed
    assert worse.failures()[0].startswith("worse than the champion (accuracy 0.8500, champion 0.9000; difference -0.0500, ")
    assert not (project / "models" / "cnn" / "admitted.json").exists()
    assert trained(project, np.arange(1000) >= 150, "cnn-3", champion=False).passed


def test_the_champion_itself_passes(project: Path) -> None:
    promote(project, "cnn", "abc", force=False)
    assert trained(project, np.arange(1000) >= 100, "cnn-1").tags()["gate.champion"] == "passed: this model is the champion"


def test_a_champion_of_other_test_data_is_said_to_be_out_of_comparison(project: Path) -> None:
    promote(project, "cnn", "abc", force=False)
    path = project / "reports" / "cnn" / "predictions.parquet"
    write_labels(path, np.zeros(1000, dtype=bool), replace(about("cnn", "cnn-2"), test_sha256="1" * 64))
    verdict = asked(GateConfig(), metrics(0.0), project)
    assert verdict.passed
    assert verdict.tags()["gate.champion"] == "not asked: cnn-1 was tested on other samples and cannot be compared"


def test_a_warning_lets_the_model_pass_and_says_what_is_wrong(project: Path) -> None:
    (project / "models" / "cnn" / "admitted.json").unlink()
    verdict = trained(project, np.arange(1000) >= 100, "cnn-1", minimum=0.95, on_fail="warn")
    assert verdict.admitted and not verdict.passed and verdict.tags()["gate"] == "warned"
    assert (project / "models" / "cnn" / "admitted.json").is_file()
    assert json.loads((project / "reports" / "cnn" / "gate.json").read_text())["passed"] is False


def test_the_mark_of_admission_says_nothing_of_who_else_there_is(project: Path) -> None:
    path = project / "models" / "cnn" / "admitted.json"
    before = file_sha256(path)
    promote(project, "cnn", "abc", force=False)
    trained(project, np.arange(1000) >= 100, "cnn-1")
    assert file_sha256(path) == before


def test_a_model_that_did_not_pass_is_promoted_by_force_alone(project: Path) -> None:
    trained(project, np.arange(1000) >= 100, "cnn-1", minimum=0.95)
    with pytest.raises(InputError, match="cnn: did not pass the gate"):
        promote(project, "cnn", "abc", force=False)
    assert read_champion(project / "champions" / "cnn") is None
    assert promote(project, "cnn", "abc", force=True).value == pytest.approx(0.9)


def test_a_model_whose_evaluation_is_another_ones_is_not_promoted(project: Path) -> None:
    (project / "models" / "cnn" / "recipe.json").write_text(json.dumps({"fingerprint": "cnn-9", "weights_sha256": "w"}))
    with pytest.raises(InputError, match="its evaluation is of cnn-1, not of the model in"):
        promote(project, "cnn", "abc", force=False)


@pytest.mark.parametrize("damaged", ["champion.json", "results.parquet"])
def test_a_damaged_champion_is_refused(project: Path, damaged: str) -> None:
    promote(project, "cnn", "abc", force=False)
    path = project / "champions" / "cnn" / damaged
    path.write_bytes(path.read_bytes()[:-9] + b"elsewhere")
    with pytest.raises(IntegrityError, match="is no champion"):
        asked(GateConfig(), metrics(), project)
