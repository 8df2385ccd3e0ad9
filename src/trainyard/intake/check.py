"""`trainyard check`: whether a recipe fits the data that were read for it, and all that was found as plain values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainyard.data.check import Checked, check
from trainyard.data.problems import DataError, Problem
from trainyard.errors import InputError, IntegrityError
from trainyard.models.spec import InputSpec
from trainyard.recipe import Recipe, check_data


def check_fit(recipe: Recipe, found: Checked, root: Path) -> None:
    """See whether a recipe can be trained on what `prepare` makes of its data.

    Raises:
        InputError: it cannot.
        IntegrityError: the weights to begin with are others than it states.
    """
    # What numbers are normalised by decides about nothing that is looked at.
    columns = found.input.get("channels", found.input.get("num_features", 0))
    spec = InputSpec(
        kind=found.kind,
        classes=found.classes,
        mean=(0.0,) * columns,
        std=(1.0,) * columns,
        columns=found.columns,
        data_sha256="",
        **found.input,
    )
    check_data(recipe, spec, root)


def as_json(recipe: Recipe, root: Path, progress: Callable[[str], None] | None = None) -> tuple[dict[str, Any], int]:
    """Return what is found in a recipe's data as plain values, which any JSON writer takes, and the exit code."""
    code = 0
    samples: dict[str, int] = {}
    problems: list[Problem] = []
    try:
        found = check(recipe.data, root, progress)
        samples = found.samples
        problems += found.warnings
        check_fit(recipe, found, root)
    except DataError as error:
        problems, code = list(error.problems), error.exit_code
    except (InputError, IntegrityError) as error:
        problems.append(Problem(rule="recipe", where=recipe.name, found=str(error), expected="see there"))
        code = error.exit_code
    document = {"recipe": recipe.name, "source": recipe.data.source, "path": str(recipe.data.path), "samples": samples}
    return document | {"problems": [problem.to_json() for problem in problems]}, code
