from __future__ import annotations

from pathlib import Path

import pytest

from trainyard.errors import InputError, IntegrityError, ServiceError
from trainyard.jobs import results as handing
from trainyard.jobs.results import Results, collect, from_log, merge, read_lock, to_lines

MADE = {"cmd": "python code/make.py", "outs": [{"path": "made.txt", "hash": "md5", "md5": "ab" * 16, "size": 4}]}
OLD = {"cmd": "python code/make.py", "outs": [{"path": "made.txt", "hash": "md5", "md5": "cd" * 16, "size": 4}]}
OTHER = {"cmd": "other", "outs": [{"path": "other.txt", "hash": "md5", "md5": "ef" * 16, "size": 1}]}


def write_lock(root: Path, **stages: object) -> None:
    from dvc.utils.serialize import dumps_yaml

    (root / "dvc.lock").write_text(dumps_yaml({"schema": "2.0", "stages": stages}))


def test_results_come_through_a_log_whole(tmp_path: Path) -> None:
    work, submitted = tmp_path / "work", tmp_path / "submitted"
    (work / "tables").mkdir(parents=True)
    submitted.mkdir()
    write_lock(work, make=MADE, other=OTHER)
    write_lock(submitted, make=OLD)
    (work / "report.json").write_bytes(bytes(range(256)) * 20)
    (work / "tables" / "one.csv").write_text("a,b\n")
    lines = list(to_lines(collect(work, submitted, ["make", "never-run"], ["report.json", "tables", "none.json"])))
    assert max(map(len, lines)) < 500
    log = "\n".join(["epoch 1", *lines[:1], *lines[1:], "12 files pushed", ""])
    got = from_log(log)
    assert got.stages == {"make": MADE}
    assert got.base == {"make": OLD}
    assert got.files == {"report.json": bytes(range(256)) * 20, "tables/one.csv": b"a,b\n"}


@pytest.mark.parametrize("keep", [slice(0, 0), slice(0, 1), slice(1, None)])
def test_a_cut_log_gives_no_half_results(keep: slice) -> None:
    lines = list(to_lines(Results(stages={"make": MADE}, base={}, files={"a": bytes(range(256)) * 9})))
    with pytest.raises(ServiceError, match=r"its log is gone or cut.*--again"):
        from_log("\n".join(lines[keep]))


def test_outputs_too_large_for_a_log_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handing, "MAX_BYTES", 10)
    with pytest.raises(InputError, match=r"big.json and other outputs with `cache: false` are too large"):
        list(to_lines(Results(stages={}, base={}, files={"big.json": b"abc", "a": b""})))


def test_entries_and_files_are_merged_and_the_rest_is_left_alone(small: Path) -> None:
    write_lock(small, other=OTHER, make=OLD)
    assert merge(small, Results(stages={"make": MADE}, base={"make": OLD}, files={"report.json": b"{}"})) == ["make"]
    assert read_lock(small / "dvc.lock") == {"other": OTHER, "make": MADE}
    assert list(read_lock(small / "dvc.lock")) == ["other", "make"]
    assert (small / "report.json").read_bytes() == b"{}"
    before = (small / "dvc.lock").stat().st_mtime_ns
    assert merge(small, Results(stages={"make": MADE}, base={"make": OLD}, files={"report.json": b"{}"})) == []
    assert (small / "dvc.lock").stat().st_mtime_ns == before


def test_a_first_result_makes_a_lock_that_dvc_reads(small: Path) -> None:
    from dvc.repo import Repo

    merge(small, Results(stages={"make": MADE}, base={}, files={}))
    with Repo(str(small)) as repo:
        out = next(out for stage in repo.index.stages if stage.addressing.endswith("make") for out in stage.outs)
        assert out.hash_info.value == "ab" * 16


def test_a_stage_run_here_meanwhile_keeps_its_outcome(small: Path) -> None:
    write_lock(small, make=OTHER)
    with pytest.raises(InputError, match=r"dvc\.lock: make was run here since the job was sent.*git checkout dvc\.lock"):
        merge(small, Results(stages={"make": MADE}, base={"make": OLD}, files={"report.json": b"{}"}))
    assert read_lock(small / "dvc.lock") == {"make": OTHER}
    assert not (small / "report.json").exists()


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "a/../../outside"])
def test_a_file_outside_the_project_is_refused(small: Path, name: str) -> None:
    with pytest.raises(IntegrityError, match="would write outside the project; nothing was changed"):
        merge(small, Results(stages={"make": MADE}, base={}, files={name: b""}))
    assert not (small / "dvc.lock").exists()


def test_a_torn_lock_is_named(small: Path) -> None:
    (small / "dvc.lock").write_text("schema: '2.0'\nstages:\n  make: {cmd\n")
    with pytest.raises(InputError, match=r"is no whole dvc.lock"):
        merge(small, Results(stages={"make": MADE}, base={}, files={}))
