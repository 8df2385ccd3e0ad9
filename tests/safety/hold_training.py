"""Train on a private Ray until two workers have taken a step; say who listens where; hold still until told to go on.

python hold_training.py DATA_DIR WORK_DIR: writes WORK_DIR/listeners.json, waits for WORK_DIR/go.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from trainyard.data.digits import DigitsConfig
from trainyard.evaluation.config import EvaluateConfig
from trainyard.export.config import ExportConfig
from trainyard.files import write_whole
from trainyard.models.cnn_config import CNNConfig
from trainyard.recipe import Recipe
from trainyard.tasks.train_config import TrainConfig
from trainyard.training.cluster_config import ClusterConfig
from trainyard.training.job import FitJob
from trainyard.training.launch import started
from trainyard.training.spool import Reader


class SeenEnough(Exception):
    pass


def main() -> None:
    data_dir, work_dir = Path(sys.argv[1]), Path(sys.argv[2])
    train = TrainConfig(epochs=1_000_000, batch_size=64, optimizer="adamw", learning_rate=1e-3, schedule="constant")
    recipe = Recipe(
        name="digits",
        family="cnn",
        data=DigitsConfig(source="digits", seed=0, val_fraction=0.15, test_fraction=0.2),
        model=CNNConfig(widths=(8, 16), convolutions=1, normalisation="group"),
        train=dataclasses.replace(train, warmup_fraction=0.0),
        evaluate=EvaluateConfig(),
        export=ExportConfig(),
    )
    job = FitJob(recipe=recipe, data_dir=data_dir, scratch_dir=work_dir, fingerprint="f")
    reader = Reader(job.spool)

    def watch() -> None:
        if any(not record.note for record in reader.read()):
            assert launched._folder is not None
            with suppress(shutil.Error):  # Ray goes on, and a file may be gone before it is copied
                shutil.copytree(launched._folder.path, work_dir / "of-ray", ignore=_sockets)
            write_whole(work_dir / "folder.json", json.dumps(_folder(launched._folder.path)).encode())
            write_whole(work_dir / "listeners.json", json.dumps(listeners()).encode())
            while not (work_dir / "go").exists():
                time.sleep(0.1)
            raise SeenEnough

    try:
        with started(job, ClusterConfig(workers=2)) as launched:
            launched.wait(watch)
    except SeenEnough:
        pass


def _folder(path: Path) -> dict[str, object]:
    """Return who may enter the folder of a private Ray, and which of Ray's sockets lie outside of it."""
    own = {process.pid for process in [psutil.Process(), *psutil.Process().children(recursive=True)]}
    sockets = {found.laddr for found in psutil.net_connections("unix") if found.pid in own and str(found.laddr).startswith("/")}
    return {"mode": path.stat().st_mode & 0o777, "outside": sorted(one for one in sockets if not one.startswith(f"{path}/"))}


def _sockets(folder: str, names: list[str]) -> list[str]:
    """Nothing can be copied of these; and the token is to be secret."""
    return [
        name for name in names if name == "token" or not (Path(folder) / name).exists() or (Path(folder) / name).is_socket()
    ]


def listeners() -> list[tuple[str, str, int]]:
    """Return (command, address, port) of each socket that this process and its children listen on."""
    family = {process.pid: _title(process) for process in [psutil.Process(), *psutil.Process().children(recursive=True)]}
    return [
        (family[found.pid], found.laddr.ip, found.laddr.port)
        for found in psutil.net_connections("inet")
        if found.pid in family and (found.status == psutil.CONN_LISTEN or (found.type.name == "SOCK_DGRAM" and not found.raddr))
    ]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())[:200] or process.name()
    except psutil.Error:
        return "gone"


if __name__ == "__main__":
    assert os.environ.get("RAY_ADDRESS") is None
    main()
