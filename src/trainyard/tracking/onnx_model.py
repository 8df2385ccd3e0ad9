"""The exported bundle as a model of MLflow's that takes raw inputs; told twice, it is there once.

It is no pickle: MLflow loads `tracking/raw_model.py`, which lies in the model with all of ours that it needs.
"""

from __future__ import annotations

import ast
import json
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pyfunc
import pandas as pd
from mlflow.entities import LoggedModelStatus
from mlflow.models import Model, ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array

from trainyard.export.bundle import SERVED, read_bundle
from trainyard.serving.answers import forecast_column
from trainyard.tracking.raw_model import SERIES, STEP, series_columns

ENTRY_TAG = "trainyard.entry"
LOADER = "trainyard.tracking.raw_model"
LIBRARIES = ("numpy", "onnxruntime", "pandas", "PIL", "tokenizers", "pydantic", "ruamel")
"""Modules of others that the loader's modules import; those that it does not need are not required."""
PACKAGE = Path(__file__).parents[1]


def log(client: MlflowClient, uri: str, run_id: str, name: str, folder: Path, mark: str) -> str:
    """Log the bundle in a folder, unless `mark` says that it is there; return MLflow's name of the model.

    Raises:
        MlflowException: the store did not answer, or refused it.
        IntegrityError: a file of the bundle is not the one that was written.
        OSError: a file cannot be read, or the store cannot be reached.
    """
    experiment = client.get_run(run_id).info.experiment_id
    for found in client.search_logged_models([experiment], filter_string=f"tags.`{ENTRY_TAG}` = '{mark}'"):
        if found.status == LoggedModelStatus.READY:
            return str(found.model_id)
        # An attempt that was cut off.
        client.delete_logged_model(found.model_id)
    about = read_bundle(folder, SERVED)
    stated = json.loads((folder / "preprocessing" / "constants.json").read_text(encoding="utf-8"))
    mlflow.set_tracking_uri(uri)
    # Otherwise the model would be one of the default experiment, with its files under the current folder.
    mlflow.set_experiment(experiment_id=experiment)
    with tempfile.TemporaryDirectory(prefix="trainyard-code-") as temporary:
        code, needed = copy_code(Path(temporary))
        logged = Model.log(
            artifact_path=None,
            name=name,
            flavor=mlflow.pyfunc,
            # Not as the open run of this process, which would be ended anew.
            run_id=run_id,
            tags={ENTRY_TAG: mark},
            loader_module=LOADER,
            data_path=str(folder),
            code_paths=[str(code)],
            signature=signature(stated, about["kind"]),
            input_example=example(folder, stated, about["kind"]),
            pip_requirements=needed,
            metadata={key: about[key] for key in ("recipe", "family", "kind", "fingerprint", "data_sha256", "temperature")},
        )
    return str(logged.model_id)


def signature(stated: dict[str, Any], kind: str) -> ModelSignature:
    """Return what a bundle takes and gives, as a table."""
    numbers = Array(DataType.double)
    match kind:
        case "image_classification" | "segmentation":
            inputs = [ColSpec(DataType.binary, "image")]
        case "text_classification":
            inputs = [ColSpec(DataType.string, name) for name in stated["raw"]["columns"]]
        case _:
            columns = stated["input"]["values"]["columns"]
            inputs = [ColSpec(DataType.double, name) for name in columns]
            names = series_columns(stated["raw"]["series"], columns)
            inputs += [ColSpec(DataType.string, name, required=False) for name in names]
    if kind == "segmentation":
        outputs = [ColSpec(DataType.binary, "mask"), ColSpec(DataType.double, "confidence"), ColSpec(numbers, "shares")]
    elif kind == "forecasting":
        targets = stated["inside_the_graph"]["targets"]
        outputs = [
            ColSpec(DataType.string, SERIES, required=False),
            ColSpec(DataType.long, STEP),
            *(ColSpec(DataType.double, forecast_column(name, (SERIES, STEP))) for name in targets),
        ]
    else:
        outputs = [
            ColSpec(DataType.string, "label"),
            ColSpec(DataType.double, "probability"),
            ColSpec(numbers, "probabilities"),
        ]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs))


def example(folder: Path, stated: dict[str, Any], kind: str) -> pd.DataFrame:
    """Return the first of the bundle's samples as a table of raw inputs."""
    expected = json.loads((folder / "samples" / "expected.json").read_text(encoding="utf-8"))
    file = folder / "samples" / expected["samples"][0]["file"]
    if kind == "forecasting":
        return pd.read_csv(file).astype(float)
    if kind == "text_classification":
        first, *others = stated["raw"]["columns"]
        return pd.DataFrame({first: [file.read_text(encoding="utf-8")], **{name: [""] for name in others}})
    return pd.DataFrame({"image": [file.read_bytes()]})


def copy_code(folder: Path) -> tuple[Path, list[str]]:
    """Copy the modules of ours that the loader needs; return their package, and the libraries they need with their versions."""
    package = folder / "trainyard"
    distributions = packages_distributions()
    needed: set[str] = set()
    for path in sorted(code(PACKAGE)):
        target = package / path.relative_to(PACKAGE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        needed.update(name for name in _imported(path) if name in LIBRARIES)
    required = sorted({distributions[name][0] for name in needed if name in distributions})
    return package, [f"{name}=={version(name)}" for name in required]


def code(package: Path) -> set[Path]:
    """Return the files of ours that the loader needs: all that its imports reach, but what is there for types alone."""
    found: set[Path] = set()
    waiting = [LOADER]
    while waiting:
        path = _source(package, waiting.pop())
        if path is None or path in found:
            continue
        found.add(path)
        found.update(parent / "__init__.py" for parent in path.parents if parent.is_relative_to(package))
        waiting += [name for name in _imported(path, whole=True) if name.startswith("trainyard")]
    return {path for path in found if path.is_file()}


def _source(package: Path, module: str) -> Path | None:
    path = package.joinpath(*module.split(".")[1:])
    return next((one for one in (path.with_suffix(".py"), path / "__init__.py") if one.is_file()), None)


def _imported(path: Path, *, whole: bool = False) -> Iterator[str]:
    """Yield the modules that a file imports, at its top and within functions: their first names, or the whole of them."""
    for node in _statements(ast.parse(path.read_bytes())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            yield name if whole else name.partition(".")[0]


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes but those that only a type checker sees."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from _statements(child)
