"""How runs look on MLflow's own pages: their names, and with which columns, order and note an experiment opens."""

from __future__ import annotations

import getpass
import json
import re

from trainyard.data.raw import Kind
from trainyard.tasks.primary import LOWER_IS_BETTER, PRIMARY

KIND_TAG, NOTE_TAG = "mlflow.experimentKind", "mlflow.note.content"
VIEW_TAG = "mlflow.sharedViewState."
"""What its menu `Views` lists of an experiment, from MLflow 3.17 on; older ones do not know it, and show all as ever."""
RENEWED = "*Written by trainyard, and renewed by each stage; delete this line to keep the note as it is.*"
"""The end of a note that may be replaced."""
STAGES = ("train", "evaluate", "gate", "export")
MARK_DIGITS = 6
"""Of the fingerprint, in a run's name."""


def run_name(recipe: str, seed: int, fingerprint: str) -> str:
    """Return a name to read and to type: recipe, seed and the beginning of the fingerprint; of a study, its own name."""
    found = re.fullmatch(rf"{re.escape(recipe)}-([0-9a-f]{{16}})", fingerprint)
    return f"{recipe}-seed{seed}-{found[1][:MARK_DIGITS]}" if found else fingerprint


def source_tags(stage: str) -> dict[str, str]:
    """Return whose run it is, and what began it."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        user = ""
    source = f"pipeline/{stage}.py" if stage in STAGES else f"trainyard {stage}"
    return {"mlflow.source.name": source, "mlflow.source.type": "LOCAL", **({"mlflow.user": user} if user else {})}


def experiment_tags(kind: Kind, at: int) -> dict[str, str]:
    """Return the tags of an experiment that holds runs on a kind of data, for those that it does not have yet.

    Args:
        kind: of data; an experiment with recipes of several kinds gets a view for each.
        at: milliseconds since 1970.
    """
    primary = PRIMARY[kind]
    state = {
        "selectedColumns": columns(primary),
        "orderByKey": f"metrics.`test/{primary}`",
        "orderByAsc": primary in LOWER_IS_BETTER,
        "runsHiddenMode": "FIRST_20_RUNS",
    }
    # Its name and state as MLflow's own page writes them.
    view = {"name": f"Results by {primary}", "createdAt": at, "updatedAt": at, "state": json.dumps(state)}
    return {
        # Otherwise its page offers what is for language models.
        KIND_TAG: "custom_model_development",
        f"{VIEW_TAG}trainyard-{primary}": json.dumps(view),
        NOTE_TAG: (
            f"Each run is one trained state of a recipe. **Views > {view['name']}** shows the columns that matter, the best "
            "run first. `trainyard compare RUN RUN ...` says whether two runs really differ, and shows the same samples."
        ),
    }


def columns(primary: str) -> list[str]:
    """Return the columns of a table of runs: what was reached, what it was compared with, what it cost, what was varied."""
    metrics = [
        *(f"test/{primary}{end}" for end in ("", "_low", "_high")),
        f"baseline/{primary}",
        f"best/{primary}",
        "best/epoch",
        "seconds",
        "parameters",
        "export/latency_p50_ms",
    ]
    params = ["train.seed", "train.epochs", "train.batch_size", "train.learning_rate", "train.weight_decay"]
    return [
        *(f"metrics.`{name}`" for name in metrics),
        *(f"params.`{name}`" for name in params),
        "tags.`gate`",
    ]
