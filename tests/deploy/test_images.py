"""Images are pinned, run by nobody special, read by hadolint; their steps are run in an empty folder, without a container."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

IMAGES = ("deploy/Dockerfile", "deploy/serving/Dockerfile", "deploy/mlflow/Dockerfile")
PLACE = "/opt/trainyard"
"""Where the images have the project."""
ROOT_ONLY = re.compile(r"^(apt-get|useradd|chown) ")


@pytest.mark.parametrize("image", IMAGES)
def test_hadolint_finds_nothing(root: Path, image: str, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, "--no-color", root / image], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN cd /x && pip install numpy\n")
    refused = subprocess.run([program, "--no-color", tmp_path / "Dockerfile"], capture_output=True, text=True)
    assert refused.returncode == 1 and "DL3006" in refused.stdout


def test_all_images_begin_with_the_same_bytes_and_do_not_run_as_root(root: Path) -> None:
    texts = [(root / image).read_text() for image in IMAGES]
    bases = {base for text in texts for base in re.findall(r"^ARG BASE=(.+)$", text, flags=re.MULTILINE)}
    assert len(bases) == 1 and re.fullmatch(r"python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}", bases.pop())
    for text in texts:
        assert re.findall(r"^FROM (.+)$", text, flags=re.MULTILINE) == ["${BASE}"]
        assert re.findall(r"^USER (.+)$", text, flags=re.MULTILINE) == ["1000"]


def test_every_library_takes_the_python_of_debian() -> None:
    wanted = {found.name: found.metadata.get("Requires-Python") or "" for found in distributions()}
    assert len(wanted) > 200
    assert [name for name, pythons in wanted.items() if "3.11.2" not in SpecifierSet(pythons)] == []


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("image", "runs"), [("deploy/serving/Dockerfile", "trainyard.serving.server"), ("deploy/Dockerfile", "torch")]
)
def test_the_steps_of_an_image_make_an_environment_that_runs_and_is_listed(
    root: Path, tmp_path: Path, image: str, runs: str
) -> None:
    place = tmp_path / "image"
    steps(root, root / image, place)
    python = place / ".venv" / "bin" / "python"
    there = json.loads(subprocess.check_output([python, "-m", "pip", "list", "--format", "json"]))
    listed = json.loads((place / "sbom.cdx.json").read_text())
    assert listed["bomFormat"] == "CycloneDX" and listed["metadata"]["component"]["name"] == "trainyard"
    known = {(canonicalize_name(one["name"]), one["version"]) for one in listed["components"]}
    assert {(canonicalize_name(one["name"]), one["version"]) for one in there} - {("trainyard", "0.1.0")} == known
    assert sum("licenses" in one for one in listed["components"]) > 0.9 * len(known)
    # Nothing of the checkout, nothing of this environment.
    clean = {"PATH": os.environ["PATH"], "PYTHONPATH": str(place / "src"), "HOME": str(tmp_path)}
    subprocess.run([python, "-W", "ignore", "-c", f"import {runs}"], cwd=tmp_path, env=clean, check=True)


def steps(root: Path, dockerfile: Path, place: Path) -> None:
    """Do what a Dockerfile says in a folder, but for what takes root."""
    place.mkdir()
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    programs = place.with_name("programs")
    programs.mkdir()
    for name in ("python", "python3.11"):
        (programs / name).symlink_to(Path(sys.base_prefix) / "bin" / "python3.11")
    environment["PATH"] = f"{programs}{os.pathsep}{environment['PATH']}"
    ran = 0
    for instruction, rest in re.findall(r"^([A-Z]+) ((?:.*\\\n)*.*)$", dockerfile.read_text(), flags=re.MULTILINE):
        if instruction == "COPY":
            *sources, target = rest.split()
            for source in sources:
                copy(root / source, place / target, whole=len(sources) == 1)
        elif instruction == "RUN":
            parts = [part.strip() for part in rest.replace("\\\n", " ").split("&&")]
            command = " && ".join(part for part in parts if not ROOT_ONLY.match(part) and not part.startswith("rm "))
            subprocess.run(["bash", "-c", command.replace(PLACE, str(place))], cwd=place, env=environment, check=True)
            ran += bool(command)
    assert ran


def copy(source: Path, target: Path, whole: bool) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    elif whole and target.name != "." and not str(target).endswith("/"):
        shutil.copy2(source, target)
    else:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target / source.name)
