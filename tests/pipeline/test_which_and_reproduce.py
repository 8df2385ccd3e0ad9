"""From a run to its files, from a file to its run, and the run once more."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.conftest import TRAINYARD, Project, rows

pytestmark = pytest.mark.pipeline


@pytest.fixture
def trainyard(project: Project) -> Project:
    """The project, whose own code the commands run."""
    project.environment["PYTHONPATH"] = "src"
    return project


def which(project: Project, path: str, code: int = 0) -> Any:
    said = project.run(*TRAINYARD, "which", path, "--json", code=code)
    return json.loads(said) if code == 0 else said


def identity(project: Project, recipe: str) -> dict[str, str]:
    values: dict[str, str] = json.loads((project.folder / "models" / recipe / "run.json").read_text())
    return values


def git_state(project: Project) -> str:
    """Return what git says of the working tree, and all that it keeps of branches and worktrees."""
    state = project.run("git", "status", "--porcelain")
    kept = sorted(str(path) for path in (project.folder / ".git").rglob("*") if path.is_file() and path.name != "index")
    return state + "\n".join(kept)


def test_a_run_holds_its_whole_origin(trainyard: Project) -> None:
    run_id = identity(trainyard, "unet")["run_id"]
    (place,) = (trainyard.folder / "mlartifacts").glob(f"*/{run_id}/artifacts/origin/origin.json")
    origin = json.loads(place.read_text())
    assert origin["recipe"] == "unet" and origin["block"]["model"]["base_width"] == 4
    assert trainyard.run("git", "cat-file", "-t", origin["code"]["commit"]).strip() == "commit"
    card = json.loads((trainyard.folder / "data/prepared/unet/card.json").read_text())
    assert origin["data"]["sha256"] == card["sha256"]
    assert origin["dvc"]["lock"]["prepare"]["outs"][0]["md5"].endswith(".dir")
    assert origin["libraries"]["torch"] and origin["machine"]["processor"] and origin["attempts"][0]["host"]
    tags = dict(rows(trainyard, f"select key, value from tags where run_uuid = '{run_id}'"))
    assert (tags["exit.state"], tags["exit.code"], tags["ray.address"]) == ("finished", "0", "local")
    lock = (trainyard.folder / "dvc.lock").read_text()
    # What the stages wrote, by the hashes under which DVC has recorded it.
    for name in ("train.model.safetensors", "evaluate.evaluate.json", "gate.gate.json", "export.model.onnx"):
        assert tags[f"dvc.{name}"] in lock
    metrics = {key for (key,) in rows(trainyard, f"select key from latest_metrics where run_uuid = '{run_id}'")}
    assert {"throughput/step_seconds", "throughput/data_wait_seconds", "memory/worker_peak_megabytes"} <= metrics


def test_every_file_of_a_pipeline_names_its_run(trainyard: Project, tmp_path: Path) -> None:
    run_id = identity(trainyard, "unet")["run_id"]
    figure = sorted((trainyard.folder / "reports/unet/figures").glob("*.png"))[0]
    for name, stage in (
        ("models/unet/model.safetensors", "train"),
        ("models/unet/model.onnx", "export"),
        ("reports/unet/evaluate.json", "evaluate"),
        (str(figure.relative_to(trainyard.folder)), "evaluate"),
    ):
        found = which(trainyard, name)
        assert (found["stage"], found["recipe"], found["run"]["run_id"]) == (stage, "unet", run_id), name
        assert found["run"]["status"] == "FINISHED"
        assert len(found["code"]["commit"]) == 40
        assert len(found["data"]["sha256"]) == 64
    # Of packed data, the runs that learned from them.
    packed = which(trainyard, "data/prepared/unet/train/images.npy")
    assert packed["stage"] == "prepare"
    assert any(run_id in user for user in packed["users"])
    # A copy elsewhere is known by its content, under any name.
    copy = tmp_path / "final.png"
    shutil.copyfile(figure, copy)
    found = which(trainyard, str(copy))
    assert found["run"]["run_id"] == run_id and found["how"].startswith("a copy of reports/unet/figures/")
    shown = trainyard.run(*TRAINYARD, "which", "models/unet/model.safetensors")
    assert run_id in shown and "trainyard reproduce" in shown


def test_a_copy_where_dvc_has_no_record_of_it_says_it_itself(trainyard: Project, tmp_path: Path) -> None:
    run_id = identity(trainyard, "unet")["run_id"]
    copy = tmp_path / "kept.safetensors"
    shutil.copyfile(trainyard.folder / "models/unet/model.safetensors", copy)
    lock, runs = trainyard.folder / "dvc.lock", trainyard.folder / ".dvc/cache/runs"
    lock.rename(tmp_path / "dvc.lock")
    runs.rename(tmp_path / "runs")
    try:
        found = which(trainyard, str(copy))
        assert found["run"]["run_id"] == run_id and "says of itself" in found["how"]
        copy.write_bytes(copy.read_bytes()[:-4] + b"\1\2\3\4")
        assert "its bytes are not those that this run wrote" in which(trainyard, str(copy), code=5)
    finally:
        (tmp_path / "dvc.lock").rename(lock)
        (tmp_path / "runs").rename(runs)


def test_what_no_stage_made_is_said_to_be_so(trainyard: Project, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert "no stage of this project made it" in which(trainyard, str(tmp_path / "notes.txt"), code=2)
    assert "is what train@cnn reads" in which(trainyard, "pipeline/train.py", code=2)
    assert "no such file" in which(trainyard, "nowhere.json", code=2)
    metrics = trainyard.folder / "reports/unet/evaluate.json"
    before = metrics.read_bytes()
    metrics.write_bytes(before + b"\n")
    said = which(trainyard, "reports/unet/evaluate.json", code=5)
    metrics.write_bytes(before)
    assert "is not what evaluate@unet wrote" in said and "dvc checkout" in said


def test_a_run_is_reproduced_bit_by_bit_and_the_working_tree_is_not_touched(trainyard: Project) -> None:
    run_id = identity(trainyard, "unet")["run_id"]
    # What is there now is not what the run was made from, and must not be used.
    code = trainyard.folder / "src/trainyard/models/unet.py"
    before = code.read_text()
    code.write_text(before + "\nraise RuntimeError('not this one')\n")
    state, packed = git_state(trainyard), trainyard.folder / "data/prepared/unet"
    runs = rows(trainyard, "select count(*) from runs")
    packed.rename(packed.with_name("away"))
    try:
        said = trainyard.run(*TRAINYARD, "reproduce", "unet", "--json")
        assert git_state(trainyard) == state
    finally:
        packed.with_name("away").rename(packed)
        code.write_text(before)
    report = json.loads(said[said.index("{\n") :])
    assert report["identical"] and report["run_id"] == run_id
    assert "weights" in report["compared"]
    # What is kept is said, and the rest is gone.
    assert report["kept"] == str(trainyard.folder / ".trainyard/reproduce" / run_id / "report.json")
    assert not (Path(report["kept"]).parent / "tree").exists()
    assert rows(trainyard, "select count(*) from runs") == runs


def test_other_data_are_noticed_before_anything_is_trained(trainyard: Project) -> None:
    run_id = identity(trainyard, "lstm")["run_id"]
    (place,) = (trainyard.folder / "mlartifacts").glob(f"*/{run_id}/artifacts/origin/origin.json")
    recorded = place.read_text()
    origin = json.loads(recorded)
    origin["data"]["sha256"] = "0" * 64
    place.write_text(json.dumps(origin))
    try:
        said = trainyard.run(*TRAINYARD, "reproduce", run_id, code=1)
    finally:
        place.write_text(recorded)
        shutil.rmtree(trainyard.folder / ".trainyard/reproduce" / run_id)
    assert "packed data, sha256" in said and "raw data" in said
    assert "epoch" not in said


@pytest.mark.long
def test_a_run_that_comes_out_otherwise_names_the_first_difference_and_its_cause(trainyard: Project, tmp_path: Path) -> None:
    run_id = identity(trainyard, "lstm")["run_id"]
    (place,) = (trainyard.folder / "mlartifacts").glob(f"*/{run_id}/artifacts/origin/origin.json")
    recorded = place.read_text()
    # As if it had been recorded with another seed and on another processor.
    origin = json.loads(recorded)
    origin["block"]["train"]["seed"] = 5
    origin["machine"]["processor"] = "Abacus 1"
    place.write_text(json.dumps(origin))
    try:
        said = trainyard.run(*TRAINYARD, "reproduce", run_id, code=1)
    finally:
        place.write_text(recorded)
    tree = trainyard.folder / ".trainyard/reproduce" / run_id / "tree"
    assert tree.is_dir()
    shutil.rmtree(tree)
    assert "differs" in said and "of epoch 1: " in said
    assert "fingerprint: " in said and "processor: Abacus 1 recorded" in said


def test_a_run_without_its_commit_or_origin_says_what_to_do(trainyard: Project) -> None:
    assert "no run in" in trainyard.run(*TRAINYARD, "reproduce", "0" * 32, code=2)
    run_id = identity(trainyard, "lstm")["run_id"]
    (place,) = (trainyard.folder / "mlartifacts").glob(f"*/{run_id}/artifacts/origin/origin.json")
    recorded = place.read_text()
    try:
        origin = json.loads(recorded)
        origin["code"]["commit"] = "1" * 40
        place.write_text(json.dumps(origin))
        assert f"commit {'1' * 40} is not here; fetch it" in trainyard.run(*TRAINYARD, "reproduce", run_id, code=2)
        place.unlink()
        assert "dvc repro -f" in trainyard.run(*TRAINYARD, "reproduce", run_id, code=2)
    finally:
        place.write_text(recorded)


def test_an_experiment_in_a_temporary_folder_is_one_whole_run_that_outlives_it(trainyard: Project) -> None:
    trainyard.run("git", "add", "-A")
    subprocess.run(trainyard.command("git", "commit", "-q", "-m", "more"), cwd=trainyard.folder, check=False)
    command = ("dvc", "exp", "run", "--temp", "-n", "quick", "-S", "recipes.lstm.train.learning_rate=7e-3", "train@lstm")
    trainyard.environment["TRAINYARD_FAULT"] = "kill:step13:phase=forward:settled"
    trainyard.run(*command, code=255)
    del trainyard.environment["TRAINYARD_FAULT"]
    # The folder is gone, or another one the next time; the checkpoint and the run are in the project, and go on.
    assert "lstm · train · continues after epoch 1" in trainyard.run(*command)
    assert not list((trainyard.folder / ".dvc/tmp/exps").glob("*/models"))
    ((run_id, status),) = rows(
        trainyard, "select r.run_uuid, r.status from runs r join tags t using (run_uuid) where t.value = 'quick'"
    )
    assert status == "FINISHED"
    tags = dict(rows(trainyard, f"select key, value from tags where run_uuid = '{run_id}'"))
    assert (tags["attempts"], tags["exit.state"]) == ("2", "finished")
    # The commit is one of the project's own, and not of the folder that is gone; the change is on record beside it.
    head = trainyard.run("git", "rev-parse", "HEAD").strip()
    assert tags["mlflow.source.git.commit"] == head
    files = trainyard.folder / "mlartifacts/lstm" / run_id / "artifacts"
    assert "+++ b/params.yaml" in (files / "origin/uncommitted.patch").read_text()
    assert json.loads((files / "origin/origin.json").read_text())["block"]["train"]["learning_rate"] == 7e-3
    assert list((trainyard.folder / ".trainyard/tracking").glob("[0-9]*")) == []
    curves = dict(rows(trainyard, f"select key, count(*) from metrics where run_uuid = '{run_id}' group by key"))
    assert curves["train/loss"] == curves["val/loss"] == 2
    said = trainyard.run(*TRAINYARD, "reproduce", run_id, "--json")
    assert json.loads(said[said.index("{\n") :])["identical"]


def test_a_plan_says_what_runs_and_why_and_what_it_takes(trainyard: Project) -> None:
    params = trainyard.folder / "params.yaml"
    before = params.read_text()
    weights = trainyard.folder / "models/lstm/model.safetensors"
    content = weights.read_bytes()
    trainyard.change("epochs: 2, batch_size: 16", "epochs: 4, batch_size: 16")
    weights.unlink()
    try:
        said = trainyard.run(*TRAINYARD, "plan", "unet", "train@lstm", "--json", "--seconds", "0")
        shown = trainyard.run(*TRAINYARD, "plan", "unet", "--seconds", "0")
    finally:
        params.write_text(before)
        weights.write_bytes(content)
    found = {step["stage"]: step for step in json.loads(said[said.index("[") :])}
    stages = ("prepare", "train", "evaluate", "gate", "export")
    assert list(found) == [*(f"{stage}@unet" for stage in stages), "prepare@lstm", "train@lstm"]
    assert not found["prepare@unet"]["runs"]
    assert found["train@unet"]["reasons"] == ["recipes.unet.train.epochs: 2 -> 4"]
    assert found["train@unet"]["estimate"]["seconds"] > 0 and found["train@unet"]["estimate"]["bytes"] > 50e6
    assert "as the last time here, for 4 epochs" in found["train@unet"]["estimate"]["how"]
    assert found["evaluate@unet"]["reasons"][0] == "train@unet runs before it"
    assert found["export@unet"]["estimate"]["seconds"] > 0
    # It was trained like this before: DVC takes it from its cache.
    assert (found["train@lstm"]["runs"], found["train@lstm"]["restored"]) == (False, True)
    assert "4 stages run: about" in shown and "up to date" in shown
