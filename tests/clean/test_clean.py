from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from tests.narrow import narrow
from tests.pipeline.conftest import TINY
from trainyard.clean.caches import referred
from trainyard.clean.clean import remove, things
from trainyard.clean.commands import table
from trainyard.clean.things import Thing
from trainyard.data.packed import read_card
from trainyard.errors import MachineError
from trainyard.evaluation.champion import Champion
from trainyard.fingerprint import fingerprint
from trainyard.recipe import read_recipe
from trainyard.tracking.journal import Journal
from trainyard.training.lease import Holder

OLD = 1_700_000_000
DAYS = 7.0


@pytest.fixture
def project(tmp_path: Path, packed_digits: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in a git repository, whose recipe cnn is prepared."""
    for name in ("DVC_ROOT", "TRAINYARD_DOWNLOADS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TRAINYARD_CACHE", str(tmp_path / "node"))
    folder = tmp_path / "project"
    (folder / "data" / "prepared").mkdir(parents=True)
    (folder / "data" / "prepared" / "cnn").symlink_to(packed_digits)
    (folder / ".dvc").mkdir()
    (folder / ".dvc" / "config").write_text("")
    (folder / "params.yaml").write_text(TINY)
    (folder / ".gitignore").write_text(".trainyard/\n.dvc/cache\n.dvc/tmp\nmlflow.db\nmlartifacts\n")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "config", "user.email", "test@trainyard.invalid")
    git(folder, "config", "user.name", "test")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "start")
    monkeypatch.chdir(folder)
    return folder


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


def aged(path: Path) -> Path:
    """Have a file or folder lie there for long."""
    for entry in (path, *path.rglob("*")):
        os.utime(entry, (OLD, OLD))
    return path


def training(project: Path, mark: str) -> Path:
    folder = project / ".trainyard" / "train" / mark
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "state").write_bytes(b"x" * 1000)
    return folder


def look(project: Path, kind: str, days: float = DAYS) -> dict[str, Thing]:
    return {thing.name: thing for thing in things(project, f"sqlite:///{project}/mlflow.db", days) if thing.kind == kind}


def current(project: Path) -> str:
    return fingerprint(read_recipe(project / "params.yaml", "cnn"), read_card(project / "data" / "prepared" / "cnn").sha256)


def test_checkpoints_that_nothing_continues_go_and_all_others_stay(project: Path, make_champion: Callable[[str], None]) -> None:
    aged(training(project, "cnn-0000000000000001"))
    training(project, "cnn-0000000000000002")
    aged(training(project, current(project)))
    aged(training(project, "cnn-0000000000000003"))
    make_champion("cnn-0000000000000003")
    waiting = training(project, "lstm-0000000000000005")
    journal = Journal.create(project, "train", "lstm", {"run_key": "k"})
    journal.append("status", {"status": "RUNNING", "spool": str(waiting / "spool.jsonl")})
    journal.release()
    aged(waiting)

    found = look(project, "checkpoints")
    assert [name for name, thing in found.items() if thing.remove] == ["cnn-0000000000000001"]
    assert "continues it" in found[current(project)].why
    assert found["cnn-0000000000000002"].why == "written to a short while ago"
    assert found["cnn-0000000000000003"].why == "of a champion"
    assert found["lstm-0000000000000005"].why.endswith("trainyard sync")
    # Shown, nothing more.
    assert len(list((project / ".trainyard" / "train").iterdir())) == 5
    assert [said for _, said in remove(list(found.values()))] == ["deleted"]
    assert not (project / ".trainyard" / "train" / "cnn-0000000000000001").exists()
    assert len(list((project / ".trainyard" / "train").iterdir())) == 4


def test_the_folder_of_a_running_driver_stays(project: Path) -> None:
    folder = training(project, "unet-0000000000000004")
    process = subprocess.Popen(["sleep", "1000"])
    try:
        holder = Holder.of_this_process()
        stat = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        note = {**asdict(holder), "pid": process.pid, "started": stat[19]}
        (folder / "checkpoints" / "holder.json").write_text(json.dumps(note))
        aged(folder)
        assert "held by process" in look(project, "checkpoints", 0)[folder.name].why
    finally:
        process.kill()
        process.wait()
    assert look(project, "checkpoints", 0)[folder.name].remove is not None


def test_what_comes_into_use_after_it_was_shown_stays(project: Path) -> None:
    folder = aged(training(project, "cnn-0000000000000001"))
    found = list(look(project, "checkpoints").values())
    (project / ".trainyard" / "locks").mkdir()
    with (project / ".trainyard" / "locks" / "cnn.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert [said for _, said in remove(found)] == ["has come into use, and stays"]
    assert folder.exists()


@pytest.fixture
def make_champion(project: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that makes a state the champion of cnn; its results are not looked at here."""

    def make(mark: str) -> None:
        champion = Champion(
            recipe="cnn",
            fingerprint=mark,
            metric="accuracy",
            value=1.0,
            low=1.0,
            high=1.0,
            test_sha256="",
            weights_sha256="",
            commit="",
            results_sha256="",
        )
        (project / "champions" / "cnn").mkdir(parents=True, exist_ok=True)
        (project / "champions" / "cnn" / "champion.json").write_text(json.dumps(asdict(champion)))
        monkeypatch.setattr("trainyard.clean.clean.champion_marks", lambda root: {mark})

    return make


def entry(project: Path, name: str, content: bytes) -> str:
    """Put a content into DVC's cache, and return its hash."""
    import hashlib

    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    place = project / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    aged(place)
    return md5


def lock(**outs: str) -> str:
    lines = ["schema: '2.0'", "stages:"]
    for stage, md5 in outs.items():
        lines += [f"  {stage}@cnn:", f"    cmd: python pipeline/{stage}.py cnn", "    outs:"]
        lines += [f"    - path: models/cnn/{stage}", "      hash: md5", f"      md5: {md5}"]
    return "\n".join(lines) + "\n"


def test_dvc_s_cache_keeps_what_a_lock_a_commit_or_a_champion_refers_to(
    project: Path, make_champion: Callable[[str], None]
) -> None:
    committed, here, unused = (entry(project, name, name.encode()) for name in ("committed", "here", "unused"))
    inner = entry(project, "inner", b"inner")
    folder = entry(project, "list", json.dumps([{"md5": inner, "relpath": "a.png"}]).encode())
    folder_place = project / ".dvc/cache/files/md5" / folder[:2] / folder[2:]
    folder_place.rename(folder_place.with_name(folder_place.name + ".dir"))
    (project / "dvc.lock").write_text(lock(train=committed))
    git(project, "add", "dvc.lock")
    git(project, "commit", "-q", "-m", "first")
    (project / "dvc.lock").write_text(lock(train=here, evaluate=f"{folder}.dir"))
    # A champion whose lock was never committed: the run-cache alone remembers it.
    weights = entry(project, "weights", b"weights of the champion")
    recipe = entry(project, "recipe", b'{"fingerprint": "cnn-7"}')
    remembered = project / ".dvc" / "cache" / "runs" / "ab" / "abc" / "def"
    remembered.parent.mkdir(parents=True)
    outs = [{"path": "models/cnn/model.safetensors", "md5": weights}, {"path": "models/cnn/recipe.json", "md5": recipe}]
    remembered.write_text(json.dumps({"cmd": "PYTHONPATH=src python pipeline/train.py cnn a b c", "outs": outs}))

    assert {committed, here, inner, f"{folder}.dir"} <= referred(project, set())
    make_champion("cnn-7")
    (thing,) = look(project, "DVC cache").values()
    assert thing.name == "1 files"
    assert [said for _, said in remove([thing])] == ["deleted"]
    left = {path.parent.name + path.name for path in (project / ".dvc/cache/files/md5").glob("??/*")}
    assert left == {committed, here, inner, f"{folder}.dir", weights, recipe}
    assert unused not in left


def test_a_cache_that_other_projects_share_is_left_alone(project: Path, tmp_path: Path) -> None:
    (project / ".dvc" / "config").write_text("[cache]\n    dir = ../../shared\n")
    (tmp_path / "shared" / "files" / "md5" / "ab").mkdir(parents=True)
    aged(tmp_path / "shared")
    (thing,) = look(project, "DVC cache", 0).values()
    assert thing.remove is None and "shared with other projects" in thing.why


def test_dvc_s_cache_keeps_what_another_worktree_refers_to(project: Path, tmp_path: Path) -> None:
    theirs, unused = entry(project, "theirs", b"theirs"), entry(project, "unused", b"unused")
    git(project, "worktree", "add", "-q", "-b", "side", str(tmp_path / "an other"))
    (tmp_path / "an other" / "dvc.lock").write_text(lock(train=theirs))
    kept = referred(project, set())
    assert theirs in kept and unused not in kept


def test_dvc_s_cache_of_a_project_without_git_is_cleaned_and_of_one_that_lost_it_is_not(project: Path) -> None:
    here, _ = entry(project, "here", b"here"), entry(project, "unused", b"unused")
    (project / "dvc.lock").write_text(lock(train=here))
    shutil.rmtree(project / ".git")
    with pytest.raises(MachineError, match="nothing of DVC's cache is deleted"):
        look(project, "DVC cache")
    (project / ".dvc" / "config").write_text("[core]\n    no_scm = True\n")
    (thing,) = look(project, "DVC cache").values()
    assert (thing.name, thing.remove is not None) == ("1 files", True)
    assert here in referred(project, set())


def test_what_a_node_has_fetched_goes_unless_it_is_used(project: Path, tmp_path: Path) -> None:
    cache = tmp_path / "node"
    wanted = read_card(project / "data" / "prepared" / "cnn").sha256
    for name in (wanted, "a" * 64, "b" * 64):
        (cache / name).mkdir(parents=True)
        (cache / name / "data.npy").write_bytes(b"x" * 500)
        aged(cache / f"{name}.lock") if (cache / f"{name}.lock").exists() else (cache / f"{name}.lock").write_text("500")
        os.utime(cache / f"{name}.lock", (OLD, OLD))
    found = look(project, "node cache")
    assert {name for name, thing in found.items() if thing.remove} == {"a" * 16, "b" * 16}
    with (cache / f"{'b' * 64}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        said = dict((thing.name, word) for thing, word in remove(list(found.values())))
    assert said == {"a" * 16: "deleted", "b" * 16: "has come into use, and stays"}
    assert not (cache / ("a" * 64)).exists() and (cache / ("b" * 64)).exists() and (cache / wanted).exists()


def test_runs_deleted_in_mlflow_go_with_their_files_and_those_of_models_stay(
    project: Path, make_champion: Callable[[str], None]
) -> None:
    uri = f"sqlite:///{project}/mlflow.db"
    client = MlflowClient(uri)
    experiment = client.create_experiment("cnn", artifact_location=(project / "mlartifacts" / "cnn").as_uri())
    ids = {}
    for name in ("deleted", "model", "champion", "alive"):
        tags = {"trainyard.run_key": f"key-{name}", "trainyard.fingerprint": f"cnn-{name}"}
        ids[name] = client.create_run(experiment, run_name=name, tags=tags).info.run_id
        (project / "note.txt").write_text("x" * 100)
        client.log_artifact(ids[name], str(project / "note.txt"))
        if name != "alive":
            client.delete_run(ids[name])
    (project / "models" / "cnn").mkdir(parents=True)
    (project / "models" / "cnn" / "run.json").write_text(json.dumps({"run_key": "key-model", "run_id": None}))
    make_champion("cnn-champion")
    assert not any(thing.remove for thing in look(project, "deleted runs").values())
    found = look(project, "deleted runs", 0)
    assert {name.split()[0] for name in found} == {"deleted", "model", "champion"}
    assert {name.split()[0] for name, thing in found.items() if thing.remove} == {"deleted"}
    assert found[f"deleted {ids['deleted']}"].bytes == 100
    assert [said for _, said in remove(list(found.values()))] == ["deleted"]
    assert not (project / "mlartifacts" / "cnn" / ids["deleted"]).exists()
    assert set(look(project, "deleted runs", 0)) == {f"model {ids['model']}", f"champion {ids['champion']}"}
    assert client.get_run(ids["alive"]).info.lifecycle_stage == "active"


def test_what_and_why_stand_below_where_a_line_has_no_room_for_them() -> None:
    path = "/mnt/shared/[old]/projects/vision/dvc-cache/files"
    why = "no dvc.lock of this folder, of a commit or of an experiment refers to it"
    going = Thing(kind="DVC cache", name=path, bytes=1_200_000_000, age_seconds=9.3 * 86400, why=why, remove=lambda: True)
    staying = Thing(kind="runs", name="a" * 32, bytes=300, age_seconds=0.0, why="younger than --days 7")
    lines = narrow(table([going, staying]), path, "refers to it", "a" * 32)
    assert [line.split() for line in lines if line.startswith("DVC")] == [["DVC", "cache", "1.2", "GB", "9.3", "goes"]]
    assert len(narrow(table([going, staying]), why, width=200)) == 4
