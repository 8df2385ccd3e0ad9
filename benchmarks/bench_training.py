"""The parts of `make bench` that compare steps of training: the three families, what a step costs beside its model, workers."""

from __future__ import annotations

import dataclasses
import shutil
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import bench_sides as sides
import numpy as np
import torch
from bench_result import Asked, Part, Skipped
from bench_sides import Material, Ran

from trainyard.data.digit_scenes import DigitScenesConfig
from trainyard.data.docstrings import DocstringsConfig
from trainyard.data.image_folder import ImageFolderConfig
from trainyard.data.packed import open_split, read_card, write_arrays, write_card
from trainyard.data.prepare import prepare
from trainyard.evaluation.config import EvaluateConfig
from trainyard.export.config import ExportConfig
from trainyard.models.cnn_config import CNNConfig
from trainyard.models.lstm_config import LSTMConfig
from trainyard.models.unet_config import UNetConfig
from trainyard.recipe import Recipe
from trainyard.tasks.train_config import TrainConfig

LIBRARIES = ("matplotlib", "pandas", "scipy", "sklearn", "sqlalchemy", "torch")
CNN = CNNConfig(widths=(32, 64), convolutions=2, normalisation="batch", dropout=0.0)
UNET = UNetConfig(depth=3, base_width=16, normalisation="batch")
LSTM = LSTMConfig(embedding_size=128, hidden_size=256, num_layers=2, bidirectional=False, dropout=0.0)
STEP_WIDTHS = {2: (8, 16), 20: (32, 64)}
"""Channels of the network whose steps are to take so many milliseconds; the batch is chosen until they do."""
STEP_SECONDS = 1.5
"""Of an epoch of such steps."""
BATCHES = (8, 16, 32, 64, 128, 256, 512, 1024)


def recipe(family: str, data: Any, model: Any, **train: Any) -> Recipe:
    settings = {"epochs": 2, "optimizer": "adam", "learning_rate": 1e-3, "schedule": "constant", **train}
    return Recipe(
        name=family,
        family=family,  # type: ignore[arg-type]
        data=data,
        model=model,
        train=TrainConfig(**settings),
        evaluate=EvaluateConfig(),
        export=ExportConfig(),
    )


