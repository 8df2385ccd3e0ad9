"""What `make bench` shows: the figures with their ratios, all values, and a chart."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

from bench_result import Part

OUTSIDE, MEMORY = "train stage, beside its steps", "train stage, memory of all processes"
LESS = ("ms a step", "s", "GiB")
"""Units of which less is better."""


@dataclass(frozen=True)
class Figure:
    """One line of the first table: a side of a part, against another one or against a number."""

    measure: str
    part: str
    side: str
    against: str = ""
    goal: float = 0.0
    """What is to be reached; 0: nothing is asked, the line says where a gain comes from."""
    kind: str = "times"
    """times: how many times as good; overhead: how much worse, of one; value: the value itself, at most."""

    def value(self, part: Part) -> float:
        own = part.sides[self.side]
        if self.kind == "value":
            return statistics.median(own)
        other = part.sides[self.against]
        if len(own) == len(other):
            # Runs next to each other met the same machine: their ratios differ less than the runs do.
            ratio = statistics.median(mine / others for mine, others in zip(own, other, strict=True))
        else:
            ratio = statistics.median(own) / statistics.median(other)
        times = 1 / ratio if part.unit in LESS else ratio
        return 1 / times - 1 if self.kind == "overhead" else times

    def shown(self, value: float, unit: str) -> str:
        match self.kind:
            case "times":
                return f"{value:.2f} x"
            case "overhead":
                return f"{value:+.1%}"
            case _:
                return f"{value:.1f} {unit}"

    def asked(self, unit: str) -> str:
        sign = ">=" if self.kind == "times" else "<="
        return f"{sign} {self.shown(self.goal, unit).lstrip('+')}" if self.goal else ""

    def reached(self, value: float) -> bool:
        return value >= self.goal if self.kind == "times" else value <= self.goal


def _family(name: str, title: str, goal: float) -> list[Figure]:
    return [
        Figure(f"{title} training, samples/s", name, "trainyard", "tutorial", goal),
        Figure(f"{title}, the tutorial given our arithmetic", name, "trainyard", "tutorial, our arithmetic"),
        Figure(f"{title}, trainyard in fp32", name, "trainyard, fp32", "tutorial"),
        Figure(f"{title} training, samples/s", name, "trainyard", "lightning"),
        Figure(f"{title}, seconds over a raw loop", name, "trainyard", "raw loop", kind="overhead"),
    ]


FIGURES = [
    *_family("cnn", "CNN", 4.0),
    *_family("unet", "U-Net", 3.5),
    *_family("lstm", "LSTM", 1.8),
    Figure("streamed data: CNN", "cnn", "trainyard", "trainyard, data streamed"),
    Figure("not compiled: CNN", "cnn", "trainyard, compiled", "trainyard"),
    Figure("streamed data: U-Net", "unet", "trainyard", "trainyard, data streamed"),
    Figure("not compiled: U-Net", "unet", "trainyard, compiled", "trainyard"),
    Figure("steps of 20 ms, over a raw loop", "step of 20 ms", "trainyard", "raw loop", 0.03, "overhead"),
    Figure("steps of 2 ms, over a raw loop", "step of 2 ms", "trainyard", "raw loop", 0.10, "overhead"),
    Figure("steps of 2 ms, Lightning as it comes", "step of 2 ms", "trainyard", "lightning", 1.3),
    Figure("steps of 2 ms, Lightning given our arithmetic", "step of 2 ms", "trainyard", "lightning, our arithmetic", 1.3),
    Figure("two workers of a thread each", "workers", "two workers", "one process, two threads", 0.95),
    Figure("MNIST to 99 % from a PNG folder", "MNIST to 99 %", "trainyard", "tutorial", 5.0),
    Figure("CIFAR-10 to 93 % from a JPEG folder", "CIFAR-10 to 93 %", "trainyard", "tutorial"),
    Figure("train stage beside its steps, two workers", OUTSIDE, "two workers", goal=12.0, kind="value"),
    Figure("train stage beside its steps, in process", OUTSIDE, "no workers", goal=7.0, kind="value"),
    Figure("dvc repro with nothing to do", "dvc repro, nothing to do", "dvc repro", goal=2.0, kind="value"),
    Figure("peak memory of a train stage, two workers", MEMORY, "two workers", goal=2.5, kind="value"),
]


def figures(parts: list[Part]) -> list[dict[str, object]]:
    """Return the first table's lines, of what was measured."""
    by_name = {part.name: part for part in parts}
    lines = []
    for figure in FIGURES:
        part = by_name.get(figure.part)
        if part is None or not part.sides.get(figure.side) or (figure.against and not part.sides.get(figure.against)):
            continue
        value = figure.value(part)
        lines.append(
            {
                "measure": figure.measure,
                "against": figure.against,
                "value": value,
                "shown": figure.shown(value, part.unit),
                "asked": figure.asked(part.unit),
                "reached": figure.reached(value) if figure.goal else None,
            }
        )
    return lines


def tables(parts: list[Part]) -> str:
    """Return both tables and what was left out, as Markdown."""
    lines = ["| measure | against | measured | to reach | |", "|---|---|---|---|---|"]
    for line in figures(parts):
        verdict = {True: "reached", False: "missed", None: ""}[line["reached"]]  # type: ignore[index]
        lines.append(f"| {line['measure']} | {line['against']} | {line['shown']} | {line['asked']} | {verdict} |")
    lines += ["", "| part | side | median | least to most | runs |", "|---|---|---|---|---|"]
    for part in parts:
        for side, values in part.sides.items():
            least, most = min(values), max(values)
            lines.append(
                f"| {part.name} | {side} | {number(statistics.median(values))} {part.unit} | "
                f"{number(least)} to {number(most)} | {len(values)} |"
            )
    notes = [
        f"- {part.name}: {fact} {value}"
        for part in parts
        for fact, value in part.facts.items()
        if isinstance(value, bool | int)
    ]
    notes += [f"- {part.name}: left out, {part.skipped}" for part in parts if part.skipped]
    notes += [f"- {part.name}: FAILED, {part.failed}" for part in parts if part.failed]
    return "\n".join([*lines, "", *notes])


def number(value: float) -> str:
    """Return a number with three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def draw(parts: list[Part], about: str, path: Path) -> None:
    """Draw the median of each side, with a line from its least to its most, a panel for each part."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    shown = [part for part in parts if part.sides]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(4.6 * columns, 2.3 * rows), layout="constrained", squeeze=False)
    for axis, part in zip(axes.flat, shown, strict=False):
        names = list(part.sides)[::-1]
        medians = [statistics.median(part.sides[name]) for name in names]
        colours = ["#2f6db3" if name.startswith(("trainyard", "two workers", "dvc")) else "#b9c2cc" for name in names]
        axis.barh(names, medians, color=colours, height=0.7)
        for place, name in enumerate(names):
            values = part.sides[name]
            axis.plot([min(values), max(values)], [place, place], color="#222222", linewidth=1)
            axis.annotate(
                number(medians[place]), (max(values), place), (4, 0), textcoords="offset points", va="center", fontsize=8
            )
        better = "less is better" if part.unit in LESS else "more is better"
        axis.set_title(f"{part.name}: {part.unit}, {better}", fontsize=9, loc="left")
        # A lone bar is no thicker than others.
        middle, half = (len(names) - 1) / 2, max(len(names), 3) / 2
        axis.set_ylim(middle - half, middle + half)
        axis.set_xlim(0, 1.18 * max(max(values) for values in part.sides.values()))
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in list(axes.flat)[len(shown) :]:
        axis.set_visible(False)
    figure.suptitle(about, fontsize=9, x=0.01, ha="left")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
