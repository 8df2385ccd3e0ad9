from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from trainyard.dvc_stages import needed
from trainyard.errors import InputError, IntegrityError
from trainyard.plan.steps import steps

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

BETWEEN = """\
  words:
    cmd: cp letters words
    deps: [letters]
    outs: [words]
  train:
    foreach: {cnn: words, unet: other}
    do:
      cmd: cat ${item} prepared-${key} > model-${key}
      deps: ["${item}", "prepared-${key}"]
      outs: ["model-${key}"]
"""
"""A stage that somebody added, whose result one recipe trains on."""


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


def test_a_stage_that_somebody_added_in_between_runs_only_what_is_behind_it_and_the_project_is_opened_once(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvc.repo import Repo

    (project / "dvc.yaml").write_text(f"{PIPELINE}{BETWEEN}")
    (project / "letters").write_text("one")
    Repo().reproduce()
    (project / "letters").write_text("changed")
    opened = []
    begin = Repo.__init__

    def count(repo: Repo, *arguments: Any, **options: Any) -> None:
        opened.append(arguments)
        begin(repo, *arguments, **options)

    monkeypatch.setattr(Repo, "__init__", count)
    found = {step.name: step for step in steps(project, ["cnn", "unet"], ["train"])}
    assert [name for name, step in found.items() if step.runs] == ["train@cnn"]
    assert found["train@cnn"].reasons == ("words runs before it",)
    assert len(opened) == 1


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


def test_what_dvc_did_not_expect_is_said_and_not_its_offer_of_help(project: Path) -> None:
    shutil.rmtree(project / ".dvc" / "tmp", ignore_errors=True)
    (project / ".dvc" / "tmp").write_text("in the way")
    with pytest.raises(InputError, match=r"unexpected error - .*File exists: '.*tmp'; mend that"):
        steps(project, ["cnn"], ["prepare"])
