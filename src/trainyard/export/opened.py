"""An exported file, opened to be asked: for its answer, and for all that it computes on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from trainyard.errors import IntegrityError, first_line
from trainyard.export.inputs import Inputs


class Opened(Protocol):
    """What every format is verified and timed through."""

    @property
    def form(self) -> str: ...
    @property
    def path(self) -> Path: ...

    def answer(self, inputs: Inputs) -> NDArray[np.float32]:
        """Return the logits, or the forecast, for raw inputs."""
        ...

    def inside(self, inputs: Inputs) -> list[NDArray[Any]]:
        """Return every intermediate result, in the order in which they are computed."""
        ...


class OnnxFile:
    """An ONNX file on onnxruntime."""

    def __init__(self, path: Path, form: str = "onnx", threads: int = 0) -> None:
        """Open it, to compute with so many threads; 0: as many as onnxruntime likes.

        Raises:
            IntegrityError: it is truncated, not ONNX, or points at other files.
        """
        self.path, self.form = path, form
        self.session = open_session(path, threads)

    def answer(self, inputs: Inputs) -> NDArray[np.float32]:
        """Return the logits, or the forecast, for raw inputs."""
        return run(self.session, inputs)

    def inside(self, inputs: Inputs) -> list[NDArray[Any]]:
        """Return every intermediate result: each is made an output of the graph."""
        model = onnx.load(self.path, load_external_data=False)
        known = {entry.name for entry in model.graph.output}
        names = [name for node in model.graph.node for name in node.output if name]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return [np.asarray(value) for value in session.run(names, _named(session, inputs)) if isinstance(value, np.ndarray)]


def open_session(path: Path, threads: int = 0) -> onnxruntime.InferenceSession:
    """Open an ONNX file for the processor, once it is sure that it is one whole file.

    Raises:
        IntegrityError: it is truncated, not ONNX, or points at other files.
    """
    try:
        model = onnx.load(path, load_external_data=False)
        outside = [tensor.name for tensor in model.graph.initializer if tensor.external_data]
        if outside:
            raise IntegrityError(f"{path}: keeps {outside[0]} in another file; export it again as one file")
        onnx.checker.check_model(model)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except IntegrityError:
        raise
    except Exception as error:  # protobuf, the checker and onnxruntime each have exceptions of their own, without a parent
        raise IntegrityError(f"{path}: is not a whole ONNX file ({first_line(error)}); export it again") from error


def run(session: onnxruntime.InferenceSession, inputs: Inputs) -> NDArray[np.float32]:
    """Return the logits, or the forecast, that the file gives for raw inputs."""
    logits: NDArray[np.float32] = session.run(None, _named(session, inputs))[0]
    return logits


def _named(session: onnxruntime.InferenceSession, inputs: Inputs) -> dict[str, NDArray[Any]]:
    names = [entry.name for entry in session.get_inputs()]
    return {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
