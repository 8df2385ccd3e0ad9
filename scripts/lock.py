"""Write requirements.lock, -dev.lock and -sbom.lock: names, exact versions, and the sha256 of their files.

Run it with the Python of an empty virtual environment, as `make lock` does. pip resolves what pyproject.toml asks for,
and every place that pip is set up to look in (indexes, extra indexes, folders) is asked for the hashes of all wheels of
each chosen version, so that the locks hold on other platforms, and wherever those files come from. No address is
written. PIP_CONSTRAINT=<file> holds versions back, as it does for pip.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from pip._internal.commands import create_command
from pip._internal.index.collector import LinkCollector, parse_links
from pip._internal.models.link import Link
from pip._vendor.packaging.specifiers import SpecifierSet
from pip._vendor.packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from pip._vendor.packaging.version import Version

ROOT = Path(__file__).parents[1]
# torch is installed before the rest, by its pin in pyproject.toml: its build differs between machines, and with it what
# it brings along.
MACHINES_OWN = re.compile(r"torch|triton|nvidia-.*|cuda-.*")
OLDEST = "3.11.2"
"""The Python of Debian 12: what asks for a newer one is not locked, whichever Python resolves."""
HEADER = "# Written by `make lock`; do not edit."
TORCH_FIRST = " torch goes first, by its pin in pyproject.toml."


class Chosen(NamedTuple):
    """The file of a package that pip would install here."""

    version: str
    sha256: str


def main() -> None:
    """Resolve, ask for hashes, write."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = pyproject["project"]
    needed = [*project["dependencies"], *pyproject["build-system"]["requires"]]
    everything = resolve([*needed, *project["optional-dependencies"]["dev"]])
    # One set of versions for both locks: what runs is what was tested.
    run = resolve(needed, pins=[f"{name}=={chosen.version}" for name, chosen in everything.items()])
    write(ROOT / "requirements.lock", run)
    write(ROOT / "requirements-dev.lock", {name: chosen for name, chosen in everything.items() if name not in run})
    # It has an environment of its own, and agrees with nobody.
    write(ROOT / "requirements-sbom.lock", resolve(project["optional-dependencies"]["sbom"]), note="")


def resolve(requirements: list[str], pins: list[str] | None = None) -> dict[str, Chosen]:
    """Return what pip would install into an empty environment, by name."""
    held = list(pins or [])
    while True:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
            constraints.write("\n".join(held))
            constraints.flush()
            pip = [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed", "--report", "-"]
            done = subprocess.run([*pip, "-c", constraints.name, *requirements], check=True, stdout=subprocess.PIPE)
        items = json.loads(done.stdout)["install"]
        if not (new := list(too_new(items))):
            break
        print(f"asks for a newer Python than {OLDEST}: {', '.join(new)}")
        held += [pin.replace("==", "!=") for pin in new]
    found = {}
    for item in items:
        name = canonicalize_name(item["metadata"]["name"])
        if not MACHINES_OWN.fullmatch(name):
            sha256 = item["download_info"]["archive_info"]["hashes"]["sha256"]
            found[name] = Chosen(item["metadata"]["version"], sha256)
    return found


def too_new(items: list[dict[str, Any]]) -> Iterator[str]:
    """Return the packages of pip's report that the oldest Python cannot take, as name==version."""
    for metadata in (item["metadata"] for item in items):
        if OLDEST not in SpecifierSet(metadata.get("requires_python", "")):
            yield f"{metadata['name']}=={metadata['version']}"


def write(path: Path, packages: dict[str, Chosen], note: str = TORCH_FIRST) -> None:
    """Write one lock."""
    names = sorted(packages)
    command = create_command("download")
    options, _ = command.parse_args([])
    with command.main_context(), ThreadPoolExecutor(8) as pool:
        collector = LinkCollector.create(command.get_default_session(options), options=options)
        hashes = list(pool.map(lambda name: wheel_hashes(links(collector, name), packages[name]), names))
    lines = [f"{HEADER}{note}\n"]
    for name, found in zip(names, hashes, strict=True):
        pin = f"{name}=={packages[name].version}"
        lines.append(" \\\n".join([pin, *(f"    --hash=sha256:{sha256}" for sha256 in found)]) + "\n")
    path.write_text("".join(lines), encoding="utf-8")
    print(f"{path.name}: {len(packages)} packages")


def links(collector: LinkCollector, name: str) -> Iterator[Link]:
    """Return all files of a package, wherever pip is set up to look."""

    def page(link: Link) -> Iterator[Link]:
        content = collector.fetch_response(link)
        return iter(parse_links(content) if content else ())

    # pip wants candidates here; the links themselves serve, and none is left out for its platform.
    found = collector.collect_sources(name, candidates_from_page=page)
    for source in filter(None, chain(found.find_links, found.index_urls)):
        yield from source.page_candidates()
        yield from source.file_links()


def wheel_hashes(files: Iterator[Link], chosen: Chosen) -> list[str]:
    """Return the sha256 of every wheel of the chosen version, and of the file that pip chose."""
    found = {chosen.sha256}
    for link in files:
        try:
            version = parse_wheel_filename(link.filename)[1]
        except InvalidWheelFilename:
            continue
        if version != Version(chosen.version):
            continue
        if link.hash_name == "sha256" and link.hash:
            found.add(link.hash)
        elif link.is_file:
            found.add(hashlib.sha256(Path(link.file_path).read_bytes()).hexdigest())
    return sorted(found)


if __name__ == "__main__":
    main()
