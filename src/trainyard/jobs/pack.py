"""What a job takes along: the project's files as they are now, as packages that Ray unpacks on every node."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import subprocess
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from trainyard.errors import InputError
from trainyard.jobs.plan import Plan

MAX_PACKED_BYTES = 95 * 2**20
"""Ray's job server takes 100 MiB in one request."""
MAX_BYTES = 2**30
"""Of the files before they are compressed."""
LINKS = ".trainyard-links.json"
"""In a package: symbolic links, which Ray's unpacking would make files of."""
SECRETS = (
    ".env",
    ".env.*",
    ".netrc",
    "_netrc",
    ".pypirc",
    "auth_token",
    "credentials",
    "credentials.json",
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "*.key",
    "*.p12",
    "*.pem",
    "*.pfx",
)
"""Names of files that hold secrets."""
NO_INPUT = ("*.md", "docs/*", "tests/*", ".gitignore", "*/.gitignore", "dvc.lock")
"""Files that change no result. dvc.lock is what earlier runs made of the same inputs; a job's own results change it."""
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Package:
    """A zip file for Ray's package store."""

    name: str
    """Made of the content's hash, as Ray expects it."""
    content: bytes

    @property
    def uri(self) -> str:
        """What a runtime environment calls it."""
        return f"gcs://{self.name}"


def project_files(root: Path) -> tuple[list[str], list[str]]:
    """Return the files to bring, and a line about each that is left out.

    They are those that git tracks and those that it would, as they are on the disk: uncommitted work is what runs.

    Raises:
        InputError: the folder is in no git repository.
    """
    try:
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=root,
            capture_output=True,
            check=False,
        )
    except OSError:
        raise InputError("git: is not installed, and it says which files are the project's; install it") from None
    if listed.returncode:
        raise InputError(f"{root}: is in no git repository, which says which files are the project's; git init && git add .")
    names = sorted({name for name in os.fsdecode(listed.stdout).split("\0") if name})
    files, left_out = [], []
    for name in names:
        path = root / name
        if name == ".dvc/config.local" or any(fnmatch(path.name, pattern) for pattern in SECRETS):
            left_out.append(f"{name}: may hold secrets and stays here")
        elif path.is_symlink() and not _stays(root, path):
            left_out.append(f"{name}: a link out of the project, which stays here")
        elif path.is_symlink() or path.is_file():
            files.append(name)
        elif path.is_dir():
            left_out.append(f"{name}: a repository of its own, which stays here")
    return files, left_out


def check_size(root: Path, files: Sequence[str]) -> None:
    """Raise InputError where the files are too many bytes, naming the largest."""
    sizes = {name: (root / name).lstat().st_size for name in files}
    if sum(sizes.values()) > MAX_BYTES:
        raise _too_large(sizes, "files", sum(sizes.values()), MAX_BYTES)


def pack(root: Path, files: Sequence[str], within: str = "") -> Package:
    """Return the files, or those in one folder relative to it, as a package; the same files give the same bytes.

    Raises:
        InputError: they are too many bytes, or one cannot be read.
    """
    prefix = f"{within}/" if within else ""
    chosen = [name for name in files if name.startswith(prefix)]
    buffer, links = io.BytesIO(), {}
    packed: dict[str, int] = {}
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in chosen:
            path = root / name
            if path.is_symlink():
                links[name.removeprefix(prefix)] = os.readlink(path)
                continue
            # A fixed time, so that the package's name says what is in it and nothing else.
            info = zipfile.ZipInfo(name.removeprefix(prefix), (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFREG | (0o755 if os.access(path, os.X_OK) else 0o644)) << 16
            archive.writestr(info, _read(path))
            packed[name] = info.compress_size
        if links:
            archive.writestr(zipfile.ZipInfo(LINKS, (1980, 1, 1, 0, 0, 0)), json.dumps(links, sort_keys=True))
    content = buffer.getvalue()
    if len(content) > MAX_PACKED_BYTES:
        raise _too_large(packed, "compressed files", len(content), MAX_PACKED_BYTES)
    return Package(f"_ray_pkg_{hashlib.sha256(content).hexdigest()[:32]}.zip", content)


def identity(root: Path, files: Sequence[str], plan: Plan) -> str:
    """Return the name of a piece of work, 16 hex digits: the same targets of the same code, parameters and data."""
    digest = hashlib.sha256(json.dumps(sorted(plan.targets)).encode())
    for name in files:
        if not _is_input(name, plan):
            continue
        path = root / name
        content = os.readlink(path).encode() if path.is_symlink() else _read(path)
        digest.update(f"\0{name}\0{os.access(path, os.X_OK):d}\0".encode(errors="surrogateescape"))
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()[:16]


def project_id(root: Path) -> str:
    """Return the name under which all jobs of a project share caches and checkpoints on a cluster, whoever sends them."""
    roots = _git(root, "rev-list", "--max-parents=0", "HEAD")
    within = _git(root, "rev-parse", "--show-prefix") or ""
    mark = f"{roots}\0{within}" if roots else f"{os.uname().nodename}\0{root}"
    safe = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in root.name)[:40]
    return f"{safe}-{hashlib.sha256(mark.encode()).hexdigest()[:8]}"


def _is_input(name: str, plan: Plan) -> bool:
    path = PurePosixPath(name)
    if any(path.is_relative_to(dep) for dep in plan.deps):
        return True
    if any(path.is_relative_to(out) for out in plan.outs):
        return False
    return not any(fnmatch(name, pattern) for pattern in NO_INPUT)


def _stays(root: Path, link: Path) -> bool:
    return not os.path.isabs(os.readlink(link)) and link.resolve().is_relative_to(root.resolve())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); mend its permissions, or have git ignore it") from None


def _too_large(sizes: dict[str, int], what: str, found: int, limit: int) -> InputError:
    largest = sorted(sizes, key=lambda name: -sizes[name])[:SHOWN]
    lines = [f"  {name}: {sizes[name] / 2**20:,.1f} MiB" for name in largest]
    return InputError(
        "\n".join(
            [
                f"the project: {found / 2**20:,.0f} MiB of {what}, a job takes at most {limit / 2**20:,.0f} MiB along; "
                "track large ones with `dvc add`, or have git ignore them. The largest:",
                *lines,
            ]
        )
    )


def _git(root: Path, *arguments: str) -> str | None:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None
