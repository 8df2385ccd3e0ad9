"""A descriptor: a YAML file that says where a published data set is, what its bytes hash to, and how it is unpacked.

`data.path` of any source may name one, such as data/catalogue/mnist.yaml. DVC watches that file, and its hashes pin the
content, so the data are fetched once and prepared again only when the descriptor changes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from hashlib import sha256
from json import dumps
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from trainyard.params import Count, Params, Positive

SUFFIXES = (".yaml", ".yml")
ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip", ".gz")
"""What can be unpacked."""
UNPACK_RULES = 1
"""Counted up when the same archive would be unpacked or arranged into other files; it is part of the key."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
"""Of a folder: letters, digits, - and _."""
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$")]
"""Of a file, without a folder."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
MD5 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """Under which terms the data may be used."""

    name: str
    url: str
    """Of its text, or of the page that states it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpack:
    """How an archive becomes files; what goes past a limit is refused."""

    into: str = "."
    """Folder, relative to that of the data set."""
    most_bytes: Count = 20 * 10**9
    """Of all members together, unpacked."""
    most_members: Count = 1_000_000
    most_ratio: Positive = 200.0
    """Unpacked bytes for each byte of the archive."""

    def __post_init__(self) -> None:
        """Refuse a folder outside."""
        check_inside("into", self.into)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFile:
    """One file as it was published."""

    name: FileName
    urls: tuple[str, ...]
    """Where it is served, http or https; the next one is asked where one fails."""
    bytes: Count
    """Its size; no more is ever read."""
    sha256: Sha256 | None = None
    md5: MD5 | None = None
    """For files that were published with no sha256."""
    unpack: Unpack | None = None
    """None: it is read as it is."""

    def __post_init__(self) -> None:
        """Refuse what cannot be verified, fetched or unpacked."""
        if self.sha256 is None and self.md5 is None:
            raise ValueError(f"{self.name}: has neither sha256 nor md5; give the hash that it was published with")
        if not self.urls:
            raise ValueError(f"{self.name}: urls is empty; give at least one")
        for url in self.urls:
            if not is_web_address(url):
                raise ValueError(f"{self.name}: url {url} is neither http nor https; give a web address")
        if self.unpack is not None and not self.name.endswith(ARCHIVES):
            raise ValueError(f"{self.name}: unpack is for {', '.join(ARCHIVES)}; remove unpack")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """Moves the files that published lists name into folders of their split: <into>/<split>/<folder>/<name>."""

    lists: dict[Literal["train", "val", "test"], str]
    """By split, the file that lists it: the first word of each line is a name; lines that begin with # are passed over."""
    into: Name = "arranged"
    """Folder of the data set that the moved files are in, and nothing else."""
    files: dict[Name, str]
    """By folder, where the file of a name is, such as `images/{name}.jpg`."""

    def __post_init__(self) -> None:
        """Refuse paths that leave the data set, or that are the same for all names."""
        if not self.lists or not self.files:
            raise ValueError("lists or files is empty; name at least one list and one folder")
        for path in (*self.lists.values(), *self.files.values()):
            check_inside("path", path)
        for folder, pattern in self.files.items():
            if pattern.count("{name}") != 1:
                raise ValueError(f"files.{folder}: {pattern} does not hold {{name}} once; write it where the name stands")


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """A published data set."""

    name: Name
    """Of its folder among the downloads."""
    about: str
    """What the samples are, in a sentence."""
    licence: Licence
    citation: str
    """What its authors ask to be cited."""
    source: str
    """The source that reads it."""
    reads: str = "."
    """File or folder that the source reads, among the files of the data set."""
    files: tuple[PublishedFile, ...]
    arrange: Arrangement | None = None

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        check_inside("reads", self.reads)
        if not self.files:
            raise ValueError("files: is empty; name at least one")
        name, count = Counter(file.name.lower() for file in self.files).most_common(1)[0]
        if count > 1:
            raise ValueError(f"files: {name} is named {count} times; give each file a name of its own")
        if self.arrange is not None and not self.unpacks:
            raise ValueError("arrange needs files of an archive, but no file has unpack; add unpack or remove arrange")

    @property
    def unpacks(self) -> bool:
        """Whether some file is an archive."""
        return any(file.unpack is not None for file in self.files)

    @property
    def bytes(self) -> int:
        """Size of all files together, as they are fetched."""
        return sum(file.bytes for file in self.files)

    def key(self) -> str:
        """Return what the unpacked files depend on, as 12 hex digits."""
        files = [[file.name, file.sha256, file.md5, asdict(file.unpack) if file.unpack else None] for file in self.files]
        arrange = asdict(self.arrange) if self.arrange else None
        return sha256(dumps([UNPACK_RULES, files, arrange], sort_keys=True).encode()).hexdigest()[:12]

    def origin(self) -> dict[str, str]:
        """Return what a card says of where the data come from."""
        return {
            "name": self.name,
            "licence": self.licence.name,
            "licence_url": self.licence.url,
            "citation": " ".join(self.citation.split()),
        }


def is_descriptor(path: str) -> bool:
    """Whether `data.path` names a descriptor and not the data themselves."""
    return path.endswith(SUFFIXES)


def read_descriptor(path: Path) -> Descriptor:
    """Read a descriptor as strictly as params.yaml.

    Raises:
        ParamsError: listing every unknown or missing key, wrong type or contradiction, with its line.
    """
    return Params(path).read(Descriptor)


def is_web_address(url: str) -> bool:
    """Whether a text is an http or https address with a host, and a port that can be one, or none."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def check_inside(key: str, path: str) -> None:
    """Refuse a path that leads out of the folder that it is relative to.

    Raises:
        ValueError: as a config's `__post_init__` does.
    """
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path:
        raise ValueError(f"{key}: {path!r} leads out of the data set; give a path relative to its folder")


def human_bytes(count: float) -> str:
    """Return a size as people write it: 9.9 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"


def plain(values: Any) -> str:
    """Return a text on one line."""
    return " ".join(str(values).split())
