"""How figures of lessons look: as those of a report, but that powers of ten on logarithmic axes are set as such."""

from __future__ import annotations

from typing import Any

from trainyard.evaluation import figures

STYLE: dict[Any, Any] = {**figures.STYLE, "text.parse_math": True}
