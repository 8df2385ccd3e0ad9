"""How fast a folder of images is packed, by one process and by two, and in how much memory.

    python benchmarks/packing.py --data data/raw/mnist
    python benchmarks/packing.py --memory --photos 2000

The first packs --data as stage `prepare` does on a machine of so many processors, each time from a new process; a loop
that opens the same files with Pillow and checks nothing stands beside it. All take turns; medians. The second makes
photographs of 12 million pixels below --work, packs them, and prints the most memory that all processes held together:
the proportional share (PSS), in which a page that two of them hold counts once.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trainyard.data import image_tree, prepare
from trainyard.data.image_folder import ImageFolderConfig

PHOTO = (4000, 3000)
"""Width and height of a generated photograph."""
SAMPLED_SECONDS = 0.1
MEBIBYTE = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with <class>/<image>, or train/ and test/ with such ones")
    parser.add_argument("--memory", action="store_true", help="pack large photographs, and sample the memory")
    parser.add_argument("--photos", type=int, default=400, help="with --memory: how many; each takes 36 MB when decoded")
    parser.add_argument("--size", type=int, help="height and width of a packed image; needed where the images differ")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="that read the files")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", type=Path, help="where files are written; a temporary folder where it is not given")
    arguments = parser.parse_args()
    if (arguments.data is None) == (not arguments.memory):
        parser.error("say --data FOLDER, or --memory")
    with tempfile.TemporaryDirectory(dir=arguments.work) as work:
        if arguments.memory:
            measure_memory(Path(work), arguments.photos, arguments.size or 512, max(arguments.processes))
        else:
            measure_speed(arguments.data.resolve(), Path(work), arguments.size, arguments.processes, arguments.repeats)


def measure_speed(folder: Path, work: Path, size: int | None, processes: list[int], repeats: int) -> None:
    files = len(image_tree.walk(folder, folder).files)
    whole: dict[str, list[float]] = {}
    reading: dict[str, list[float]] = {}
    for _ in range(repeats):
        for count in processes:
            name = f"{count} process{'es' if count > 1 else ''}"
            seconds, read = apart(pack, folder, work, size, count)
            whole.setdefault(name, []).append(seconds)
            reading.setdefault(name, []).append(read)
        seconds = apart(read_plainly, folder, size)
        whole.setdefault("plain loop", []).append(seconds)
        reading.setdefault("plain loop", []).append(seconds)
    print(f"{files:,} files\n| | stage prepare | files/s | its reading and checking | files/s |\n|---|---|---|---|---|")
    for name in whole:
        all_of_it, part = statistics.median(whole[name]), statistics.median(reading[name])
        print(f"| {name} | {all_of_it:.1f} s | {files / all_of_it:,.0f} | {part:.1f} s | {files / part:,.0f} |")
    first, *others = (name for name in whole if name != "plain loop")
    for name in others:
        ratios = [statistics.median(times[first]) / statistics.median(times[name]) for times in (whole, reading)]
        print(f"{name} against {first}: {ratios[0]:.2f} times as fast, {ratios[1]:.2f} times in reading")


def measure_memory(work: Path, photos: int, size: int, processes: int) -> None:
    folder = work / "photos"
    make_photos(folder, photos)
    stored = sum(path.stat().st_size for path in folder.rglob("*.jpg"))
    decoded = photos * PHOTO[0] * PHOTO[1] * 3
    print(f"{photos:,} photographs: {stored / 1e6:,.0f} MB of files, {decoded / 1e9:.1f} GB decoded", flush=True)
    seconds, peak, files, private = apart(pack_and_watch, folder, work, size, processes)
    print(
        f"packed at {size} x {size} by {processes} processes in {seconds:.0f} s: at most {peak / MEBIBYTE:,.0f} MiB in all, "
        f"{files / MEBIBYTE:,.0f} of them pages of files, which the kernel takes back when it needs them; "
        f"at most {private / MEBIBYTE:,.0f} MiB without these"
    )


def apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function returns in a new process, as each stage is one."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def pack(folder: Path, work: Path, size: int | None, processes: int) -> tuple[float, float]:
    """Return the seconds that packing takes, and those of them that reading and checking the files take."""
    # One process a processor is what stage `prepare` takes. None is pinned: what else runs would share that processor.
    os.sched_getaffinity = lambda _: set(range(processes))
    read: list[float] = []
    load = prepare.load

    def timed(*arguments: Any) -> Any:
        began = time.monotonic()
        raw = load(*arguments)
        read.append(time.monotonic() - began)
        return raw

    prepare.load = timed
    config = ImageFolderConfig(source="image_folder", path=str(folder), size=size, channels=None if size is None else 3)
    began = time.monotonic()
    prepare.prepare("benchmark", config, work / "packed", root=folder, scratch=work / "scratch")
    seconds = time.monotonic() - began
    shutil.rmtree(work / "packed")
    return seconds, read[0]


def pack_and_watch(folder: Path, work: Path, size: int, processes: int) -> tuple[float, int, int, int]:
    """Return seconds, the most bytes held, those of them that are pages of files, and the most bytes that are not."""
    samples: list[tuple[int, int]] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(SAMPLED_SECONDS):
            samples.append(held())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        seconds, _ = pack(folder, work, size, processes)
    finally:
        done.set()
        watcher.join()
    peak, files = max(samples)
    return seconds, peak, files, max(whole - mapped for whole, mapped in samples)


def held() -> tuple[int, int]:
    """Return the bytes that this process and all below it hold, and those of them that are pages of files."""
    whole = mapped = 0
    waiting = [os.getpid()]
    while waiting:
        process = Path("/proc", str(waiting.pop()))
        try:
            for task in (process / "task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
            lines = (process / "smaps_rollup").read_text().splitlines()[1:]
        except OSError:
            # It ended.
            continue
        values = {name: int(value.split()[0]) * 1024 for name, value in (line.split(":") for line in lines)}
        whole += values["Pss"]
        mapped += values["Pss_File"]
    return whole, mapped


def read_plainly(folder: Path, size: int | None) -> float:
    """Return the seconds that a loop takes which opens, decodes and keeps all images."""
    paths = [folder / path for path in image_tree.walk(folder, folder).files]
    began = time.monotonic()
    pixels = []
    for path in paths:
        with Image.open(path) as image:
            pixels.append(np.asarray(image if size is None else image.convert("RGB").resize((size, size))))
    np.stack(pixels)
    return time.monotonic() - began


def make_photos(folder: Path, count: int) -> None:
    """Write JPEGs of two classes, each different when it is decoded: the same scene, its steps of brightness made larger."""
    width, height = PHOTO
    across, down = np.meshgrid(np.linspace(0, 9, width, dtype=np.float32), np.linspace(0, 7, height, dtype=np.float32))
    grain = np.random.default_rng(0).normal(0, 6, (height, width)).astype(np.float32)
    scene = [128 + 50 * np.sin(across * factor + down) + grain for factor in (1, 2, 3)]
    picture = Image.fromarray(np.stack(scene, axis=-1).clip(0, 255).astype(np.uint8))
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
    first = folder / "a" / "0.jpg"
    picture.save(first, quality=70)
    content = bytearray(first.read_bytes())
    # The table of steps: its marker, length and number take five bytes, then there is one for each frequency.
    table = content.index(b"\xff\xdb") + 5
    steps = bytes(content[table : table + 2])
    for number in range(count):
        content[table] = steps[0] // 2 + number % 64
        content[table + 1] = steps[1] + number // 64
        (folder / "ab"[number % 2] / f"{number}.jpg").write_bytes(content)


if __name__ == "__main__":
    main()
