"""torch.export's archive, .pt2: the graph with its weights, for Python and C++ without this package.

What torch itself does with such a file can run code that the file brings: torch.load without weights_only for some weights
and constants, `eval` of the sizes' formulas and of guards, any function of torch as an operator. `check_archive` refuses a file
that has any of that before torch sees it; what `write_pt2` writes has none.
"""

from __future__ import annotations

import ast
import contextlib
import json
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils._sympy.numbers import int_oo
from torch.utils._sympy.value_ranges import ValueRanges

from trainyard.errors import IntegrityError, MachineError, first_line
from trainyard.export.inputs import Inputs
from trainyard.export.onnx_format import dynamic_axes
from trainyard.models.spec import InputSpec

OPERATORS = re.compile(
    r"torch\.ops\.aten\.\w+(\.\w+)?"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pow|getitem|eq|ne|lt|le|gt|ge|and_|or_|not_)"
    r"|torch\.sym_(max|min|not|sum|ite|int|float)"
)
"""What a graph may call: torch's tensor operations, and arithmetic with sizes."""
FORMULAS = re.compile(
    r"Symbol|Integer|Float|Rational|Add|Mul|Pow|Max|Min|Mod|PythonMod|ModularIndexing|(Floor|Clean|Ceil|IntTrue|FloatTrue)Div"
    r"|(Trunc|Ceil|Floor)ToInt|ToFloat|Equality|Unequality|Eq|Ne|Ge|Gt|Le|Lt|And|Or|Not|Identity|Where"
    r"|(Strict)?(Greater|Less)Than"
)
"""What a size may be computed with."""
NODE_METADATA = frozenset(("nn_module_stack", "torch_fn", "stack_trace"))
MOST_BYTES = 2**28
"""Of the graph's description."""


class Pt2File:
    """A .pt2 file in torch."""

    form = "pt2"

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            IntegrityError: it is damaged, or holds something that could run code.
        """
        self.path = path
        self.module = open_pt2(path)

    def answer(self, inputs: Inputs) -> NDArray[np.float32]:
        """Return the logits, or the forecast, for raw inputs."""
        with torch.inference_mode():
            logits: NDArray[np.float32] = self.module(*inputs).numpy()
        return logits

    def inside(self, inputs: Inputs) -> list[NDArray[Any]]:
        """Return every intermediate result."""
        return _Recorder(self.module).record(inputs)


class _Recorder(torch.fx.Interpreter):
    """Runs a graph step by step, and keeps what each step gives."""

    def record(self, inputs: Inputs) -> list[NDArray[Any]]:
        self.kept: list[NDArray[Any]] = []
        with torch.inference_mode():
            self.run(*inputs)
        return self.kept

    def run_node(self, n: torch.fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, torch.Tensor):
            self.kept.append(result.numpy().copy())
        return result


def write_pt2(network: nn.Module, spec: InputSpec, example: Inputs, path: Path) -> None:
    """Write a network, with its preprocessing, as one .pt2 file that takes any batch, and any length or image size.

    Args:
        network: takes raw inputs, in evaluation mode.
        spec: of the data.
        example: inputs of 2 or more samples; those of masks of no round size, which would be taken for a promise.
        path: the file.

    Raises:
        MachineError: the exporter cannot express a layer.
    """
    any_size = tuple(dict.fromkeys(axes, torch.export.Dim.AUTO) for axes in dynamic_axes(spec))
    # torch keeps the unrolled form of an LSTM from an earlier export in the same process, with its length as a constant.
    torch.ops.aten.lstm.input._dispatch_cache.clear()
    try:
        with warnings.catch_warnings(), torch.no_grad(), _any_length(spec):
            warnings.simplefilter("ignore")
            program = torch.export.export(network, example, dynamic_shapes=any_size)
    except Exception as error:  # dynamo, sympy and the exporter each have their own, without a parent
        raise MachineError(
            f"pt2: {first_line(error)}; torch.export cannot express the network: leave pt2 out of export.formats, or "
            "change the layer"
        ) from error
    finally:
        torch.ops.aten.lstm.input._dispatch_cache.clear()
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            # The lines of code that it comes from, with their folders on this machine.
            node.meta.pop("stack_trace", None)
    # Guards are Python that a reader would run, and the example would be a pickle.
    program._guards_code = []
    # What the example's sizes made the exporter suppose of others, such as that all images have 9 rows or more.
    for size in list(program._range_constraints):
        program._range_constraints[size] = ValueRanges(1, int_oo)
    program._example_inputs = None
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        torch.export.save(program, file)


def open_pt2(path: Path) -> torch.fx.GraphModule:
    """Return the graph in a .pt2 file, once it is sure that nothing in it can run code.

    Raises:
        IntegrityError: something could, or it is damaged.
    """
    check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = torch.export.load(path).module(check_guards=False)
    except Exception as error:  # of zip files, JSON and torch's own, without a parent
        headline = first_line(error)
        raise IntegrityError(f"{path}: is not a whole .pt2 file ({headline}); export it again") from error
    if not isinstance(module, torch.fx.GraphModule):
        raise IntegrityError(f"{path}: holds no graph; export it again")
    return module


def check_archive(path: Path) -> None:
    """Look through a .pt2 file without torch.

    Raises:
        IntegrityError: naming what is in it that could run code, or is none of ours.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            reason = _dangers(archive)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, zipfile.BadZipFile) as error:
        reason = f"is not a whole .pt2 file ({error})"
    if reason:
        raise IntegrityError(f"{path}: {reason}; nothing in it was run. Export it again, or restore it")


