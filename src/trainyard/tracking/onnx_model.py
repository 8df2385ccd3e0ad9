"""The exported model as a model of MLflow's; told twice, it is there once."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import mlflow
import mlflow.onnx
import numpy as np
import onnx
from mlflow.entities import LoggedModelStatus
from mlflow.models import Model, infer_signature
from mlflow.tracking import MlflowClient

ENTRY_TAG = "trainyard.entry"


def log(client: MlflowClient, uri: str, run_id: str, name: str, folder: Path, mark: str) -> None:
    """Log folder/model.onnx, with the example and its logits in folder/example.npz, unless `mark` says that it is there.

    Raises:
        MlflowException: the store did not answer, or refused it.
        OSError: a file cannot be read, or the store cannot be reached.
    """
    experiment = client.get_run(run_id).info.experiment_id
    for found in client.search_logged_models([experiment], filter_string=f"tags.`{ENTRY_TAG}` = '{mark}'"):
        if found.status == LoggedModelStatus.READY:
            return
        # An attempt that was cut off.
        client.delete_logged_model(found.model_id)
    with np.load(folder / "example.npz", allow_pickle=False) as arrays:
        example = {key: arrays[key] for key in arrays.files if key != "logits"}
        logits = arrays["logits"]
    mlflow.set_tracking_uri(uri)
    # Otherwise the model would be one of the default experiment, with its files under the current folder.
    mlflow.set_experiment(experiment_id=experiment)
    # Not by mlflow.onnx.log_model, which takes a run only as the open one of this process, and would end it anew.
    Model.log(
        artifact_path=None,
        name=name,
        flavor=mlflow.onnx,
        run_id=run_id,
        tags={ENTRY_TAG: mark},
        onnx_model=onnx.load(folder / "model.onnx"),
        signature=infer_signature(example, {"logits": logits}),
        input_example=example,
        pip_requirements=[f"{library}=={version(library)}" for library in ("onnxruntime", "numpy")],
        onnx_execution_providers=["CPUExecutionProvider"],
        save_as_external_data=False,
    )
