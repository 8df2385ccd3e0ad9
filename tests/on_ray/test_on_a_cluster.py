"""Replicas on a cluster that others started, with a token: models are brought there, renewed, and taken away again."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from ruamel.yaml import YAML

import trainyard
from tests.on_ray.serving import TEXTS, Crowd, Replicas
from tests.ray_head import Cluster, free_port, running, wait_for
from tests.serving.test_predictor import changed
from trainyard.serving.answers import Label
from trainyard.serving.predictor import Predictor

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(1500)]
TOKEN = "f8Zk2-qLw9-xx1T-0000"
ASK = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A head of two processors that lets in whoever has its token."""
    # Ray would run what answers at a low priority, behind all else that runs here.
    more = {"PYTHONPATH": str(Path(trainyard.__file__).parents[1]), "RAY_worker_niceness": "0"}
    with running(tmp_path_factory.mktemp("home"), "5a" * 16, **more) as started:
        yield started


@pytest.fixture
def token(tmp_path: Path) -> Path:
    """The file of the token that requests bring."""
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(0o600)
    return path


def of_serve(cluster: Cluster) -> list[str]:
    """Return what works for Serve on a cluster."""
    return [name for process in cluster.processes() if "Serve" in (name := " ".join(process.cmdline()))]


def test_models_are_brought_to_the_nodes_and_a_new_one_too(
    cluster: Cluster, models: dict[str, Path], token: Path, tmp_path: Path
) -> None:
    texts = Path(shutil.copytree(models["reviews"], tmp_path / "reviews"))
    other = changed(texts, tmp_path, {"fingerprint": "fingerprint1"})
    scaling = ("--max-replicas", "1", "--token-file", str(token))
    arguments = (str(texts), "--address", cluster.address, *scaling)
    with Replicas(tmp_path / "log", arguments, cluster.environment) as served:
        reply = served.post("reviews", json={"texts": TEXTS})
        assert (reply.status_code, reply.json()["error"]["field"]) == (401, "authorization")
        assert served.get("/ready").status_code == 200 and served.get("/models").status_code == 401
        assert served.post("reviews", json={"texts": TEXTS}, headers=ASK).json()["fingerprint"] == "fingerprint0"
        (texts / "model.onnx").write_bytes(b"not whole")
        served.wait_for("fingerprint0 goes on answering")
        with Crowd(served.url, ASK, clients=3) as crowd:
            os.replace(shutil.copyfile(other / "model.onnx", texts / "new"), texts / "model.onnx")
            wait_for(lambda: set(crowd.fingerprints[-20:]) == {"fingerprint1"}, "answers of the new model alone")
        assert crowd.broken == [] and set(crowd.statuses) == {200}
        assert set(crowd.fingerprints) == {"fingerprint0", "fingerprint1"}
        assert served.end(signal.SIGINT) == 0, served.said
        assert TOKEN not in served.said
    wait_for(lambda: not of_serve(cluster), "the end of what worked for Serve")


def test_files_are_answered_on_a_cluster_as_by_the_predictor(cluster: Cluster, models: dict[str, Path], tmp_path: Path) -> None:
    images = models["photos"].parents[1] / "raw"
    command = [
        sys.executable,
        "-m",
        "trainyard.cli",
        "predict",
        str(models["photos"]),
        "raw",
        "--out",
        str(tmp_path / "out.csv"),
    ]
    done = subprocess.run(
        [*command, "--address", cluster.address],
        cwd=images.parent,
        env=cluster.environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert "out.csv: 54 answers" in done.stdout
    with (tmp_path / "out.csv").open(newline="") as file:
        found = {row["input"]: row["label"] for row in csv.DictReader(file)}
    paths = sorted(path for path in images.rglob("*.*"))
    answers = Predictor.load(models["photos"], threads=1).predict([path.read_bytes() for path in paths])
    expected = {str(path.relative_to(images.parent)): answer for path, answer in zip(paths, answers, strict=True)}
    assert found == {name: answer.label for name, answer in expected.items() if isinstance(answer, Label)}


def test_a_config_file_keeps_replicas_at_work_without_whoever_started_them(
    cluster: Cluster, models: dict[str, Path], token: Path, tmp_path: Path, root: Path
) -> None:
    yaml, port = YAML(), free_port()
    config = yaml.load(root / "deploy" / "serving" / "serve.yaml")
    config["http_options"]["port"] = port
    [application] = config["applications"]
    application["args"]["models"] = [str(models["reviews"])]

    def run(*arguments: str) -> str:
        environment = {**cluster.environment, "RAY_ADDRESS": cluster.url, "RAY_DASHBOARD_ADDRESS": cluster.url}
        program = shutil.which("serve", path=environment["PATH"])
        assert program
        done = subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def deploy() -> None:
        yaml.dump(config, tmp_path / "serve.yaml")
        run("deploy", "--address", cluster.url, str(tmp_path / "serve.yaml"))

    def said(text: str) -> None:
        wait_for(lambda: text in " ".join(run("status", "--address", cluster.url).split()), repr(text))

    config["http_options"]["host"] = "0.0.0.0"
    deploy()
    said("whoever reaches the nodes could ask")
    run("shutdown", "-y", "--address", cluster.url)
    wait_for(lambda: not of_serve(cluster), "the end of what listened on the network")
    config["http_options"]["host"] = "127.0.0.1"
    application["args"]["modles"] = []
    deploy()
    said("args.modles: Unexpected keyword argument")
    del application["args"]["modles"]
    application["args"]["token_file"] = str(token)
    deploy()
    said("status: RUNNING")
    url = f"http://127.0.0.1:{port}"
    with requests.Session() as session:
        session.trust_env = False
        assert session.get(f"{url}/models", timeout=120).status_code == 401
        reply = session.post(f"{url}/models/reviews/predict", json={"texts": TEXTS}, headers=ASK, timeout=120)
        assert reply.status_code == 200 and len(reply.json()["predictions"]) == 2
    run("shutdown", "-y", "--address", cluster.url)
    wait_for(lambda: not of_serve(cluster), "the end of what worked for Serve")
