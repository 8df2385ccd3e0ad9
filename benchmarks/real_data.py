"""Train the recipes of examples/ on well-known data, over several seeds, and say what they reached.

    python benchmarks/real_data.py trec sst2 --data ~/data --seeds 3

Each recipe runs through `dvc repro` in a project of its own below --work, as it would here; what is there is used again,
so a run that was cut continues. --data holds the raw files as RAW below names them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
COPIED = ("src/", "pipeline/", "champions/", ".dvc/", "dvc.yaml", ".dvcignore", ".gitignore", "requirements.lock")
RAW = {
    "mnist": "mnist-png.zip",
    "cifar10": "cifar10-jpg.zip",
    "hymenoptera": "hymenoptera.zip",
    "isbi2012": "isbi2012-membrane.zip",
    "trec": "trec",
    "sst2": "sst2",
    "etth1": "etth1",
}
"""By the folder below data/raw that an example names, the archive or folder in --data that it is made from."""
RENAMED = {"hymenoptera": ("val", "test")}
"""Folders that hold what is tested on, under another name."""
PRETRAINED = "cifar10"
"""Whose weights a recipe begins with that has `start_from`; its training must be in --work."""
VECTORS = "words.vec"
"""In --work, as benchmarks/word_vectors.py writes it, for a recipe that begins with word vectors."""
SHOWN = ("test/accuracy", "test/macro_f1", "test/mean_iou", "test/pixel_error", "test/rand_error", "test/mse", "test/mae")


def main() -> None:
    names = sorted(path.stem for path in (ROOT / "examples").glob("*.yaml"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", choices=names, metavar="RECIPE", help=", ".join(names))
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TRAINYARD_DATA", ROOT.parent / "shared" / "data")))
    parser.add_argument("--work", type=Path, default=Path("/tmp/trainyard-real-data"), help="where the projects are made")
    parser.add_argument("--seeds", type=int, default=1, help="0 to SEEDS - 1")
    parser.add_argument("--workers", default="auto", help="as cluster.workers; small networks train faster with 0")
    arguments = parser.parse_args()
    print("| recipe | seeds | measure | network: mean (spread) | baseline | training seconds |\n|---|---|---|---|---|---|")
    for name in arguments.recipes:
        project = make_project(arguments.work / name, name, arguments.data)
        results = [run(project, name, seed, arguments.workers) for seed in range(arguments.seeds)]
        seconds = statistics.median(result["seconds"] for result in results)
        for measure in SHOWN:
            if measure in results[0]:
                values = [result[measure] for result in results]
                spread = f" ({statistics.stdev(values):.4f})" if len(values) > 1 else ""
                baseline = results[0].get(measure.replace("test/", "baseline/"))
                beside = "" if baseline is None else f"{baseline:.4f}"
                text = f"{statistics.mean(values):.4f}{spread}"
                print(f"| {name} | {len(values)} | {measure[5:]} | {text} | {beside} | {seconds:.0f} |", flush=True)


def make_project(folder: Path, name: str, data: Path) -> Path:
    """Return a copy of this project that holds one recipe and its raw data."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for file in listed.split("\0"):
        if file.startswith(COPIED):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, folder / file)
    recipe = YAML(typ="safe").load(ROOT / "examples" / f"{name}.yaml")
    place = Path(*Path(recipe["data"]["path"]).parts[:3])
    unpack(data / RAW[place.name], folder / place)
    if "start_from" in recipe["train"]:
        weights = folder.parent / PRETRAINED / "models" / PRETRAINED / "model.safetensors"
        if not weights.exists():
            sys.exit(f"{weights}: no such file; train {PRETRAINED} first, with the same --work")
        shutil.copyfile(weights, folder / recipe["train"]["start_from"]["weights"])
    if not (folder / ".git").exists():
        subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


def place_vectors(recipe: dict[str, Any], work: Path, root: Path) -> None:
    """Put the word vectors of a recipe, if it has any, where it looks for them, and state their hash in it."""
    if (vectors := recipe["data"].get("vectors")) is None:
        return
    source, target = work / VECTORS, root / vectors["path"]
    if not source.exists():
        sys.exit(f"{source}: no such file; make it: python benchmarks/word_vectors.py {source}")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    vectors["sha256"] = hashlib.sha256(target.read_bytes()).hexdigest()


def unpack(source: Path, target: Path) -> None:
    """Put raw data where the recipe looks for them."""
    if target.exists():
        return
    if not source.exists():
        sys.exit(f"{source}: no such file or folder; say where the data are with --data or TRAINYARD_DATA")
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if source.suffix == ".zip":
        with zipfile.ZipFile(source) as archive:
            archive.extractall(partial)
    else:
        shutil.copytree(source, partial, dirs_exist_ok=True)
    if target.name in RENAMED:
        old, new = RENAMED[target.name]
        (partial / old).rename(partial / new)
    partial.rename(target)


def run(project: Path, name: str, seed: int, workers: str) -> dict[str, float]:
    """Train and evaluate with a seed, and return all metrics."""
    recipe = YAML(typ="safe").load(ROOT / "examples" / f"{name}.yaml")
    recipe["train"]["seed"] = seed
    place_vectors(recipe, project.parent, project)
    if start := recipe["train"].get("start_from"):
        start["sha256"] = hashlib.sha256((project / start["weights"]).read_bytes()).hexdigest()
    cluster = {"workers": int(workers) if workers.isdecimal() else workers}
    YAML().dump({"recipes": {name: recipe}, "cluster": cluster}, project / "params.yaml")
    environment = {
        **os.environ,
        "DVC_NO_ANALYTICS": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    with (project / f"seed-{seed}.log").open("wb") as log:
        command = ["dvc", "repro", f"evaluate@{name}"]
        code = subprocess.run(command, cwd=project, env=environment, stdout=log, stderr=subprocess.STDOUT).returncode
    if code:
        sys.exit(f"{project / f'seed-{seed}.log'}: ended with {code}")
    reports = project / "reports" / name
    return {**json.loads((reports / "train.json").read_text()), **json.loads((reports / "evaluate.json").read_text())}


if __name__ == "__main__":
    main()
