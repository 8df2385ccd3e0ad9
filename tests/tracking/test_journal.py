from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest

from tests.tracking.journals import begin, opening, whole
from trainyard.tracking import journal as journal_module
from trainyard.tracking.journal import Journal, State, journals, spool_folder, sweep


def test_a_journal_is_its_owners_until_he_is_gone(tmp_path: Path) -> None:
    journal = begin(tmp_path, opening("sqlite:///x"))
    assert Journal.adopt(journal.folder) is None
    journal.release()
    heir = Journal.adopt(journal.folder)
    assert heir is not None
    assert Journal.adopt(journal.folder) is None


def test_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    journal = begin(tmp_path, opening("sqlite:///x"))
    with journal.path.open("a") as file:
        file.write('{"kind": "tags", "at"')
    assert [entry.kind for entry in journal.entries()] == ["open", "status"]
    journal.append("tags", {"a": "b"})
    assert [entry.kind for entry in journal.entries()] == ["open", "status", "tags"]


def test_entries_begin_where_the_last_ended(tmp_path: Path) -> None:
    journal = whole(tmp_path, opening("sqlite:///x"))
    entries = list(journal.entries())
    for entry, following in pairwise(entries):
        assert next(journal.entries(entry.stop)) == following


def test_a_journal_is_complete_when_all_of_it_was_sent_and_it_said_its_end(tmp_path: Path) -> None:
    journal = begin(tmp_path, opening("sqlite:///x"))
    journal.save_state(State(sent=journal.path.stat().st_size))
    assert not journal.complete()
    journal.append("end", {})
    assert journal.ended()
    assert not journal.complete()
    journal.save_state(State(sent=journal.path.stat().st_size))
    assert journal.complete()


def test_a_torn_state_counts_as_nothing_sent(tmp_path: Path) -> None:
    journal = begin(tmp_path, opening("sqlite:///x"))
    (journal.folder / "state.json").write_text('{"sent": 12')
    assert journal.load_state() == State()


def test_large_files_are_linked_and_small_ones_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = begin(tmp_path, opening("sqlite:///x"))
    monkeypatch.setattr(journal_module, "COPIED_BYTES", 10)
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"x" * 10)
    large.write_bytes(b"x" * 11)
    kept_small, kept_large = (journal.folder / journal.add_file(path) for path in (small, large))
    assert (kept_small.name, kept_large.name) == ("small", "large")
    assert not os.path.samefile(kept_small, small)
    assert os.path.samefile(kept_large, large)


def test_what_was_killed_before_it_had_begun_is_swept(tmp_path: Path) -> None:
    journal = begin(tmp_path, opening("sqlite:///x"))
    left = spool_folder(tmp_path) / ".new-0"
    left.mkdir()
    (left / "owner.lock").touch()
    sweep(tmp_path)
    assert not left.exists()
    assert journals(tmp_path) == [journal.folder]
