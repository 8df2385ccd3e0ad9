from __future__ import annotations

from pathlib import Path

from trainyard.training.spool import Reader, Record, append


def record(step: int) -> Record:
    return Record(kind="progress", epoch=0, step=step, seconds=1.0, left_seconds=1.0, values={"train/step_loss": 0.5})


def test_each_record_is_read_once(tmp_path: Path) -> None:
    reader = Reader(tmp_path / "spool.jsonl")
    assert list(reader.read()) == []
    append(reader.path, record(1))
    append(reader.path, record(2))
    assert list(reader.read()) == [record(1), record(2)]
    append(reader.path, record(3))
    assert list(reader.read()) == [record(3)]


def test_a_line_that_is_being_written_waits_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "spool.jsonl"
    append(path, record(1))
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    reader = Reader(path)
    assert list(reader.read()) == []
    path.write_bytes(whole)
    assert list(reader.read()) == [record(1)]


def test_the_torn_line_of_a_killed_attempt_costs_no_other_record(tmp_path: Path) -> None:
    path = tmp_path / "spool.jsonl"
    append(path, record(1))
    append(path, record(2))
    path.write_bytes(path.read_bytes()[:-5])
    append(path, record(3))
    assert list(Reader(path).read()) == [record(1), record(3)]
