from __future__ import annotations

import ast
import inspect
from typing import Any

import pytest
import torch

from trainyard.training import workers

ASK_ALL = ("all_gather_object", "broadcast_object_list", "all_reduce", "barrier")


def test_a_worker_takes_its_device_before_it_sends_for_the_first_time(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []

    def gather(found: list[Any], own: Any) -> None:
        happened.append("gather")
        found[:] = [own, "no room"]

    monkeypatch.setattr(torch.cuda, "set_device", lambda device: happened.append(f"take {device}"))
    for name in ASK_ALL:
        monkeypatch.setattr(torch.distributed, name, gather if name == "all_gather_object" else pytest.fail)
    assert workers.meet(torch.device("cuda", 1), "", 2) == "no room"
    assert happened == ["take cuda:1", "gather"]


def test_a_worker_on_processors_takes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "set_device", pytest.fail)
    assert workers.meet(torch.device("cpu"), "other versions", 1) == "other versions"


def test_nothing_that_a_worker_does_with_the_others_comes_before_they_meet() -> None:
    tree = ast.parse(inspect.getsource(workers._work))
    calls = sorted(
        (node.lineno, node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name)
    )
    names = [name for _, name in calls]
    assert names.index("meet") < min(names.index("ready"), names.index("fit"))
    assert not set(ASK_ALL) & set(names)
