from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trainyard.errors import InputError, IntegrityError, Interrupted, MachineError, ServiceError, TrainyardError
from trainyard.jobs.driver import Driver, stage_error
from trainyard.jobs.results import from_log, merge
from trainyard.jobs.spec import VARIABLE, JobSpec


@pytest.fixture
def quick(small: Path) -> Path:
    """The project with stages that need no data and are over at once."""
    (small / "raw.dvc").unlink()
    (small / "dvc.yaml").write_text((small / "dvc.yaml").read_text().replace(", raw]", "]"))
    (small / "code" / "make.py").write_text(
        "import os\nfrom pathlib import Path\nprint('the key is', os.environ.get('STORE_KEY'))\n"
        "Path('made.txt').write_text('made')\nPath('report.json').write_text('{}')\n"
    )
    return small


def test_a_spec_goes_through_the_environment(spec: JobSpec) -> None:
    assert JobSpec.from_environment({VARIABLE: spec.to_json()}) == spec
    assert spec.id == "trainyard-0123456789abcdef-1"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("2", InputError),
        ("3", MachineError),
        ("4", ServiceError),
        ("5", IntegrityError),
        ("75", Interrupted),
        ("1", TrainyardError),
        ("130", Interrupted),
        ("-2", Interrupted),
    ],
)
def test_the_stage_s_own_exit_code_and_headline_are_found(code: str, error: type[TrainyardError]) -> None:
    said = [
        "cnn · train · ERROR: no room; make some",
        f"ERROR: failed to reproduce 'train@cnn': failed to run: python train.py, exited with {code}",
    ]
    found = stage_error(255, said)
    assert type(found) is error
    assert str(found) == "no room; make some"


@pytest.mark.parametrize("code", ["-9", "-15", "137", "143"])
def test_a_killed_stage_can_be_continued(code: str) -> None:
    found = stage_error(255, [f"ERROR: failed to reproduce 'a': failed to run: b, exited with {code}"])
    assert isinstance(found, Interrupted)
    assert "was killed" in str(found)


def test_what_dvc_refuses_is_said_in_its_words() -> None:
    found = stage_error(255, ["ERROR: missing data 'source': raw"])
    assert (found.exit_code, str(found)) == (1, "missing data 'source': raw")


def test_a_job_makes_its_targets_and_hands_them_over(
    quick: Path, spec: JobSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STORE_KEY", "CANARY-9")
    place = tmp_path / "place"
    driver = Driver(dataclasses.replace(spec, masked=("STORE_KEY",)), quick, place)
    driver.run()
    log = capfd.readouterr().out
    assert "the key is ***" in log and "CANARY" not in log
    results = from_log(log)
    assert sorted(results.stages) == ["make", "tell"]
    assert results.files == {"report.json": b"{}"}
    pushed = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert len(pushed) == 1 and pushed[0].read_text() == "made"
    assert not driver.work.exists() and (place / "cache").is_dir()
    assert place.stat().st_mode & 0o077 == 0


def test_a_job_with_a_shared_folder_takes_and_leaves_its_files_there(
    quick: Path, spec: JobSpec, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (quick / "raw").write_text("data\n")
    (quick / "dvc.yaml").write_text((quick / "dvc.yaml").read_text().replace("make.py]", "make.py, raw]"))
    subprocess.run([sys.executable, "-m", "dvc", "add", "-q", "raw"], cwd=quick, check=True)
    submitted = tmp_path / "submitted"
    shutil.copytree(quick, submitted, ignore=shutil.ignore_patterns("raw", "cache", "tmp", ".git"))
    Driver(dataclasses.replace(spec, remote=None, shared=str(quick), data=("raw",)), submitted, tmp_path / "place").run()
    merge(quick, from_log(capfd.readouterr().out))
    subprocess.run([sys.executable, "-m", "dvc", "checkout", "-q", "-d", "tell"], cwd=quick, check=True)
    assert (quick / "told.txt").read_text() == "made"
    status = subprocess.run([sys.executable, "-m", "dvc", "status"], cwd=quick, check=True, capture_output=True, text=True)
    assert "up to date" in status.stdout


def test_a_job_takes_files_that_no_stage_lists(quick: Path, spec: JobSpec, tmp_path: Path) -> None:
    (quick / "words.vec").write_text("cat 1 2\n")
    make = quick / "code" / "make.py"
    make.write_text(f"{make.read_text()}Path('made.txt').write_text(Path('words.vec').read_text().upper())\n")
    for arguments in (("add", "-q", "words.vec"), ("push", "-q", "words.vec.dvc")):
        subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=quick, check=True)
    (quick / "words.vec").unlink()
    Driver(dataclasses.replace(spec, data=("words.vec",)), quick, tmp_path / "place").run()
    assert "CAT 1 2\n" in [path.read_text() for path in (tmp_path / "place" / "cache").rglob("*") if path.is_file()]


def test_a_remote_out_of_reach_is_met_before_anything_runs(quick: Path, spec: JobSpec, tmp_path: Path) -> None:
    os.rename(tmp_path / "store", tmp_path / "gone")
    with pytest.raises(
        ServiceError, match=r"remote 'store': cannot be written to from the cluster .no folder .*store"
    ) as error:
        Driver(spec, quick, tmp_path / "place").run()
    assert "--shared PATH" in str(error.value)


def test_data_that_the_remote_does_not_have_are_named(quick: Path, spec: JobSpec, tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="remote 'store': does not have raw; `dvc push` them"):
        (quick / "raw").unlink()
        Driver(dataclasses.replace(spec, data=("raw",)), quick, tmp_path / "place").run()


def test_a_failed_attempt_keeps_what_it_finished_for_the_next(
    quick: Path, spec: JobSpec, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = (quick / "dvc.yaml").read_text()
    (quick / "dvc.yaml").write_text(
        text.replace("cat made.txt > told.txt", f"test -e {tmp_path}/open && cat made.txt > told.txt")
    )
    with (quick / "code" / "make.py").open("a") as file:
        file.write(f"with open({str(tmp_path / 'runs')!r}, 'a') as runs:\n    runs.write('x')\n")
    driver = Driver(spec, quick, tmp_path / "place")
    with pytest.raises(TrainyardError, match=r"failed to reproduce 'tell'|exited with 1"):
        driver.run()
    (tmp_path / "open").touch()
    # As a kill in the midst of DVC's writing leaves it.
    lock = driver.work / "dvc.lock"
    lock.write_bytes(lock.read_bytes()[:-40])
    driver.run()
    assert "dvc.lock: was damaged" in capfd.readouterr().out
    assert (tmp_path / "runs").read_text() == "x"
