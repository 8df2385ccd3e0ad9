"""What `trainyard doctor` shows of a cluster's nodes."""

from __future__ import annotations

import pytest
from rich.console import Console

from trainyard.doctor.nodes import COLUMNS, Nodes, table
from trainyard.training.elastic import Node
from trainyard.training.node_facts import Facts, Question
from trainyard.training.preflight import GIB, Answer
from trainyard.training.versions import CODE

HERE = {"python": "3.11.7", "torch": "2.13.0", "ray": "2.60.0", CODE: "41e3c60951f5"}


@pytest.fixture
def nodes() -> Nodes:
    facts = Facts(
        host="gpu-1.example",
        versions=HERE,
        data={"cnn": "same"},
        storage="",
        tracking="",
        memory=(GIB, 2 * GIB),
        disk=(48 * GIB, 90 * GIB),
        shared_memory=(GIB, GIB),
        gpus=(("H200", 139 * GIB, 141 * GIB),),
        interface="eth0",
        address="10.0.0.7",
        chosen="",
    )
    node = Node("0" * 56, "gpu-1.example", "10.0.0.7", 16.0, 1.0)
    told = Answer(node=node, facts=facts, problem="", free_processors=12.0, free_gpus=1.0, clock=(0.01, 0.02))
    silent = Answer(node=node, facts=None, problem="did not answer", free_processors=0.0, free_gpus=0.0, clock=None)
    return Nodes(asked=Question(head="10.0.0.1"), answers=(told, silent), findings=[], here=HERE)


@pytest.mark.parametrize("width", [80, 200])
def test_no_word_of_a_node_is_broken_however_narrow_the_terminal(nodes: Nodes, width: int) -> None:
    console = Console(width=width)
    with console.capture() as shown:
        console.print(table(nodes))
    text = shown.get()
    said = [
        "gpu-1.example",
        "3.11.7, 2.13.0, 2.60.0, 41e3c60951f5",
        "the same",
        "12 of 16",
        "139.0 GiB of 141",
        "eth0 10.0.0.7",
    ]
    for words in (*COLUMNS, *said, "+0.01 ± 0.02 s", "did not answer"):
        assert words in text
    assert max(map(len, text.splitlines())) <= width
    # A line for a node where there is room, and otherwise one for each fact.
    assert len(text.splitlines()) < 10 if width == 200 else len(text.splitlines()) > 10
