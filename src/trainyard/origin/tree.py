"""The files of a run as they were, in a folder of their own: its commit, what differed from it, its parameters and its data.

A clone that borrows the objects of the project's repository, so that neither its working tree nor its .git is written to.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.dvc_cache import cache_folder
from trainyard.dvc_lock import written
from trainyard.errors import InputError, Interrupted, TrainyardError
from trainyard.files import write_whole
from trainyard.inputs import named_file
from trainyard.origin.record import PATCH

Say = Callable[[str], None]
READY = "ready.json"
"""Beside the tree: what it was made from."""
OF_OTHERS = ("DVC_", "GIT_", "MLFLOW_", "TRAINYARD_")
"""Variables that are about the project, not about the machine."""
OF_THE_MACHINE = ("TRAINYARD_CACHE", "TRAINYARD_DEBUG", "TRAINYARD_DOWNLOADS", "TRAINYARD_MIRROR")


@dataclass(frozen=True, slots=True)
class Tree:
    """A run's files."""

    folder: Path
    """Of the project in there."""
    recipe: str
    address: str
    """Of the Ray on which the run was made; a private one must not become the cluster that this process was told of."""

    @property
    def data(self) -> Path:
        """The packed data, as a stage is told of them."""
        return Path("data", "prepared", self.recipe)

    def environment(self) -> dict[str, str]:
        """Return that of its stages: of this machine, and nothing of the project that they come from."""
        kept = {name: value for name, value in os.environ.items() if name in OF_THE_MACHINE or not name.startswith(OF_OTHERS)}
        if self.address == "local":
            kept.pop("RAY_ADDRESS", None)
        return {**kept, "PYTHONPATH": str(self.folder / "src"), "DVC_NO_ANALYTICS": "1"}

    def stage(self, stage: str) -> None:
        """Run a stage to its end; what it says is shown.

        Raises:
            Interrupted: it was stopped.
            TrainyardError: with the exit code of a stage that failed, which has said why.
        """
        names = [str(self.data)] if stage == "prepare" else [str(self.data), f"models/{self.recipe}", f"reports/{self.recipe}"]
        command = [sys.executable, f"pipeline/{stage}.py", self.recipe, *names]
        code = subprocess.run(command, cwd=self.folder, env=self.environment(), check=False).returncode
        if code in (130, -2, 75):
            raise Interrupted(f"{self.folder}: stage {stage} was stopped; run the same command again to continue")
        if code:
            error = TrainyardError(
                f"{self.folder}: stage {stage} ended with exit code {code}, for the reason above; mend that, then "
                "the same command again"
            )
            error.exit_code = code if code > 0 else 1
            raise error

    def dvc(self, *arguments: str) -> bool:
        """Run dvc, and say whether it could do it."""
        command = [sys.executable, "-m", "dvc", *arguments]
        return not subprocess.run(command, cwd=self.folder, env=self.environment(), capture_output=True, check=False).returncode


def grow(place: Path, root: Path, origin: Mapping[str, Any], patch: bytes | None, say: Say) -> Tree:
    """Make the tree of a run below `place`, or return the one that a stopped attempt has made.

    Raises:
        InputError: the commit is not in the repository, or the patch does not fit it.
    """
    code, recipe = origin["code"], str(origin["recipe"])
    ready = place / READY
    mark = json.dumps([code["commit"], code["patch_sha256"], origin["block"], origin["ray"]], sort_keys=True)
    tree = Tree(place / "tree" / code["prefix"], recipe, origin["ray"]["address"])
    if ready.is_file() and ready.read_text(encoding="utf-8") == mark:
        say(f"goes on in {tree.folder}")
        return tree
    shutil.rmtree(place / "tree", ignore_errors=True)
    _check_out(root, place / "tree", code["commit"])
    if patch is not None:
        write_whole(place / PATCH, patch)
        _git(
            place / "tree",
            "apply",
            "--whitespace=nowarn",
            str(place / PATCH),
            problem=f"{PATCH} does not fit {code['commit']}; the run cannot be made again from what was recorded of it",
        )
    _set_params(tree, origin)
    local = f"[cache]\n    dir = {cache_folder(root).resolve()}\n"
    write_whole(tree.folder / ".dvc" / "config.local", local.encode())
    write_whole(ready, mark.encode())
    return tree


