from __future__ import annotations

import logging
from pathlib import Path

import pytest

from trainyard.dvc_stages import needed
from trainyard.errors import InputError, IntegrityError
from trainyard.plan.commands import summary
from trainyard.plan.estimate import Estimate
from trainyard.plan.steps import Step, steps

PIPELINE = """\
stages:
  fetch:
    cmd: cp source raw
    deps: [source]
    outs: [raw]
  prepare:
    foreach: {cnn: raw, unet: other}
    do:
      cmd: cp ${item} prepared-${key}
      deps: ["${item}"]
      outs: ["prepared-${key}"]
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of DVC without git, in which a stage that somebody added makes the raw data of one recipe."""
    from dvc.repo import Repo

    for name, text in (("dvc.yaml", PIPELINE), ("source", "one"), ("other", "two")):
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    # Where another test has called dvc's own command, its handlers write to what that test had for a terminal.
    monkeypatch.setattr(logging.getLogger("dvc"), "handlers", [])
    Repo.init(no_scm=True)
    return tmp_path


def test_what_follows_from_a_stage_that_somebody_added_runs_when_it_does(project: Path) -> None:
    from dvc.repo import Repo

    Repo().reproduce()
    (project / "source").write_text("changed")
    cnn, unet = steps(project, ["cnn", "unet"], ["prepare"])
    assert (cnn.runs, cnn.reasons) == (True, ("fetch runs before it",))
    assert not unet.runs


def test_a_project_that_dvc_refuses_says_what_to_do(project: Path) -> None:
    assert needed(project, ["prepare@cnn"]) == ["fetch", "prepare@cnn"]
    with pytest.raises(InputError, match="`dvc stage list` shows the stages"):
        needed(project, ["prepare@lstm"])
    (project / ".dvc" / "config").write_text("")
    with pytest.raises(InputError, match=r"is not a git repository; .* do without it: dvc config core.no_scm true"):
        needed(project, [])
    (project / "dvc.lock").write_text("<<<<<<< HEAD\n")
    for look in (lambda: needed(project, []), lambda: steps(project, ["cnn"], [])):
        with pytest.raises(IntegrityError, match="git left a merge conflict in it; put it right: trainyard repair"):
            look()


def test_the_last_line_says_why_nothing_is_known_or_runs() -> None:
    gate = Step(stage="gate", recipe="cnn", runs=True, reasons=())
    restored = Step(stage="train", recipe="cnn", runs=False, restored=True, reasons=())

    def said(*hows: str) -> str:
        return summary([(gate, Estimate(seconds=None, bytes=None, how=how)) for how in hows])

    assert "nothing like them has run here yet" in said("has not run here yet")
    assert "dvc repro prepare" in said("has not run here yet", "needs its data first: dvc repro prepare@cnn")
    assert summary([(restored, None)]) == "Nothing runs: DVC's cache has the results of 1 stage."
    assert "what is here" in summary([(Step(stage="train", recipe="cnn", runs=False, reasons=()), None)])