def _dangers(archive: zipfile.ZipFile) -> str:
    """Return what stands against loading an archive, or nothing."""
    names = archive.namelist()
    root = names[0].partition("/")[0] if names else ""
    inner = [name.removeprefix(f"{root}/") for name in names]
    if len(set(names)) < len(names) or any(not name.startswith(f"{root}/") for name in names):
        return "has two files of one name, or files beside its folder"
    if "archive_format" not in inner or archive.read(f"{root}/archive_format") != b"pt2":
        return "is not a .pt2 file of torch 2.8 or later"
    for name in inner:
        size = archive.getinfo(f"{root}/{name}").file_size
        plain = re.fullmatch(r"archive_format|archive_version|byteorder|\.data/\w+|\.format_version|\.storage_alignment", name)
        weights = re.fullmatch(
            r"data/(weights/weight_\d+|constants/tensor_\d+|(weights|constants)/model_\w+_config\.json)", name
        )
        if not (plain or weights or name == "models/model.json" or (name == "data/sample_inputs/model.pt" and not size)):
            return f"holds {name}, which may be a pickle or a library"
    for config in ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json"):
        for payload in json.loads(archive.read(f"{root}/{config}"))["config"].values():
            if payload["use_pickle"] or not re.fullmatch(r"(weight|tensor)_\d+", payload["path_name"]):
                return f"keeps {payload['path_name']} as a pickle"
    if archive.getinfo(f"{root}/models/model.json").file_size > MOST_BYTES:
        return "describes its graph at a length that no network needs"
    return next(_bad_values(json.loads(archive.read(f"{root}/models/model.json"))), "")


def _bad_values(value: Any) -> Iterator[str]:
    """Yield what a graph's description holds that torch would run."""
    if isinstance(value, list):
        for entry in value:
            yield from _bad_values(entry)
    elif isinstance(value, dict):
        if value.get("guards_code"):
            yield "brings guards, which are code"
        for key, entry in value.items():
            if key == "target" and isinstance(entry, str) and not OPERATORS.fullmatch(entry):
                yield f"calls {entry[:100]}"
            elif key == "expr_str" and isinstance(entry, str) and not _is_formula(entry):
                yield f"computes a size by {entry[:100]!r}"
            elif key == "metadata" and "target" in value and isinstance(entry, dict) and (odd := entry.keys() - NODE_METADATA):
                yield f"says {', '.join(sorted(odd))} of an operation"
            elif isinstance(entry, str) and "__enum__" in entry:
                yield "names a type that would be imported"
            else:
                yield from _bad_values(entry)


def _is_formula(text: str) -> bool:
    """Whether a text is arithmetic with numbers and named sizes, and no more."""
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError):
        return False

    def good(node: ast.expr) -> bool:
        match node:
            case ast.Constant(value=value):
                return isinstance(value, int | float)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return good(operand)
            case ast.Name(id=name):
                return bool(re.fullmatch(r"[suz]+\d+|int_oo|oo|true|false", name))
            case ast.Call(func=ast.Name(id="Symbol"), args=[ast.Constant(value=str(name))], keywords=keywords):
                return bool(re.fullmatch(r"[suz]+\d+", name)) and all(good(keyword.value) for keyword in keywords)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return bool(FORMULAS.fullmatch(name)) and all(good(argument) for argument in arguments)
        return False

    return good(tree)


@contextlib.contextmanager
def _any_length(spec: InputSpec) -> Iterator[None]:
    """Have an LSTM exported as one operation that takes any length, where the network has one."""
    if spec.kind not in ("text_classification", "forecasting"):
        yield
        return
    # torch's own, but not in its documentation: without it the cell is unrolled to the example's length.
    from torch.export._patches import register_lstm_while_loop_decomposition

    with register_lstm_while_loop_decomposition():
        yield
