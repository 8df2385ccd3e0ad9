"""ONNX with 8-bit integers: smaller, and faster where the processor multiplies them (Jacob 2018, arXiv:1712.05877).

Convolutions and linear layers get static ranges, one for each channel of their weights, from samples of the training split. The
cells of an LSTM are quantised as they run: their activations have no range that is known before.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from trainyard.data.packed import Split
from trainyard.errors import MachineError, first_line
from trainyard.export.inputs import raw_inputs
from trainyard.export.onnx_format import forget_origin

CALIBRATION_BATCH = 16
QUANTISED = ("Conv", "Gemm", "MatMul", "MaxPool", "Relu")
"""Operations that onnxruntime computes in 8 bits on processors. A transposed convolution is none of them, and would only be
put between two conversions."""


def write_int8(source: Path, train: Split | None, samples: int, path: Path) -> None:
    """Write a verified ONNX file with 8-bit integers; it takes and gives the same.

    Args:
        source: the file in fp32.
        train: the training split, whose activations give the ranges; None: quantised as it runs, for an LSTM.
        samples: of the training split that are looked at, spread over it.
        path: the file.

    Raises:
        MachineError: onnxruntime cannot quantise it.
    """
    # It takes a third of a second, and only this format needs it.
    from onnxruntime.quantization import quantize_dynamic, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationMethod
    from onnxruntime.quantization.quant_utils import QuantFormat, QuantType
    from onnxruntime.quantization.shape_inference import quant_pre_process

    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # it logs advice to the root of all loggers
    model = onnx.load(source)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    # What the exporter noted of shapes contradicts what quantisation infers.
    del model.graph.value_info[:]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            plain, prepared = Path(folder) / "plain.onnx", Path(folder) / "prepared.onnx"
            onnx.save_model(model, plain, save_as_external_data=False)
            if train is None:
                # 7 bits: products of 8-bit numbers overflow on processors without VNNI.
                quantize_dynamic(plain, path, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)
            else:
                quant_pre_process(plain, prepared, skip_symbolic_shape=True)
                quantize_static(
                    prepared,
                    path,
                    _Calibration(train, samples, [entry.name for entry in model.graph.input]),
                    quant_format=QuantFormat.QDQ,
                    op_types_to_quantize=list(QUANTISED),
                    per_channel=True,
                    reduce_range=True,
                    activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                    calibrate_method=CalibrationMethod.MinMax,
                )
    except Exception as error:  # onnxruntime and its quantiser have exceptions of their own, without a parent
        raise MachineError(
            f"onnx_int8: {first_line(error)}; onnxruntime cannot quantise this network: leave onnx_int8 out of export.formats"
        ) from error
    finally:
        logger.setLevel(level)
    _finish(path, metadata)


def _finish(path: Path, metadata: Mapping[str, str]) -> None:
    """Let the file say what that in fp32 says, but for its precision."""
    model = onnx.load(path)
    del model.metadata_props[:]
    for key, value in {**metadata, "precision": "int8"}.items():
        model.metadata_props.add(key=key, value=value)
    for body in (model.graph, *model.functions):
        forget_origin(body.node)
    onnx.save_model(model, path, save_as_external_data=False)


class _Calibration:
    """Raw inputs of training samples, by the names of the graph's inputs, a batch at a time."""

    def __init__(self, train: Split, samples: int, names: list[str]) -> None:
        self.train, self.names = train, names
        self.indices = spread(len(train), samples)
        self.rewind()

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._batches, None)

    def rewind(self) -> None:
        self._batches = self._all()

    def _all(self) -> Iterator[dict[str, NDArray[Any]]]:
        for start in range(0, len(self.indices), CALIBRATION_BATCH):
            inputs = raw_inputs(self.train, self.indices[start : start + CALIBRATION_BATCH])
            yield {name: value.numpy() for name, value in zip(self.names, inputs, strict=True)}


def spread(count: int, wanted: int) -> NDArray[np.int64]:
    """Return so many positions, or all where there are fewer, evenly spread over a split."""
    return np.unique(np.linspace(0, count - 1, min(wanted, count)).round().astype(np.int64))
