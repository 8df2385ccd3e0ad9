"""Name the packages of this environment that an interrupted pip left incomplete; exit 1 where there are any.

With --forget their records are removed as well, so that pip, which takes a package with metadata for whole, installs
them again.
"""

from __future__ import annotations

import csv
import shutil
import sys
import sysconfig
from pathlib import Path


def main() -> int:
    """Look at every package."""
    site_packages = Path(sysconfig.get_path("purelib"))
    # pip renames what it is about to replace to a name that starts with a tilde.
    left = sorted(site_packages.glob("~*"))
    broken = [folder for folder in sorted(site_packages.glob("*.dist-info")) if not is_whole(folder)]
    for folder in [*left, *broken]:
        print(f"{folder.name}: installed in part")
        if "--forget" in sys.argv:
            shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
    return 1 if left or broken else 0


def is_whole(folder: Path) -> bool:
    """Tell whether every file of a package is there with the size that its record says; pip writes the record last."""
    try:
        rows = list(csv.reader((folder / "RECORD").read_text(encoding="utf-8").splitlines()))
    except OSError:
        return False
    if not (folder / "INSTALLER").exists() or not (folder / "METADATA").exists():
        return False
    for path, _, size in (row for row in rows if len(row) == 3 and not row[0].endswith(".pyc")):
        try:
            found = (folder.parent / path).stat().st_size
        except OSError:
            return False
        if size and found != int(size):
            return False
    return any(row and row[0].endswith("INSTALLER") for row in rows)


if __name__ == "__main__":
    sys.exit(main())
