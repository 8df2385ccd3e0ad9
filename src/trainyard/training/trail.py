"""Where each worker is, in a file that outlives it, so that a crash which repeats at the same samples is not repeated for ever.

<folder>/rank-0.at      epoch and step under way, written into mapped memory: a killed process leaves it behind
<folder>/rank-0.error   what the worker said before it ended
<folder>/crashes.jsonl  one line for each attempt that did not end well
"""

from __future__ import annotations

import json
import mmap
import struct
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from trainyard.errors import InputError, MachineError, TrainyardError

SAME_CRASHES = 3
"""So many attempts in a row that end in one and the same step are not followed by another."""
FORM = struct.Struct("<qq")
NOWHERE = (-1, -1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """How an attempt ended."""

    epoch: int
    """0-based."""
    step: int
    """0-based, within the epoch."""
    silent: list[int]
    """Ranks that said nothing before they ended."""
    errors: dict[str, str]
    """What the others said, by rank."""


class Trail:
    """One worker's file."""

    def __init__(self, folder: Path, rank: int) -> None:
        self.folder = folder
        self.rank = rank
        self._map: mmap.mmap | None = None

    def begin(self) -> None:
        """Open this worker's file; nothing is under way yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            self._path("error").unlink()
        with self._path("at").open("wb+") as file:
            file.write(FORM.pack(*NOWHERE))
            file.flush()
            self._map = mmap.mmap(file.fileno(), FORM.size)

    def at(self, epoch: int, step: int) -> None:
        """Say what is under way now; both 0-based."""
        if self._map is not None:
            FORM.pack_into(self._map, 0, epoch, step)

    def end(self, error: BaseException | None = None) -> None:
        """Say that nothing is under way any more, or what went wrong in the midst of it."""
        if self._map is None:
            return
        if error is None:
            self.at(*NOWHERE)
        else:
            with suppress(OSError):
                self._path("error").write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
        self._map.close()
        self._map = None

    def _path(self, kind: str) -> Path:
        return self.folder / f"rank-{self.rank}.{kind}"


def look_back(folder: Path) -> list[Crash]:
    """Return how the attempts before this one crashed, the newest last; to be called once, before any worker begins."""
    log = folder / "crashes.jsonl"
    try:
        crashes = [Crash(**json.loads(line)) for line in log.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, TypeError):
        crashes = []
    if (newest := _crash(folder)) is not None:
        crashes.append(newest)
        with suppress(OSError):
            log.write_text("".join(f"{json.dumps(asdict(crash))}\n" for crash in crashes[-SAME_CRASHES:]), encoding="utf-8")
    return crashes


def repeated(crashes: list[Crash]) -> Crash | None:
    """Return the crash that every one of the last attempts ended with, if it is one."""
    last = crashes[-SAME_CRASHES:]
    same = len(last) == SAME_CRASHES and len({(crash.epoch, crash.step) for crash in last}) == 1
    return last[-1] if same else None


def forget(folder: Path) -> None:
    """Let the next attempts count anew."""
    with suppress(FileNotFoundError):
        (folder / "crashes.jsonl").unlink()
    for path in folder.glob("rank-*.at"):
        path.unlink(missing_ok=True)


def explain(crash: Crash, samples: dict[int, list[int]]) -> TrainyardError:
    """Return what to tell of a crash that repeats.

    Args:
        crash: the one.
        samples: of the global batch of its step, by rank.
    """
    ranks = crash.silent or sorted(map(int, crash.errors))
    place = "; ".join(f"rank {rank} at training samples {shown(samples.get(rank, []))}" for rank in ranks)
    begin = f"training stopped: {SAME_CRASHES} attempts in a row ended at epoch {crash.epoch + 1}, step {crash.step + 1} of it"
    if crash.silent:
        return MachineError(
            f"{begin}, where workers died without a word, as they do when memory runs out or native code fails ({place}); "
            "look at these samples and at the machine's log, then run the same command again to continue"
        )
    said = next(iter(crash.errors.values()), "")
    return InputError(f"{begin}: {said} ({place}); look at these samples, then run the same command again to continue")


def shown(samples: list[int]) -> str:
    """Return the first samples of a batch, for a message."""
    return (", ".join(map(str, samples[:8])) or "none") + (", ..." if len(samples) > 8 else "")


def _crash(folder: Path) -> Crash | None:
    """Return how the attempt before this one ended, from the files of its workers; None if it ended well."""
    places: dict[int, tuple[int, int]] = {}
    errors: dict[int, str] = {}
    for path in sorted(folder.glob("rank-*.at")):
        rank = int(path.stem.removeprefix("rank-"))
        with suppress(OSError, struct.error):
            places[rank] = FORM.unpack(path.read_bytes())
        with suppress(OSError):
            errors[rank] = path.with_suffix(".error").read_text(encoding="utf-8")
        path.unlink(missing_ok=True)
        path.with_suffix(".error").unlink(missing_ok=True)
    places = {rank: place for rank, place in places.items() if place != NOWHERE}
    if not places:
        return None
    silent = [rank for rank in places if rank not in errors]
    # Those that waited for the one that died may be a step further.
    epoch, step = min(places[rank] for rank in silent or places)
    return Crash(epoch=epoch, step=step, silent=silent, errors={str(rank): errors[rank] for rank in places if rank in errors})
