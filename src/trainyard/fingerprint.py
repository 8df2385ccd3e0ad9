"""The identity of a training: its parameters, its data and the code that can change its result."""

from __future__ import annotations

import ast
import hashlib
import json
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from trainyard.data.raw import Kind
from trainyard.recipe import Recipe

RESULT_FREE = (
    # They turn params.yaml into values, and the values themselves are compared.
    "trainyard.params",
    "trainyard.recipe",
    "trainyard.errors",
    "trainyard.files",
    "trainyard.lean",
    "trainyard.data.sources",
    # It says what is wrong; what is left out for it, the sources decide.
    "trainyard.data.problems",
    "trainyard.evaluation.config",
    "trainyard.evaluation.gate_config",
    "trainyard.export.config",
    # They pass on what a training says while it runs, and say when it is saved.
    "trainyard.training.fault",
    "trainyard.training.pace",
    "trainyard.training.recorder",
    "trainyard.training.relay",
    "trainyard.training.spool",
    # They bring checkpoints away and back, and a hash sees to it that they are the same.
    "trainyard.training.saver",
    "trainyard.training.store",
    "trainyard.training.object_store",
    "trainyard.training.trace",
    "trainyard.training.trail",
)
"""Modules that a stage uses, and that cannot change what comes out of it."""

ROOTS: dict[str, tuple[str, ...]] = {
    # What is fetched has the hash that its descriptor states; what becomes of it depends on these two.
    "prepare": ("trainyard.data.prepare", "trainyard.data.{source}", "trainyard.data.unpack", "trainyard.data.arrange"),
    "train": ("trainyard.training.fit",),
    "evaluate": ("trainyard.evaluation.evaluate", "trainyard.models.saved"),
    "gate": ("trainyard.evaluation.gate",),
    "export": ("trainyard.export.export", "trainyard.models.saved"),
}
"""Where each stage's own work begins."""

TASKS: dict[Kind, str] = {
    "image_classification": "classification",
    "segmentation": "segmentation",
    "text_classification": "classification",
    "forecasting": "forecasting",
}
"""The task that learns from each kind of data."""


def stage_code(stage: str, recipe: Recipe) -> set[str]:
    """Return the names of all modules of ours that can change what a stage makes of a recipe.

    These are the imports that its roots reach, without those of other families and tasks, which `recipe.py`
    and the `build.py` files name but do not use here.
    """
    others: set[str] = set()
    for package, own, all_of_them in (
        ("models", recipe.family, ("cnn", "unet", "lstm")),
        ("tasks", TASKS[recipe.kind], tuple(TASKS.values())),
    ):
        others.update(f"trainyard.{package}.{name}" for name in all_of_them if name != own)
    others.update(f"{name}_config" for name in tuple(others))
    roots = tuple(root.format(source=recipe.data.source) for root in ROOTS[stage])
    return _reachable(roots, others | set(RESULT_FREE))


def code_sha256(modules: set[str]) -> str:
    """Return one hash over the source of modules."""
    digest = hashlib.sha256()
    for name in sorted(modules):
        digest.update(name.encode() + b"\0" + hashlib.sha256(source_path(name).read_bytes()).digest())
    return digest.hexdigest()


def fingerprint(recipe: Recipe, data_sha256: str) -> str:
    """Return the name of a training state: `<recipe>-<16 hex digits>`.

    Changing anything that can change the trained weights changes it; `evaluate` and `export` cannot.
    """
    values = recipe.to_json()
    parts = {
        "libraries": {name: version(name) for name in ("torch", "pytorch-lightning")},
        "model": values["model"],
        "train": values["train"],
        "family": recipe.family,
        "data": data_sha256,
        "code": code_sha256(stage_code("train", recipe)),
    }
    return f"{recipe.name}-{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]}"


def source_path(module: str) -> Path:
    """Return the file of a module, without importing it."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(module)
    return Path(spec.origin)


def _reachable(roots: tuple[str, ...], excluded: set[str]) -> set[str]:
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name in found or name in excluded:
            continue
        found.add(name)
        waiting.extend(_imports(name))
    return found


def _imports(module: str) -> set[str]:
    """Return the modules of ours that a module names in its imports, at its top and within functions."""
    found = set()
    for node in ast.walk(ast.parse(source_path(module).read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("trainyard"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = node.module.count(".") < 2 and _is_module(inner)
                found.add(inner if is_module else node.module)
    return {name for name in found if source_path(name).name != "__init__.py"}


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False
