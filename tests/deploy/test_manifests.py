"""What deploy/ holds, against the published schemas and the tools' own checks."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from ruamel.yaml import YAML

HERE = Path(__file__).parent
SCHEMAS = {
    "PersistentVolumeClaim": "kubernetes.json#/$defs/io.k8s.api.core.v1.PersistentVolumeClaim",
    "NetworkPolicy": "kubernetes.json#/$defs/io.k8s.api.networking.v1.NetworkPolicy",
    "RayCluster": "kuberay.json#/$defs/RayCluster",
    "RayJob": "kuberay.json#/$defs/RayJob",
}
MANIFESTS = ("raycluster.yaml", "rayjob.yaml", "storage.yaml", "networkpolicy.yaml")


def mistakes(document: Any) -> list[str]:
    """Return where a manifest is not what the published schema of its kind says."""
    names = ("kubernetes.json", "kuberay.json")
    registry = Registry().with_resources(
        [(name, Resource.from_contents(json.loads((HERE / name).read_text(encoding="utf-8")))) for name in names]
    )
    validator = Draft202012Validator({"$ref": SCHEMAS[document["kind"]]}, registry=registry)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


def read(path: Path) -> Any:
    """Return a manifest as JSON's types."""
    return json.loads(json.dumps(YAML(typ="safe").load(path)))


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_fit_the_published_schemas(root: Path, name: str) -> None:
    assert mistakes(read(root / "deploy" / "kuberay" / name)) == []


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("mode: token", "mode: tokens", "authOptions"),
        ("minReplicas: 0", "minReplica: 0", "workerGroupSpecs"),
        ("mountPath: /shared", "mountpath: /shared", "volumeMounts"),
        ('num-cpus: "0"', "num-cpus: 0", "rayStartParams"),
        ("medium: Memory", "media: Memory", "emptyDir"),
    ],
)
def test_a_mistyped_manifest_is_found(root: Path, tmp_path: Path, old: str, new: str, place: str) -> None:
    text = (root / "deploy" / "kuberay" / "raycluster.yaml").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "raycluster.yaml").write_text(text.replace(old, new), encoding="utf-8")
    assert place in "\n".join(mistakes(read(tmp_path / "raycluster.yaml")))


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_clusters_ask_for_a_token_and_run_the_locked_ray_as_nobody_special(root: Path, name: str) -> None:
    spec = read(root / "deploy" / "kuberay" / name)["spec"]
    cluster = spec.get("rayClusterSpec", spec)
    assert cluster["authOptions"] == {"mode": "token"}
    assert f"ray=={cluster['rayVersion']} " in (root / "requirements.lock").read_text(encoding="utf-8")
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsUser"] == 1000
        for container in pod["containers"]:
            assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        mounts = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        assert {"/shared", "/dev/shm"} <= mounts
        assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} == {
            volume["name"] for volume in pod["volumes"]
        }


def test_servers_of_mlflow_are_the_locked_version_and_on_loopback(root: Path) -> None:
    version = re.search(r"^mlflow==(\S+)", (root / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE)
    assert version
    assert f"mlflow[auth]=={version[1]}" in (root / "deploy" / "mlflow" / "Dockerfile").read_text(encoding="utf-8")
    services = read(root / "deploy" / "mlflow" / "compose.yaml")["services"]
    assert services["mlflow"]["ports"] == ["127.0.0.1:5000:5000"]
    assert all("ports" not in service for name, service in services.items() if name != "mlflow")


def compose() -> list[str]:
    """Return Docker's compose in either of its forms."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and not subprocess.run([*command, "version"], capture_output=True).returncode:
            return command
    pytest.skip("no docker compose here")


@pytest.mark.parametrize("folder", ["mlflow", "gpu-box"])
def test_docker_reads_the_compose_files(root: Path, tmp_path: Path, folder: str) -> None:
    command = compose()
    copy = shutil.copytree(root / "deploy" / folder, tmp_path / "deploy" / folder)
    file = copy / "compose.yaml"
    if folder == "mlflow":
        without = subprocess.run([*command, "-f", str(file), "config"], cwd=copy, capture_output=True, text=True)
        assert without.returncode, "it starts without passwords"
        assert "secrets.sh" in without.stderr
        subprocess.run([str(copy / "secrets.sh")], check=True, capture_output=True)
    done = subprocess.run([*command, "-f", str(file), "config"], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "image: trainyard" in done.stdout


def test_secrets_are_private_random_and_never_made_twice(root: Path, tmp_path: Path) -> None:
    texts = []
    for name in ("one", "two"):
        folder = tmp_path / name
        shutil.copytree(root / "deploy" / "mlflow", folder)
        subprocess.run([str(folder / "secrets.sh")], check=True, capture_output=True)
        assert (folder / ".env").stat().st_mode & 0o777 == 0o600
        texts.append((folder / ".env").read_text(encoding="utf-8"))
        assert subprocess.run([str(folder / "secrets.sh")], capture_output=True).returncode == 2
        assert (folder / ".env").read_text(encoding="utf-8") == texts[-1]
    values = [line.partition("=")[2] for text in texts for line in text.splitlines()]
    assert len(set(values)) == len(values) == 10
    assert all(len(value) >= 12 for value in values)


def test_scripts_are_clean_to_shellcheck(root: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("no shellcheck here (apt-get install shellcheck)")
    scripts = [str(path) for path in (root / "deploy").rglob("*") if path.suffix in (".sh", ".sbatch")]
    assert len(scripts) >= 6
    done = subprocess.run(["shellcheck", *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_what_the_image_copies_is_there(root: Path) -> None:
    lines = (root / "deploy" / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]]
    assert len(copied) >= 6
    assert all((root / name).exists() for name in copied)
