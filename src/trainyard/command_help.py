"""What `--help` shows beside the options: the order of the commands, where to begin, and each command as one would type it."""

from __future__ import annotations

import typer
from typer.models import CommandInfo

GROUPS = {
    "Data and recipes": ("new", "check", "explain", "datasets", "fetch", "verify"),
    "Runs and models": ("plan", "repro", "report", "ui", "compare", "repeat", "learning-curve", "sweep", "promote"),
    "An exported model": ("predict", "serve", "web", "android"),
    "A cluster": ("submit", "jobs", "logs", "attach", "stop"),
    "Where something comes from": ("which", "reproduce"),
    "Upkeep": ("doctor", "repair", "sync", "clean"),
    "Lessons": ("lessons", "lesson"),
}
"""The commands as --help shows them, in the order in which a newcomer meets them; what is in no group comes last."""
BEGIN = (
    "Begin with what is here: dvc repro export@cnn, then trainyard report.",
    "With your own: trainyard new cats --data data/raw/cats --family cnn, then what it says at its end.",
    "Examples of a command: trainyard new --help. Pages, step by step: docs/tutorials/README.md.",
)
EXAMPLES: dict[str, tuple[str, ...]] = {
    "new": (
        "trainyard new cats --family cnn --data data/raw/cats",
        "trainyard new cells --family unet --data data/raw/cells",
        "trainyard new load --family lstm --data data/raw/load.csv --target load --horizon 24",
        "trainyard new digits28 --data mnist",
    ),
    "check": ("trainyard check", "trainyard check cats"),
    "explain": ("trainyard explain train", "trainyard explain recipes.cnn.train.learning_rate"),
    "fetch": ("trainyard fetch mnist",),
    "verify": ("trainyard verify cnn",),
    "plan": ("trainyard plan", "trainyard plan cnn train@unet"),
    "repro": ("trainyard repro", "trainyard repro train@cnn train@unet --together 2"),
    "ui": ("trainyard ui --port 5001",),
    "compare": ("trainyard compare cnn cats", "trainyard compare champions/cnn cnn"),
    "repeat": ("trainyard repeat cnn --seeds 5",),
    "learning-curve": ("trainyard learning-curve cnn --fractions 0.1,0.3,1",),
    "sweep": ("trainyard sweep cnn", "trainyard sweep cnn --apply"),
    "promote": ("trainyard promote cnn",),
    "predict": (
        "trainyard predict cnn photos/ more/one.png --out answers.parquet",
        "trainyard predict lstm new.csv",
    ),
    "serve": ("trainyard serve cnn unet",),
    "web": ("trainyard web cnn", "trainyard web cnn --no-serve --out public"),
    "android": ("trainyard android cnn",),
    "submit": ("trainyard submit evaluate@cnn --address http://head:8265",),
    "jobs": ("trainyard jobs --address http://head:8265",),
    "which": ("trainyard which models/cnn/model.onnx",),
    "reproduce": ("trainyard reproduce cnn",),
    "doctor": ("trainyard doctor", "trainyard doctor --address 10.0.0.10:6379"),
    "repair": ("trainyard repair", "trainyard repair --cache"),
    "clean": ("trainyard clean", "trainyard clean --days 0 --yes"),
    "lesson": ("trainyard lesson initialisation", "trainyard lesson cost --set train.learning_rate=0.1"),
}
"""By command; those that take nothing have none."""


def arrange(app: typer.Typer) -> None:
    """Put the commands into their groups' order, under their groups' headings, with their examples."""
    headings = {name: heading for heading, names in GROUPS.items() for name in names}
    order = list(headings)

    def name(command: CommandInfo) -> str:
        return command.name or (command.callback.__name__ if command.callback else "")

    for command in app.registered_commands:
        command.rich_help_panel = headings.get(name(command))
        if examples := EXAMPLES.get(name(command)):
            command.epilog = _paragraphs(("For example:", *examples))
    app.registered_commands.sort(key=lambda command: order.index(name(command)) if name(command) in order else len(order))
    app.info.epilog = _paragraphs(BEGIN)


def _paragraphs(lines: tuple[str, ...]) -> str:
    # A single line break would be taken for a space.
    return "\n\n".join(lines)
