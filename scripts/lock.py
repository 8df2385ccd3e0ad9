"""Write requirements.lock and requirements-dev.lock: names, exact versions and the sha256 of every file of them.

pip resolves pyproject.toml in an empty environment; the index that pip is set up with is then asked for the hashes of all
files of each chosen version, so that the locks hold on other platforms too. No address is written.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
TORCH = "torch"
BUILD = ["setuptools"]


def main() -> None:
    """Resolve, ask for hashes, write."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    run = resolve([*project["dependencies"], *BUILD])
    everything = resolve([*project["dependencies"], *BUILD, *project["optional-dependencies"]["dev"]])
    write(ROOT / "requirements.lock", run)
    write(ROOT / "requirements-dev.lock", {name: item for name, item in everything.items() if name not in run})


def resolve(requirements: list[str]) -> dict[str, tuple[str, str]]:
    """Return version and sha256 of the file that pip would install, by name, without torch and what only CUDA needs."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [f"{folder}/bin/python", "-m", "pip", "--disable-pip-version-check"]
        # torch first, as in setup.sh, so that its build is the machine's own.
        subprocess.run([*pip, "install", "-q", next(r for r in requirements if r.startswith(f"{TORCH}=="))], check=True)
        done = subprocess.run(
            [*pip, "install", "-q", "--dry-run", "--ignore-installed", "--report", "-", *requirements],
            check=True,
            capture_output=True,
            text=True,
        )
    found = {}
    for item in json.loads(done.stdout)["install"]:
        name = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
        if name != TORCH and not name.startswith(("nvidia-", "cuda-", "triton")):
            found[name] = (item["metadata"]["version"], item["download_info"]["archive_info"]["hashes"]["sha256"])
    return found


def write(path: Path, packages: dict[str, tuple[str, str]]) -> None:
    """Write one lock."""
    with ThreadPoolExecutor(8) as pool:
        hashes = list(pool.map(lambda item: all_hashes(item[0], *item[1]), sorted(packages.items())))
    lines = ["# Written by `make lock`. torch is installed before these, by its own pin.\n"]
    for (name, (version, _)), found in zip(sorted(packages.items()), hashes, strict=True):
        lines.append(f"{name}=={version} \\\n" + " \\\n".join(f"    --hash=sha256:{sha256}" for sha256 in found) + "\n")
    path.write_text("".join(lines), encoding="utf-8")
    print(f"{path.name}: {len(packages)} packages")


def all_hashes(name: str, version: str, chosen: str) -> list[str]:
    """Return the sha256 of every wheel of a version, and of the file that pip chose."""
    request = urllib.request.Request(f"{index()}{name}/", headers={"Accept": "application/vnd.pypi.simple.v1+json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        files = json.load(answer)["files"]
    wheels = [file for file in files if file["filename"].endswith(".whl")]
    return sorted({chosen, *(file["hashes"]["sha256"] for file in wheels if file["filename"].split("-")[1] == version)})


def index() -> str:
    """Return the package index that pip uses."""
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    if asked.returncode == 0:
        return asked.stdout.strip().rstrip("/") + "/"
    from pip._internal.models.index import PyPI

    return f"{PyPI.simple_url}/"


if __name__ == "__main__":
    main()
