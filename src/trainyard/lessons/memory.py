"""A plain recurrent network against an LSTM (Bengio, Simard and Frasconi 1994; Hochreiter and Schmidhuber 1997)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import Tensor, nn

from trainyard.data.batches import Batch, gather
from trainyard.data.packed import Split
from trainyard.data.text import UNKNOWN_ID
from trainyard.evaluation.figures import BLUE, GREEN, GREY, MUTED, ORANGE, save
from trainyard.lessons.catalogue import Recipes, Table, varied
from trainyard.lessons.loop import score, train_whole, whole
from trainyard.lessons.packs import MADE_UP, Packed, packed
from trainyard.lessons.plain_rnn import build_lstm, build_plain, gates
from trainyard.lessons.style import STYLE
from trainyard.models.lstm import LSTM
from trainyard.recipe import Recipe

CLAIM = (
    "In a plain recurrent network the gradient shrinks by a factor with every step back, so it cannot learn what lies many "
    "steps apart. An LSTM's cell is passed on by a gate that can stay open: the gradient reaches farther, and it learns to "
    "say at the end of a sequence which word came first, where the plain network guesses. How far it reaches is decided by "
    "how open that gate is at the beginning."
)
CHANGE = (
    "--set copying.model.forget_gate_bias=-2: gates that begin closed forget too, and the LSTM no longer reaches far. --set "
    "copying.model.recurrent_initialisation=orthogonal: does the plain network then remember farther?"
)
LENGTHS = (5, 20, 60)
"""Steps of the sequences that are learned."""
NETWORKS = ("plain, tanh", "LSTM, forget bias 1", "LSTM, the recipe's bias")
USUAL_BIAS = 1.0
CHOICES = 8
"""Words of which one comes first."""
FITTED = slice(5, 41)
"""Steps back over which the factor of the slope is fitted: nearer ones are of the last step's own gates."""
READ = 24
"""Tokens of the text whose gates are shown, and units of which they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """By NETWORKS."""

    slopes: tuple[tuple[float, ...], ...]
    """Of the last output by the input of so many steps before, untrained; relative to that by the last input."""
    accuracy: tuple[tuple[float, ...], ...]
    """On the test split, by LENGTHS."""
    words: tuple[str, ...]
    forget: tuple[tuple[float, ...], ...]
    """Forget gate of some units (rows) at each word, of an LSTM that learned to tell libraries apart."""
    text_accuracy: float
    """Of that LSTM on the test split."""

    def factor(self, network: int) -> float:
        """Return by how much the slope is multiplied with every step back."""
        logs = np.log(np.maximum(self.slopes[network], 1e-37))
        return math.exp(np.polyfit(np.arange(len(logs))[FITTED], logs[FITTED], 1)[0])


def measure(recipes: Recipes, root: Path) -> Finding:
    """Look at slopes by distance, learn to copy over several distances, and read a text."""
    base = recipes["copying"]
    usual = varied(base, "model.forget_gate_bias", USUAL_BIAS)
    kinds = ((base, build_plain), (usual, build_lstm), (base, build_lstm))
    slopes: list[tuple[float, ...]] = []
    accuracy: tuple[list[float], ...] = tuple([] for _ in kinds)
    for length in LENGTHS:
        for index, (kind, make) in enumerate(kinds):
            recipe = varied(kind, "data.path", str(MADE_UP / f"copying-{length}.csv"))
            data = packed(recipe, root)
            network = make(recipe, data.card)
            if length == LENGTHS[-1]:
                slopes.append(_slopes(network, gather(data.train, np.arange(64))))
            train_whole(network, recipe, data.train)
            accuracy[index].append(score(network, recipe, [whole(data.test)]).accuracy)
    words, forget, text_accuracy = _read(recipes["texts"], packed(recipes["texts"], root))
    return Finding(
        slopes=tuple(slopes),
        accuracy=tuple(map(tuple, accuracy)),
        words=words,
        forget=forget,
        text_accuracy=text_accuracy,
    )


def table(finding: Finding) -> Table:
    """Return the numbers to show."""
    rows = {name: (finding.factor(index), *finding.accuracy[index]) for index, name in enumerate(NETWORKS)}
    headers = ("slope, per step back", *(f"accuracy, {length} steps" for length in LENGTHS))
    return Table(headers=headers, rows=rows)


def holds(finding: Finding) -> bool:
    """Both learn what is near; far away one guesses and the other knows most; its slope hardly shrinks."""
    plain, usual, lstm = table(finding).rows.values()
    near = min(plain[1], lstm[1]) > 0.9
    far = plain[-1] < 2.5 / CHOICES and lstm[-1] > 0.9
    return near and far and plain[0] < 0.7 and plain[0] + 0.05 < usual[0] < 0.9 and lstm[0] > 0.95


def draw(finding: Finding, path: Path) -> Path:
    """Draw slopes by distance, accuracy by length, and gates by word."""
    with rc_context(STYLE):
        figure = Figure(figsize=(11.4, 6.8), layout="constrained")
        grid = figure.add_gridspec(2, 2, height_ratios=(1, 1.15))
        slopes, accuracy = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])
        for index, (name, colour) in enumerate(zip(NETWORKS, (ORANGE, GREEN, BLUE), strict=True)):
            slopes.plot(finding.slopes[index], color=colour, linewidth=1.8, label=name)
            accuracy.plot(LENGTHS, finding.accuracy[index], "o-", color=colour, linewidth=1.8, label=name)
        slopes.set_yscale("log")
        slopes.set_ylim(1e-16, 10)
        slopes.set_title("Slope of the last output by an earlier input, untrained")
        slopes.set_xlabel("steps back")
        slopes.grid(axis="y")
        slopes.legend(loc="lower left")
        accuracy.axhline(1 / CHOICES, color=GREY, linestyle=(0, (3, 3)), linewidth=1)
        accuracy.annotate("guessing", (LENGTHS[0], 1 / CHOICES), va="bottom", color=MUTED)
        accuracy.set_ylim(0, 1.05)
        accuracy.set_xticks(LENGTHS)
        accuracy.set_title("Which of eight words came first? Test accuracy")
        accuracy.set_xlabel("steps of the sequence")
        accuracy.grid(axis="y")
        read = figure.add_subplot(grid[1, :])
        image = read.imshow(finding.forget, aspect="auto", cmap="Blues", vmin=0, vmax=1)
        read.set_xticks(range(len(finding.words)), finding.words, rotation=45, ha="right", rotation_mode="anchor")
        read.set_yticks([])
        read.set_ylabel(f"{len(finding.forget)} units")
        read.set_title("Forget gates while reading a text (dark: the cell keeps what it holds)")
        figure.colorbar(image, ax=read, pad=0.01, ticks=[0, 0.5, 1])
        return save(figure, path)


def _slopes(network: LSTM, batch: Batch) -> tuple[float, ...]:
    """Return the size of d(last output) / d(input) by steps back, relative to none back."""
    embedded: list[Tensor] = []
    hook = network.embedding.register_forward_hook(lambda layer, inputs, output: embedded.append(output))
    states = network.states(*batch.inputs)
    hook.remove()
    (slopes,) = torch.autograd.grad((states[:, -1] * torch.randn(states.shape[2])).sum(), embedded[0])
    size = slopes.double().square().sum(dim=2).mean(dim=0).sqrt().flip(0)
    return tuple((size / size[0]).tolist())


def _read(recipe: Recipe, data: Packed) -> tuple[tuple[str, ...], tuple[tuple[float, ...], ...], float]:
    """Return the words of a text, the forget gates of the units that change most as it is read, and the test accuracy."""
    from tokenizers import Tokenizer

    network = build_lstm(recipe, data.card)
    train_whole(network, recipe, data.train)
    tokenizer = Tokenizer.from_file(str(data.folder / "tokenizer.json"))
    tokens = _readable(data.test)
    layer = network.forward_layers[0]
    if not isinstance(layer, nn.LSTM):
        raise TypeError(f"{recipe.name}: gates are of an LSTM, found {type(layer).__name__}")
    forget = gates(layer, network.embedding(tokens))[0][1].T
    shown = forget.std(dim=1).argsort(descending=True)[:READ]
    words = tuple(str(tokenizer.id_to_token(token)) for token in tokens.tolist())
    accuracy = score(network, recipe, [whole(data.test)]).accuracy
    return words, tuple(tuple(values) for values in forget[shown].tolist()), accuracy


def _readable(split: Split) -> Tensor:
    """Return the first READ tokens of that long text which has the fewest words that the vocabulary does not hold."""
    texts = whole(split).inputs[0][:, :READ]
    long_enough = np.diff(split.arrays["offsets"]) >= READ
    gaps = np.where(long_enough, (texts == UNKNOWN_ID).sum(dim=1).numpy(), READ + 1)
    return texts[int(gaps.argmin())]
