"""Shallow against deep at equal parameters (Bengio 2009; Telgarsky 2016, arXiv:1602.04485)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from trainyard.evaluation.figures import BLUE, MUTED, ORANGE, save
from trainyard.lessons.catalogue import Recipes, Table, varied
from trainyard.lessons.dense import build_dense, parameters
from trainyard.lessons.loop import build, score, train_whole, whole
from trainyard.lessons.packs import Packed, packed
from trainyard.lessons.style import STYLE
from trainyard.models.cnn_config import CNNConfig, receptive_field
from trainyard.recipe import Recipe

CLAIM = (
    "Of two networks with as many parameters the deeper one does better. For convolutions it does: each layer sees what the "
    "one before has put together, and so more of the image. For dense layers, which see all of it at once, digits show no "
    "such gain."
)
CHANGE = "--set model.kernel_size=7: one layer then sees the whole digit, and depth is worth much less."
DEPTHS = (1, 2, 4, 6)
BUDGET = 6000
"""Parameters of each network, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """By DEPTHS."""

    convolutional: tuple[float, ...]
    """Test accuracy."""
    dense: tuple[float, ...]
    """Test accuracy."""
    fields: tuple[int, ...]
    """Receptive field of the convolutions, in pixels."""
    convolutional_parameters: tuple[int, ...]
    dense_parameters: tuple[int, ...]


def measure(recipes: Recipes, root: Path) -> Finding:
    """Train networks of each depth, convolutional and dense."""
    base = recipes["digits"]
    data = packed(base, root)
    found = [(_convolutional(base, depth, data), _dense(base, depth, data)) for depth in DEPTHS]
    return Finding(
        convolutional=tuple(conv[0] for conv, _ in found),
        dense=tuple(dense[0] for _, dense in found),
        fields=tuple(conv[2] for conv, _ in found),
        convolutional_parameters=tuple(conv[1] for conv, _ in found),
        dense_parameters=tuple(dense[1] for _, dense in found),
    )


def table(finding: Finding) -> Table:
    """Return the numbers to show."""
    rows = {}
    for index, depth in enumerate(DEPTHS):
        rows[f"{depth} layer{'s' if depth > 1 else ''}"] = (
            finding.convolutional[index],
            float(finding.fields[index]),
            float(finding.convolutional_parameters[index]),
            finding.dense[index],
            float(finding.dense_parameters[index]),
        )
    headers = ("convolutions: accuracy", "pixels seen", "parameters", "dense: accuracy", "dense: parameters")
    return Table(headers=headers, rows=rows)


def holds(finding: Finding) -> bool:
    """Four or six convolutions beat one by far, at no more parameters; dense layers gain nothing worth mentioning."""
    deep, shallow = max(finding.convolutional[2:]), finding.convolutional[0]
    flat = max(finding.dense) - finding.dense[0] < 0.05
    most = 1.1 * min(finding.convolutional_parameters + finding.dense_parameters)
    equal = max(finding.convolutional_parameters + finding.dense_parameters) < most
    return deep > shallow + 0.1 and flat and equal


def draw(finding: Finding, path: Path) -> Path:
    """Draw accuracy by depth."""
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.9), layout="constrained")
        axes = figure.subplots()
        axes.plot(DEPTHS, finding.convolutional, "o-", color=BLUE, linewidth=1.8, label="convolutions")
        axes.plot(DEPTHS, finding.dense, "s--", color=ORANGE, linewidth=1.8, label="dense layers")
        for depth, accuracy, field in zip(DEPTHS, finding.convolutional, finding.fields, strict=True):
            axes.annotate(f"sees {field} x {field}", (depth, accuracy - 0.02), va="top", ha="center", fontsize=8.5, color=MUTED)
        axes.set_xticks(DEPTHS)
        axes.set_xlim(0.5, 6.5)
        axes.set_ylim(max(0.0, min(finding.convolutional) - 0.15), 1.02)
        axes.set_xlabel("hidden layers")
        axes.set_ylabel("test accuracy")
        axes.set_title(f"About {BUDGET:,} parameters, in few layers or in many")
        axes.grid(axis="y")
        axes.legend(loc="lower right")
        return save(figure, path)


def _convolutional(base: Recipe, depth: int, data: Packed) -> tuple[float, int, int]:
    """Return test accuracy, parameters and receptive field."""
    recipe = varied(base, "model.convolutions", depth)

    def size(width: int) -> int:
        return parameters(build(varied(recipe, "model.widths", (width,)), data.card))

    chosen = varied(recipe, "model.widths", (_nearest(size),))
    network = build(chosen, data.card)
    train_whole(network, chosen, data.train)
    accuracy = score(network, chosen, [whole(data.test)]).accuracy
    if not isinstance(chosen.model, CNNConfig):
        raise TypeError(f"{chosen.name}: convolutions are counted of a CNN")
    return accuracy, parameters(network), receptive_field(chosen.model)


def _dense(base: Recipe, depth: int, data: Packed) -> tuple[float, int]:
    """Return test accuracy and parameters."""
    widths = (_nearest(lambda width: parameters(build_dense(base, data.card, (width,) * depth))),) * depth
    network = build_dense(base, data.card, widths)
    train_whole(network, base, data.train)
    return score(network, base, [whole(data.test)]).accuracy, parameters(network)


def _nearest(size: Callable[[int], int]) -> int:
    """Return the width at which a network has about BUDGET parameters."""
    low, high = 1, BUDGET
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) <= BUDGET else (low, middle)
    return min((low, high), key=lambda width: abs(size(width) - BUDGET))