def bring_data(tree: Tree, root: Path, origin: Mapping[str, Any], say: Say) -> None:
    """Bring the packed data of a run into its tree: from DVC's cache or remote, or made again from the raw data.

    Raises:
        InputError: there is no way to them.
        TrainyardError: stage `prepare` failed.
    """
    if (tree.folder / tree.data / "card.json").is_file():
        return
    entry = origin["dvc"]["lock"].get("prepare")
    if entry is not None:
        write_whole(tree.folder / "dvc.lock", written({f"prepare@{tree.recipe}": entry}))
        for how in ("checkout", "pull"):
            if tree.dvc(how, str(tree.data)) and (tree.folder / tree.data / "card.json").is_file():
                say(f"packed data: dvc {how}")
                return
    bring_file(tree, root, str(origin["data"]["path"]))
    if (vectors := named_file(origin["block"], "prepare")) is not None:
        bring_file(tree, root, vectors)
    say("packed data: made again from the raw data")
    tree.stage("prepare")


def bring_file(tree: Tree, root: Path, name: str) -> None:
    """Have a file or folder that a recipe names in a tree: as git or DVC keeps it, else as it lies in the project.

    Raises:
        InputError: it is nowhere.
    """
    place = tree.folder / name
    if place.exists():
        return
    if (tree.folder / f"{name}.dvc").is_file() and (tree.dvc("checkout", f"{name}.dvc") or tree.dvc("pull", f"{name}.dvc")):
        return
    if not (root / name).exists():
        raise InputError(
            f"{name}: is neither in the run's commit, nor in DVC's cache or remote, nor in this project; bring it here, with "
            "`dvc pull` or by hand, then the same command again"
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to((root / name).resolve())


def _check_out(root: Path, folder: Path, commit: str) -> None:
    top = _git(
        root, "rev-parse", "--show-toplevel", problem="is in no git repository; run this in the project that made the run"
    )
    _git(
        root,
        "cat-file",
        "-e",
        f"{commit}^{{commit}}",
        problem=f"commit {commit} is not here; fetch it: git fetch --all, or "
        "reproduce the run in the repository that it was made in",
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    _git(
        root,
        "clone",
        "--quiet",
        "--shared",
        "--no-checkout",
        top,
        str(folder),
        problem="cannot be cloned; see what git says, then the same command again",
    )
    _git(
        folder,
        "checkout",
        "--quiet",
        "--detach",
        commit,
        problem=f"commit {commit} cannot be checked out; see what git says, then the same command again",
    )


def _set_params(tree: Tree, origin: Mapping[str, Any]) -> None:
    from trainyard.training.hardware import gpus, processors

    placed, have = origin["ray"], gpus()
    here = placed["workers"] * placed["cpus_per_worker"] <= processors() and (not have or placed["workers"] <= have)
    fits = here or "RAY_ADDRESS" in tree.environment()
    cluster = {"workers": placed["workers"] if fits else "auto", "cpus_per_worker": placed["cpus_per_worker"]}
    values = {
        "recipes": {tree.recipe: origin["block"]},
        "cluster": cluster if fits else {"workers": "auto"},
        "tracking": {"system_metrics": False},
    }
    # JSON is YAML: what is read again is what was read, numbers and words alike.
    write_whole(tree.folder / "params.yaml", f"{json.dumps(values, indent=2, ensure_ascii=False)}\n".encode())


def _git(folder: Path, *arguments: str, problem: str) -> str:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name == "GIT_CONFIG_GLOBAL"
    }
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        said = " ".join(done.stderr.split())[-300:]
        raise InputError(f"{folder}: {problem}" + (f" (git: {said})" if said else ""))
    return done.stdout.strip()
