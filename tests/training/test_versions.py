from __future__ import annotations

import torch

from trainyard.training.versions import CODE, difference, versions


def test_a_node_with_the_same_versions_is_accepted() -> None:
    assert versions()["torch"] == torch.__version__
    assert difference(versions(), versions(), "beta") == ""


def test_a_node_with_another_library_is_named_with_both_versions() -> None:
    there = {**versions(), "torch": "2.0.1"}
    assert difference(versions(), there, "beta") == (
        f"node beta has torch 2.0.1 (here: {torch.__version__}); "
        "install the same there as on this machine, then run the same command again"
    )


def test_a_node_with_other_code_is_named_though_its_libraries_are_the_same() -> None:
    assert CODE in difference(versions(), {**versions(), CODE: "0" * 12}, "beta")
