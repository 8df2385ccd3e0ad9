"""What `trainyard compare` shows on a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.comparing.contenders import contender, pattern
from tests.narrow import narrow
from trainyard.comparing.compare import Comparison, render
from trainyard.comparing.paired import held_against_first

NAMES = ("satellite-land-use-2024", "cells-in-phase-contrast", "runs-27af7c81f0c44b6aa2dd0c6a01f8e1b2")


@pytest.mark.parametrize("names", [NAMES, NAMES[:2]], ids=len)
def test_no_name_or_number_is_broken_however_long_the_names_are(tmp_path: Path, names: tuple[str, ...]) -> None:
    models = tuple(
        contender(tmp_path, name, pattern((True, 80 + place), (False, 20 - place))) for place, name in enumerate(names)
    )
    findings = held_against_first(models, 100)
    lines = narrow(render(Comparison(contenders=models, findings=findings, path=Path("comparison.html"))), *names)
    assert not any("…" in line for line in lines)
    reached = findings.scores[names[1]]["accuracy"]
    apart = findings.pairs[names[1]].differences[0].difference
    interval = f"{apart.low:+.4f} to {apart.high:+.4f}"
    assert any(interval in line for line in lines) and any(f"{reached.value:.4f}" in line for line in lines)
