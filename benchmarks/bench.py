"""Training speed, start-up and memory beside what one would write instead: `make bench`, in a quarter of an hour.

    python benchmarks/bench.py --json bench.json --chart bench.svg
    python benchmarks/bench.py --data ~/data --repeats 5 --only cnn "step of 2 ms"
    python benchmarks/bench.py --quick

Each part is a process of its own, in which its sides take turns, forwards and backwards; medians. A part is left out, with its
reason, where what it needs is not here: Ray, MLflow, DVC, real data. On a machine with a GPU the same parts train there, with
data streamed and the network compiled as further sides, and CIFAR-10 beside MNIST. bench_sides.py says who is compared.

--data, or TRAINYARD_DATA, names a folder with mnist-png.zip and cifar10-jpg.zip, or mnist/ and cifar10/, each with
train/<class>/ and test/<class>/.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench_result import Asked, Part, Skipped
from bench_show import draw, figures, tables

ROOT = Path(__file__).parents[1]
PARTS = ("step of 2 ms", "step of 20 ms", "cnn", "unet", "lstm", "workers", "stages", "mnist", "cifar")
ARCHIVES = {"mnist": "mnist-png.zip", "cifar": "cifar10-jpg.zip"}
FOLDERS = {"mnist": "mnist", "cifar": "cifar10"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("TRAINYARD_DATA"), help="a folder of real data")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="little data, once: to see that it runs")
    parser.add_argument("--json", type=Path, help="a file for all values")
    parser.add_argument("--chart", type=Path, help="an SVG or PNG file")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        run_here(json.loads(arguments.part))
        return
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="trainyard-bench-") as made:
        parts = [part for name in arguments.only for part in run(name, arguments, Path(made))]
    taken = time.perf_counter() - began
    facts = machine()
    hardware = f"{facts['processor']}, {facts['processors']} processors, {facts['gpu'] or 'no GPU'}"
    about = f"{facts['date']}, {hardware}, torch {facts['torch']}"
    print(f"{about}; {taken / 60:.1f} minutes\n\n{tables(parts)}")
    if arguments.json:
        content = {"machine": facts, "seconds": taken, "figures": figures(parts), "parts": [asdict(part) for part in parts]}
        arguments.json.write_text(f"{json.dumps(content, indent=2)}\n")
    if arguments.chart:
        draw(parts, about, arguments.chart)
    if failed := [part.name for part in parts if part.failed]:
        sys.exit(f"failed: {', '.join(failed)}")


def run(name: str, arguments: argparse.Namespace, folder: Path) -> list[Part]:
    """Run a part in a process of its own, which leaves what it found in a file."""
    began = time.perf_counter()
    try:
        data = {kind: real_data(arguments.data, kind, folder, wanted=needs(name, kind)) for kind in ARCHIVES}
    except Skipped as skipped:
        return [Part(name, "", {}, skipped=str(skipped))]
    answer = folder / "answer.json"
    answer.unlink(missing_ok=True)
    asked = {
        "part": name,
        "folder": str(folder),
        **{kind: str(path) if path else None for kind, path in data.items()},
        "repeats": 1 if arguments.quick else arguments.repeats,
        "quick": arguments.quick,
        "answer": str(answer),
    }
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    log = folder / f"{name}.log"
    with log.open("w") as output:
        command = [sys.executable, __file__, "--part", json.dumps(asked)]
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=output, stderr=subprocess.PIPE, text=True)
        for line in process.stderr or ():
            output.write(line)
            if line.startswith(">"):
                print(f"{name}: {line[2:]}", end="", file=sys.stderr, flush=True)
        code = process.wait()
    if code or not answer.is_file():
        print(log.read_text()[-3000:], file=sys.stderr)
        return [Part(name, "", {}, failed=f"exit code {code}, see above")]
    parts = [Part(**values) for values in json.loads(answer.read_text())]
    parts[0].seconds = time.perf_counter() - began
    return parts


def needs(part: str, kind: str) -> bool:
    """Say whether a part is nothing without a data set."""
    return part == kind


def real_data(folder: Path | None, kind: str, made: Path, *, wanted: bool) -> Path | None:
    """Return the folder of a data set, unpacked once; None where it is not there and not wanted."""
    if kind == "cifar" and wanted and not has_gpu():
        raise Skipped("takes a GPU")
    if folder is None:
        if wanted:
            raise Skipped("--data or TRAINYARD_DATA does not say where the files are")
        return None
    here, archive, unpacked = Path(folder) / FOLDERS[kind], Path(folder) / ARCHIVES[kind], made / kind
    if (here / "train").is_dir():
        return here.resolve()
    if not archive.is_file():
        if wanted:
            raise Skipped(f"neither {here} nor {archive} is there")
        return None
    if kind == "cifar" and not wanted:
        return None
    if not unpacked.is_dir():
        with zipfile.ZipFile(archive) as content:
            content.extractall(made / f"{kind}.partial")
        (made / f"{kind}.partial").rename(unpacked)
    return unpacked


def has_gpu() -> bool:
    """Say whether there is a GPU, without importing torch here."""
    look = "import torch; print(torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", look], capture_output=True, text=True).stdout.strip() == "True"


def run_here(asked: dict[str, Any]) -> None:
    """Run a part in this process."""
    import torch

    answer, name = Path(asked.pop("answer")), asked.pop("part")
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(processors)
    wanted = Asked(
        folder=Path(asked["folder"]),
        mnist=Path(asked["mnist"]) if asked["mnist"] else None,
        cifar=Path(asked["cifar"]) if asked["cifar"] else None,
        repeats=asked["repeats"],
        quick=asked["quick"],
        processors=processors,
        gpu=torch.cuda.is_available(),
        compiles=shutil.which("cc") is not None or shutil.which("gcc") is not None,
    )
    try:
        parts = part_of(name)(wanted)
    except Skipped as skipped:
        parts = [Part(name, "", {}, skipped=str(skipped))]
    answer.write_text(json.dumps([asdict(part) for part in parts]))


def part_of(name: str) -> Callable[[Asked], list[Part]]:
    if name == "stages":
        import bench_stages

        return bench_stages.stages
    if name in ARCHIVES:
        import bench_accuracy

        return lambda asked: [(bench_accuracy.mnist if name == "mnist" else bench_accuracy.cifar)(asked)]
    import bench_training

    if name == "workers":
        return lambda asked: [bench_training.workers(asked)]
    if name.startswith("step"):
        return lambda asked: [bench_training.step(int(name.split()[2]), asked)]
    return lambda asked: [bench_training.family(name, asked)]


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    look = "import torch; print(torch.cuda.get_device_name(0) if torch.cuda.is_available() else '')"
    return {
        "date": datetime.date.today().isoformat(),
        "processor": processor(),
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": subprocess.run([sys.executable, "-c", look], capture_output=True, text=True).stdout.strip(),
        "python": platform.python_version(),
        **{name: installed(name) for name in ("torch", "pytorch-lightning", "ray", "mlflow", "dvc")},
        "load": os.getloadavg()[2],
    }


def processor() -> str:
    """Return the processor's name, as far as the machine tells."""
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
