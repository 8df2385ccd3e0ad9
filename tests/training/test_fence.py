from __future__ import annotations

from pathlib import Path

import pytest

from trainyard.errors import Interrupted
from trainyard.training.fence import ATTEMPT, FILE, Fence


def test_an_attempt_that_was_followed_by_another_stops(tmp_path: Path) -> None:
    earlier, later = Fence(tmp_path, 5), Fence(tmp_path, 6)
    earlier.claim()
    earlier.check()
    later.claim()
    later.check()
    with pytest.raises(Interrupted, match="attempt 5 was given up for lost, and attempt 6 has taken over"):
        earlier.check()


def test_an_earlier_attempt_that_starts_late_takes_nothing_back(tmp_path: Path) -> None:
    Fence(tmp_path, 6).claim()
    with pytest.raises(Interrupted):
        Fence(tmp_path, 5).claim()
    Fence(tmp_path, 6).check()


def test_a_torn_claim_holds_nobody_back(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"attem')
    Fence(tmp_path, 1).claim()
    Fence(tmp_path, 1).check()


def test_a_process_on_its_own_claims_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ATTEMPT, raising=False)
    Fence.of_this_process(tmp_path).claim()
    assert not (tmp_path / FILE).exists()
    monkeypatch.setenv(ATTEMPT, "7")
    Fence.of_this_process(tmp_path).claim()
    assert (tmp_path / FILE).exists()
