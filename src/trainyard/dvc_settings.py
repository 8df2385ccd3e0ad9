"""The settings of DVC in a project: its own, this clone's, the user's and the machine's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainyard.errors import InputError


def settings(folder: Path) -> dict[str, Any]:
    """Return the settings by section, as DVC reads them.

    Raises:
        InputError: they cannot be read, as where git left a merge conflict in .dvc/config.
    """
    from dvc.config import Config, ConfigError

    try:
        found: dict[str, Any] = Config(str(folder / ".dvc"))
        return found
    except ConfigError as error:
        said = " ".join(str(error).split()).removeprefix("config file error: ")
        where = folder / ".dvc"
        raise InputError(f"{where}: DVC's settings cannot be read: {said}; mend `config` or `config.local` there") from None
    except RuntimeError as error:
        # Of platformdirs, for a user without a home.
        raise InputError(f"DVC's settings cannot be read: {error}; set HOME to a folder of yours") from None