def images(asked: Asked) -> Path:
    """Return a folder of classes with PNG files of 28 x 28 pixels: some of MNIST's, or digits enlarged."""
    folder, count = asked.folder / "images", 400 if asked.quick else 3000 if not asked.gpu else 40_000
    if folder.is_dir():
        return folder
    if asked.mnist is None:
        return write_digits(folder, max(1, count // 1797))
    for number in range(10):
        target = folder / str(number)
        target.mkdir(parents=True)
        for file in sorted((asked.mnist / "train" / str(number)).iterdir())[: count // 10]:
            shutil.copy(file, target)
    return folder


def write_digits(folder: Path, copies: int) -> Path:
    """Write scikit-learn's digits as files of 28 x 28 pixels, so many of each one."""
    from PIL import Image

    from trainyard.data.digits import read_digits

    ink, labels = read_digits()
    for number, (pixels, label) in enumerate(zip(ink, labels, strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        large = np.array(Image.fromarray((pixels * 255 / 16).astype(np.uint8)).resize((28, 28)))
        for copy in range(copies):
            large[0, 0] = copy  # no two files are the same
            Image.fromarray(large).save(folder / str(label) / f"{number:05}-{copy}.png")
    return folder


def pack(asked: Asked, wanted: Recipe, name: str) -> Path:
    """Pack the data of a recipe, once."""
    folder = asked.folder / "packed" / name
    if not folder.is_dir():
        folder.parent.mkdir(exist_ok=True)
        prepare(name, wanted.data, folder, root=asked.folder, scratch=asked.folder / f"{name}-scratch")
    return folder


def pictures(asked: Asked, model: CNNConfig, **train: Any) -> tuple[Recipe, Path, Path]:
    """Return a recipe for the folder of images, the packed data, and the folder."""
    files = images(asked)
    data = ImageFolderConfig(
        source="image_folder", path=files.name, size=(28, 28), channels=1, val_fraction=0.05, test_fraction=0.05
    )
    wanted = recipe("cnn", data, model, **train)
    return wanted, pack(asked, wanted, "images"), files


def family(name: str, asked: Asked) -> Part:
    """Compare trainyard with what one would write instead, as it comes and with the same settings."""
    files = None
    match name:
        case "cnn":
            wanted, packed, files = pictures(asked, CNN, batch_size=128)
        case "unet":
            scenes = 16 if asked.quick else 30 if not asked.gpu else 1000
            data = DigitScenesConfig(
                source="digit_scenes", scenes=scenes, size=256, largest_digit=64, val_fraction=0.1, test_fraction=0.1
            )
            wanted = recipe("unet", data, UNET, batch_size=8)
            packed = pack(asked, wanted, "unet")
        case _:
            data = DocstringsConfig(
                source="docstrings",
                libraries=LIBRARIES[:2] if asked.quick else LIBRARIES,
                max_per_library=120 if asked.quick else 400,
            )
            wanted = recipe("lstm", data, LSTM, batch_size=64)
            packed = pack(asked, wanted, "lstm")
    compared: dict[str, Callable[[Material], Ran]] = {
        "trainyard": sides.trainyard,
        "raw loop": sides.raw_loop,
        "lightning": sides.lightning,
        "tutorial": sides.tutorial,
        "tutorial, our arithmetic": lambda material: sides.tutorial(material, same=True),
        "trainyard, fp32": lambda material: sides.trainyard(material, precision="fp32"),
    }
    if asked.gpu:
        compared["trainyard, data streamed"] = sides.streamed
        if asked.compiles:
            compared["trainyard, compiled"] = lambda material: sides.trainyard(material, compile="always")
    ran = turns(compared, Material(wanted, packed, asked.folder, files), asked)
    facts = {"same weights": same_weights(ran["trainyard"] + ran["raw loop"])}
    return Part(name, "samples/s", {side: [one.samples / one.seconds for one in found] for side, found in ran.items()}, facts)


def step(milliseconds: int, asked: Asked) -> Part:
    """Compare what a step takes that is to take so long, its data on the device."""
    model = CNNConfig(widths=STEP_WIDTHS[milliseconds], convolutions=2, normalisation="batch", dropout=0.0)
    wanted, packed, _ = pictures(asked, model, batch_size=BATCHES[0])
    samples = len(open_split(packed, "train", read_card(packed)))
    found: dict[int, float] = {}
    for size in (size for size in BATCHES if 3 * size <= samples):
        found[size] = milliseconds_of(
            once(sides.raw_loop, Material(replace_train(wanted, batch_size=size), packed, asked.folder))
        )
        if found[size] > milliseconds:
            break
    size = min(found, key=lambda size: abs(found[size] - milliseconds))
    # Epochs of so many seconds, because at the end of each a checkpoint is written beside the next one.
    steps = 20 if asked.quick else max(20, round(1000 * STEP_SECONDS / found[size]))
    packed = repeated(packed, asked.folder / "packed" / f"steps-{milliseconds}", steps * size)
    chosen = replace_train(wanted, batch_size=size)
    compared: dict[str, Callable[[Material], Ran]] = {
        "raw loop": sides.raw_loop,
        "trainyard": sides.trainyard,
        "lightning": sides.lightning,
        "lightning, our arithmetic": lambda material: sides.lightning(material, same=True),
    }
    ran = turns(compared, Material(chosen, packed, asked.folder), asked)
    facts = {"batch": size, "same weights": same_weights(ran["trainyard"] + ran["raw loop"])}
    return Part(
        f"step of {milliseconds} ms",
        "ms a step",
        {side: [milliseconds_of(one) for one in all_] for side, all_ in ran.items()},
        facts,
    )


def repeated(packed: Path, folder: Path, rows: int) -> Path:
    """Return the packed data with the training split repeated up to so many rows."""
    shutil.copytree(packed, folder)
    card = read_card(folder)
    split = open_split(packed, "train", card)
    arrays = {name: np.array(split.arrays[name]) for name in ("images", "labels")}
    described = {**card.arrays, "train": write_arrays(folder, "train", arrays, np.arange(rows) % len(split))}
    write_card(folder, replace(card, arrays=described))
    return folder


def workers(asked: Asked) -> Part:
    """Compare two Ray workers of one thread each with one process of two threads."""
    try:
        import ray  # noqa: F401
    except ImportError:
        raise Skipped("ray is not installed") from None
    if asked.gpu:
        raise Skipped("on a machine with GPUs, each worker takes one")
    if asked.processors < 2:
        raise Skipped(f"{asked.processors} processor")
    from trainyard.training.cluster_config import ClusterConfig
    from trainyard.training.job import FitJob
    from trainyard.training.launch import started

    # The first seconds of a training go to what starts beside it as well: they are another part's. And epochs of some seconds,
    # as in the first steps of each one, the checkpoint of the one before is still written.
    wanted, packed, _ = pictures(asked, CNN, batch_size=128, epochs=2 if asked.quick else 3)
    samples = len(open_split(packed, "train", read_card(packed)))
    if not asked.quick:
        samples *= 3
        packed = repeated(packed, asked.folder / "packed" / "workers", samples)

    def run(number: int) -> Callable[[Material], Ran]:
        def one(material: Material) -> Ran:
            job = FitJob(recipe=material.recipe, data_dir=material.packed, scratch_dir=material.scratch, fingerprint="f")
            with started(job, ClusterConfig(workers=number)) as launch:
                launch.ready()
                history = launch.wait(lambda: None).history
            rates = [epoch["throughput/samples_per_s"] for epoch in history[1:]]
            return Ran(samples / statistics.median(rates), samples, int(history[0]["step"]))

        return one

    torch.set_num_threads(2)
    compared = {"one process, two threads": run(0), "two workers": run(2)}
    ran = turns(compared, Material(wanted, packed, asked.folder), asked, warm=False)
    return Part("workers", "samples/s", {side: [one.samples / one.seconds for one in found] for side, found in ran.items()}, {})


def replace_train(wanted: Recipe, **train: Any) -> Recipe:
    return replace(wanted, train=dataclasses.replace(wanted.train, **train))


def turns(
    compared: dict[str, Callable[[Material], Ran]], material: Material, asked: Asked, *, warm: bool = True
) -> dict[str, list[Ran]]:
    """Run the sides in turns, forwards and backwards, so that none is always first, after one of each that is not counted."""
    found: dict[str, list[Ran]] = {side: [] for side in compared}
    if warm and not asked.quick:
        once(next(iter(compared.values())), material)
    for repeat in range(asked.repeats):
        for side in list(compared)[:: 1 if repeat % 2 == 0 else -1]:
            found[side].append(once(compared[side], material))
            asked.say(f"{side}: {found[side][-1].seconds:.2f} s, {milliseconds_of(found[side][-1]):.2f} ms a step")
    return found


def once(side: Callable[[Material], Ran], material: Material) -> Ran:
    with tempfile.TemporaryDirectory(dir=material.scratch) as scratch:
        return side(replace(material, scratch=Path(scratch)))


def milliseconds_of(ran: Ran) -> float:
    return 1000 * ran.seconds / ran.steps


def same_weights(ran: list[Ran]) -> bool:
    return len({one.weights for one in ran}) == 1
