from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from trainyard.origin.page import render_answer
from trainyard.origin.which import Answer


def shown(**known: Any) -> str:
    console = Console(width=100, file=io.StringIO())
    console.print(render_answer(Answer(path="f", how="as dvc.lock records it", md5="0" * 32, **known)))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_stage_that_belongs_to_no_recipe_is_called_as_in_dvc_yaml() -> None:
    assert "fetch: as dvc.lock" in shown(stage="fetch")
    assert "train@cnn: as dvc.lock" in shown(stage="train", recipe="cnn")


def test_a_path_with_brackets_is_shown_whole() -> None:
    packed = {"packed": "data/prepared/cnn", "md5": "0" * 32, "raw": "data/raw/[old]/cats", "raw_md5": "1" * 32}
    assert "from data/raw/[old]/cats, md5 1111" in shown(data=packed)


def test_only_a_run_with_a_commit_is_said_to_be_made_again() -> None:
    run = {"run_id": "7", "name": "cnn-seed0", "status": "FINISHED", "exit": "", "store": "sqlite:///mlflow.db"}
    there = shown(run=run, code={"commit": "abc", "patch": "none"})
    assert "FINISHED" in there and "()" not in there and "trainyard reproduce 7" in there
    assert "reproduce" not in shown(run=run, code={"commit": "", "patch": "none"})
