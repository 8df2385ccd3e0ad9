"""Block `gate` of a recipe, which may be left out: how good a model must be to be exported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """What is asked of a model's primary metric on the test split."""

    minimum: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """The least value of the metric; for an error such as MSE, the most. None: any value will do."""
    baseline: bool = True
    """Refuse a model that is worse than its baseline: the 95 % interval of their difference leaves out 0."""
    champion: bool = True
    """Refuse a model that is worse than the recipe's champion, by the same rule, where there is one."""
    on_fail: Literal["stop", "warn"] = "stop"
    """stop: the pipeline ends here, with exit code 6, and nothing is exported. warn: it says so and goes on."""
