"""DVC's cache, hashed anew: DVC itself trusts a file there by its mode, and hands a damaged one out again and again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.dvc_lock import LOCK, read_lock
from trainyard.dvc_settings import settings
from trainyard.errors import InputError, IntegrityError
from trainyard.inputs import read_mapping
from trainyard.provenance import file_md5

FOLDER_SUFFIX = ".dir"
READ_ONLY = 0o444
"""By which DVC knows a file of its cache as finished."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One file that the project's results are made of, and where it is."""

    name: str
    """Its path in the project."""
    md5: str
    place: Path
    """In the cache."""
    needed: bool
    """Whether it is an error that the cache does not have it; metrics are kept by git as well."""
    made: bool
    """By a stage, which can make it again."""


def verify_cache(folder: Path) -> str:
    """Hash every file of the cache that dvc.lock or a *.dvc file names, and return how many there are.

    Raises:
        InputError: there is no project in `folder`.
        IntegrityError: listing those that are damaged or missing.
    """
    if not (folder / ".dvc").is_dir():
        raise InputError(f"{folder}: is no DVC project (there is no folder .dvc); change to the project's folder")
    named = list(_named(folder))
    problems = [f"{kept.name}: {problem} ({kept.place})" for kept in named if (problem := _problem(kept)) is not None]
    if problems:
        more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
        lines = "".join(f"\n  {problem}" for problem in problems[:20])
        raise IntegrityError(
            f"cache: {len(problems)} of {len(named)} files are not what {LOCK} names:{lines}{more}\n"
            "put right, or make again, what can be: trainyard repair --cache && dvc repro"
        )
    return f"cache: OK, {len(named):,} files as {LOCK} names them"


def mend_cache(folder: Path) -> list[str]:
    """Put damaged files of the cache back from the project's own folder, or delete them, so that they are made again.

    What stages made and was damaged in the project's folder is deleted there too. Raw data are left as they are: where they
    are a link to a damaged file of the cache, it takes the link's place.
    """
    recorded = (folder / LOCK).stat().st_mtime if (folder / LOCK).is_file() else 0.0
    done = []
    for copies in list(_by_content(folder)):
        # Nobody makes raw data again, though a stage may have made a copy of them.
        kept = min(copies, key=lambda copy: (copy.made, not copy.needed))
        rotten = [copy for copy in copies if _is_rotten(copy, folder / copy.name, recorded)]
        if (problem := _problem(kept)) is not None:
            whole = (_whole_copy(copy, folder / copy.name) for copy in copies)
            if (content := next((copy for copy in whole if copy is not None), None)) is not None:
                kept.place.unlink(missing_ok=True)
                _put(content, kept.place)
                end = "put back from the project's folder"
            else:
                _take_links_away(copies, folder)
                kept.place.unlink(missing_ok=True)
                end = "`dvc pull` fetches it; or put the original back and `dvc add` it"
                if kept.made:
                    end = "`dvc repro` makes it again"
            done.append(f"cache: {kept.name}: {problem}; {end}")
        for copy in rotten:
            if os.path.lexists(folder / copy.name):
                (folder / copy.name).unlink()
                end = "deleted, `dvc repro` puts it back or makes it again"
                done.append(f"{copy.name}: is damaged in the project's folder; {end}")
    return done


def _take_links_away(copies: list[Kept], folder: Path) -> None:
    """Have nothing of the project lead to a file of the cache, for DVC stops at a link that leads nowhere."""
    for copy in copies:
        source = folder / copy.name
        if not source.is_symlink() or source.resolve() != copy.place.resolve():
            continue
        if copy.made or not copy.place.is_file():
            source.unlink()
            continue
        aside = source.with_name(f".{source.name}.{os.getpid()}.tmp")
        shutil.copyfile(copy.place, aside)
        os.replace(aside, source)


def _is_rotten(kept: Kept, source: Path, recorded: float) -> bool:
    """Return whether a stage's file is not as recorded though nothing has written it since."""
    if not kept.made or kept.md5.endswith(FOLDER_SUFFIX) or not source.is_file() or source.stat().st_mtime > recorded:
        return False
    return file_md5(source) != kept.md5


