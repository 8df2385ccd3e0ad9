"""Print the part of a requirements.lock that some packages are in, with their hashes: what an image needs that does one thing.

python scripts/part_of_lock.py requirements.lock deploy/serving/packages.txt
"""

from __future__ import annotations

import re
import sys
from pathlib import Path


def main() -> None:
    """Read a lock and a list of names, one a line; exit with 2 where one is not locked."""
    lock, names = (Path(argument).read_text(encoding="utf-8") for argument in sys.argv[1:3])
    wanted = {_plain(name) for name in names.split()}
    # A line that ends with a backslash goes on in the next one.
    blocks = re.finditer(r"^([\w.-]+)==(?:.*\\\n)*.*\n?", lock, flags=re.MULTILINE)
    found = {_plain(block[1]): block[0] for block in blocks}
    if missing := sorted(wanted - found.keys()):
        sys.stderr.write(f"{sys.argv[1]}: does not lock {', '.join(missing)}; correct {sys.argv[2]}\n")
        sys.exit(2)
    sys.stdout.write("".join(found[name] for name in sorted(wanted)))


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
