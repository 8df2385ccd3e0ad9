"""The end of a journal whose stage was killed: what the training recorded after it, and a status that is true."""

from __future__ import annotations

from pathlib import Path

from trainyard.tracking.journal import Journal
from trainyard.tracking.records import Passed, points_of
from trainyard.training.spool import Reader


def settle(journal: Journal) -> None:
    """Complete the journal of a stage that is gone; one that said its end is as it was left.

    Raises:
        OSError: the disk is full.
    """
    entries = list(journal.entries())
    if any(entry.kind == "end" for entry in entries):
        return
    last = max((entry.at for entry in entries), default=None)
    statuses = [entry for entry in entries if entry.kind == "status"]
    if statuses and statuses[-1].values["status"] == "RUNNING":
        # The workers wrote on for a moment after the driver was gone.
        spool, passed = Path(statuses[-1].values["spool"]), Passed()
        for record in Reader(spool).read():
            if passed.is_new(record):
                journal.append("metrics", {"points": points_of(record), "once": True})
        tags = {
            "exit.state": "killed",
            "exit.reason": "ended without a word: SIGKILL, no memory left, or no power",
            "exit.code": "",
        }
        journal.append("status", {"status": "KILLED", "tags": tags}, at=last)
    journal.append("end", {}, at=last)