def _whole_copy(kept: Kept, source: Path) -> bytes | Path | None:
    """Return what a file of the cache held, from the project's folder, or None where that has it no longer."""
    if not kept.md5.endswith(FOLDER_SUFFIX):
        return source if source.is_file() and file_md5(source) == kept.md5 else None
    files = sorted((file.relative_to(source).parts, file) for file in source.rglob("*") if file.is_file())
    listed = [{"md5": file_md5(file), "relpath": "/".join(parts)} for parts, file in files]
    content = json.dumps(listed, sort_keys=True).encode()
    wanted = kept.md5.removesuffix(FOLDER_SUFFIX)
    return content if hashlib.md5(content, usedforsecurity=False).hexdigest() == wanted else None


def _named(folder: Path) -> Iterator[Kept]:
    """Yield every file that dvc.lock or a *.dvc file names, once."""
    yield from (copies[0] for copies in _by_content(folder))


def _by_content(folder: Path) -> Iterable[list[Kept]]:
    """Return all that dvc.lock or a *.dvc file names, that of the same content together."""
    cache = cache_folder(folder)
    found: dict[str, list[Kept]] = {}
    for out, needed, made in _outputs(folder):
        md5 = str(out.get("md5") or "")
        if not md5 or out.get("hash") != "md5":
            continue
        kept = Kept(str(out["path"]), md5, place_of(cache, md5), needed, made)
        for part in (kept, *(_inner(kept, cache) if md5.endswith(FOLDER_SUFFIX) else ())):
            found.setdefault(part.md5, []).append(part)
    return found.values()


def _outputs(folder: Path) -> Iterator[tuple[dict[str, Any], bool, bool]]:
    """Yield what is recorded of each output, whether the cache must have it, and whether a stage made it."""
    entries = read_lock(folder)
    uncached = _uncached(folder)
    for stage, entry in entries.items():
        for out in entry.get("outs") or []:
            yield out, (stage.partition("@")[0], Path(out["path"]).name) not in uncached, True
    for path in sorted(folder.rglob("*.dvc")):
        if path.is_file() and not {".dvc", ".venv", ".trainyard"} & set(path.relative_to(folder).parts[:-1]):
            for out in read_mapping(path).get("outs") or []:
                yield {**out, "path": str((path.parent / out["path"]).relative_to(folder))}, True, False


def _uncached(folder: Path) -> set[tuple[str, str]]:
    """Return (stage, file name) of what dvc.yaml leaves to git with `cache: false`."""
    found = set()
    for stage, described in (read_mapping(folder / "dvc.yaml").get("stages") or {}).items():
        body = described.get("do", described)
        for part in ("outs", "metrics", "plots"):
            for out in body.get(part) or []:
                if isinstance(out, dict):
                    found |= {(stage, Path(path).name) for path, options in out.items() if options.get("cache") is False}
    return found


def _inner(kept: Kept, cache: Path) -> list[Kept]:
    """Return the files of a folder; none where its list is damaged, which is an error of its own."""
    try:
        listed = json.loads(kept.place.read_text(encoding="utf-8"))
        return [
            Kept(f"{kept.name}/{file['relpath']}", file["md5"], place_of(cache, file["md5"]), True, kept.made)
            for file in listed
        ]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def _problem(kept: Kept) -> str | None:
    if not kept.place.is_file():
        return "is missing" if kept.needed else None
    found = file_md5(kept.place)
    wanted = kept.md5.removesuffix(FOLDER_SUFFIX)
    return None if found == wanted else f"is damaged, {kept.place.stat().st_size:,} bytes"


def place_of(cache: Path, md5: str) -> Path:
    """Return where a cache has a content."""
    return cache / "files" / "md5" / md5[:2] / md5[2:]


def cache_folder(folder: Path) -> Path:
    """Return DVC's cache, which several projects may share.

    Raises:
        InputError: DVC's settings cannot be read.
    """
    path = Path(settings(folder)["cache"].get("dir") or "cache")
    return path if path.is_absolute() else folder / ".dvc" / path


def _put(content: bytes | Path, place: Path) -> None:
    """Write a file of the cache so that it is seen whole or not at all."""
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f"{place.name}.{os.getpid()}.tmp")
    if isinstance(content, Path):
        shutil.copyfile(content, temporary)
    else:
        temporary.write_bytes(content)
    temporary.chmod(READ_ONLY)
    os.replace(temporary, place)
