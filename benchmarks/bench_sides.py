"""Who trains in `make bench`: trainyard, a raw loop, Lightning and what a tutorial would write, with the same networks.

trainyard    a fit in one process, with its records and checkpoints
raw loop     a loop with the same arithmetic over the same batches and nothing else, its data on the device; the weights
             that it ends with must be those of trainyard, bit by bit
lightning    a LightningModule, a Dataset, a DataLoader and a Trainer, all as they come
tutorial     a Dataset that opens a file (or takes a row) at a time, a DataLoader of two workers, Adam, fp32

Each of them returns the seconds of its last epoch and what of it is needed to compare; validation and checkpoints at the end of
an epoch are no part of them. What is measured on a GPU is measured between two moments at which it has nothing left to do.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainyard.lean import load_lightning

load_lightning()

import numpy as np  # noqa: E402
import pytorch_lightning as pl  # noqa: E402
import torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from trainyard.data.batches import HELD, TrainBatches, epoch_batches  # noqa: E402
from trainyard.data.packed import open_split, read_card  # noqa: E402
from trainyard.models.build import build_network  # noqa: E402
from trainyard.models.spec import InputSpec  # noqa: E402
from trainyard.recipe import Recipe  # noqa: E402
from trainyard.tasks.optimization import build_optimizer  # noqa: E402
from trainyard.training import fit as fitting  # noqa: E402
from trainyard.training import hardware  # noqa: E402
from trainyard.training.arithmetic import choose, this_machine  # noqa: E402
from trainyard.training.checkpoint import kept_weights  # noqa: E402
from trainyard.training.job import FitJob  # noqa: E402

WORKERS = 2
"""Processes of a DataLoader."""
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
warnings.filterwarnings("ignore")


@dataclass(frozen=True)
class Material:
    """What a side works with."""

    recipe: Recipe
    packed: Path
    scratch: Path
    """A folder that exists, for one run."""
    files: Path | None = None
    """A folder of classes with one file an image, where there is one."""

    @property
    def batch_size(self) -> int:
        return int(self.recipe.train.batch_size)

    @property
    def epochs(self) -> int:
        return self.recipe.train.epochs


@dataclass(frozen=True)
class Ran:
    """One run."""

    seconds: float
    """Of the last epoch."""
    samples: int
    steps: int
    weights: str = ""
    """A hash of them at the end."""


class Clock(pl.Callback):
    """Takes the seconds of each epoch's steps."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, *_: Any) -> None:
        self.began = now()

    def on_validation_start(self, *_: Any) -> None:
        self.seconds.append(now() - self.began)


class PlainClock(Clock):
    """The same where nothing is validated."""

    def on_train_epoch_end(self, *_: Any) -> None:
        self.seconds.append(now() - self.began)


def now() -> float:
    """Return a clock's seconds once the device has nothing left to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def reset(*, deterministic: bool = False) -> None:
    """Set torch's switches as they are in a new process, or as trainyard sets them."""
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = not deterministic  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("highest")


def trainyard(material: Material, **train: Any) -> Ran:
    """Fit as `cluster.workers: 0` does."""
    reset()
    recipe = replace(material.recipe, train=replace(material.recipe.train, **train))
    job = FitJob(recipe=recipe, data_dir=material.packed, scratch_dir=material.scratch, fingerprint="f")
    clock = Clock()
    result = fitting.fit(job, callbacks=[clock])
    steps = int(result.history[0]["step"])
    weights, _ = kept_weights(job.store(), "f", "last")
    samples = len(open_split(material.packed, "train", read_card(material.packed)))
    return Ran(clock.seconds[-1], samples, steps, digest(weights))


def streamed(material: Material) -> Ran:
    """Fit with the data left on the host, as where they do not fit the device."""
    before, hardware.DATA_SHARE = hardware.DATA_SHARE, 0.0
    try:
        return trainyard(material)
    finally:
        hardware.DATA_SHARE = before


def raw_loop(material: Material) -> Ran:
    config, card = material.recipe.train, read_card(material.packed)
    reset(deterministic=config.deterministic)
    split = open_split(material.packed, "train", card)
    arithmetic = choose(config, card.kind, this_machine())
    on = device()
    torch.manual_seed(config.seed)
    network = build_network(material.recipe.model, InputSpec.from_card(card)).train().to(on)
    if arithmetic.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = build_optimizer(network, config)
    half = torch.autocast(on.type, torch.bfloat16, enabled=arithmetic.precision == "bf16-mixed", cache_enabled=False)
    batches = in_memory(split, config.seed, material.batch_size, on)
    seconds = []
    for number in range(material.epochs):
        taken = batches(number)
        began, steps = now(), 0
        for inputs, targets in taken:
            with half:
                losses = F.cross_entropy(network(*inputs).float(), targets, reduction="none")
                loss = (losses.flatten(1).mean(dim=1) if losses.ndim > 1 else losses).sum() * (1 / len(targets))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1
        seconds.append(now() - began)
    return Ran(seconds[-1], len(split), steps, digest(network.state_dict()))


Batches = Callable[[int], Iterator[tuple[tuple[torch.Tensor, ...], torch.Tensor]]]


def in_memory(split: Any, seed: int, batch_size: int, on: torch.device) -> Batches:
    """Return what gives the batches of an epoch out of tensors on the device; texts are padded by trainyard's own batches."""
    if "tokens" in split.arrays:
        own = TrainBatches(split, batch_size=batch_size, seed=seed)
        if on.type != "cpu":
            own.held = {name: torch.from_numpy(np.array(split.arrays[name])).to(on) for name in split.arrays if name in HELD}

        def texts(epoch: int) -> Iterator[tuple[tuple[torch.Tensor, ...], torch.Tensor]]:
            own.epoch = epoch
            for batch in own.from_step(0):
                yield tuple(tensor.to(on) for tensor in batch.inputs), batch.targets.to(on)

        return texts
    images = torch.from_numpy(np.array(split.arrays["images"])).to(on)
    targets = torch.from_numpy(np.array(split.arrays["masks" if "masks" in split.arrays else "labels"])).to(on)

    def pictures(epoch: int) -> Iterator[tuple[tuple[torch.Tensor, ...], torch.Tensor]]:
        order = epoch_batches(seed, epoch, len(split), batch_size)
        for indices in [torch.from_numpy(taken).to(on) for taken in order]:
            yield (images[indices],), targets[indices].long()

    return pictures


def lightning(material: Material, *, same: bool = False) -> Ran:
    """Train with Lightning as it comes; `same`: with trainyard's arithmetic, optimizer and batches."""
    config, card = material.recipe.train, read_card(material.packed)
    reset(deterministic=same and config.deterministic)
    network = network_of(material)
    arithmetic = choose(config, card.kind, this_machine())
    if same and arithmetic.channels_last:
        network = network.to(memory_format=torch.channels_last)
    if same:
        split = open_split(material.packed, "train", card)
        batches = in_memory(split, config.seed, material.batch_size, device())
        loader, samples = Epochs(batches, -(-len(split) // material.batch_size)), len(split)
    else:
        dataset, collate = rows(material)
        loader = torch.utils.data.DataLoader(dataset, batch_size=material.batch_size, shuffle=True, collate_fn=collate)
        samples = len(dataset)

    class Plain(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def training_step(self, batch, number):  # type: ignore[no-untyped-def]
            inputs, targets = batch if same else (batch[:-1], batch[-1])
            loss = F.cross_entropy(self.network(*inputs), targets)
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return build_optimizer(network, config) if same else torch.optim.Adam(self.parameters(), lr=1e-3)

    clock = PlainClock()
    trainer = pl.Trainer(
        max_epochs=material.epochs,
        default_root_dir=material.scratch,
        callbacks=[clock],
        precision=arithmetic.precision if same else "32-true",
        devices=1,
    )
    trainer.fit(Plain(), loader)
    return Ran(clock.seconds[-1], samples, len(loader))


class Epochs:
    """A loader that gives each epoch's own batches."""

    def __init__(self, batches: Batches, steps: int) -> None:
        self.batches, self.steps, self.epoch = batches, steps, itertools.count()

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[tuple[torch.Tensor, ...], torch.Tensor]]:
        return self.batches(next(self.epoch))


def tutorial(material: Material, *, same: bool = False) -> Ran:
    """Train as a tutorial does; `same`: with trainyard's arithmetic and optimizer, and its own data path."""
    config, card = material.recipe.train, read_card(material.packed)
    reset(deterministic=same and config.deterministic)
    dataset, collate = files(material) if material.files is not None else rows(material)
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=material.batch_size, shuffle=True, collate_fn=collate, num_workers=WORKERS
    )
    on = device()
    network = network_of(material).train().to(on)
    arithmetic = choose(config, card.kind, this_machine())
    if same and arithmetic.channels_last:
        network = network.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(network, config) if same else torch.optim.Adam(network.parameters(), lr=1e-3)
    half = torch.autocast(on.type, torch.bfloat16, enabled=same and arithmetic.precision == "bf16-mixed")
    seconds = []
    for _ in range(material.epochs):
        began = now()
        for *inputs, targets in loader:
            optimizer.zero_grad()
            with half:
                loss = F.cross_entropy(network(*(tensor.to(on) for tensor in inputs)), targets.to(on))
            loss.backward()
            optimizer.step()
        seconds.append(now() - began)
    return Ran(seconds[-1], len(dataset), len(loader))


def network_of(material: Material) -> Any:
    torch.manual_seed(material.recipe.train.seed)
    return build_network(material.recipe.model, InputSpec.from_card(read_card(material.packed)))


def digest(weights: Any) -> str:
    """Return a hash of all weights."""
    found = hashlib.sha256()
    for name in sorted(weights):
        found.update(name.encode() + weights[name].detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def rows(material: Material) -> tuple[Any, Any]:
    """Return a Dataset that takes a row at a time from the packed arrays, and what makes a batch of such rows."""
    split = open_split(material.packed, "train", read_card(material.packed))
    arrays = split.arrays

    class Rows(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(split)

        def __getitem__(self, row: int) -> tuple[Any, Any]:
            if "offsets" in arrays:
                first, last = arrays["offsets"][row : row + 2]
                return torch.from_numpy(np.array(arrays["tokens"][first:last], dtype=np.int64)), int(arrays["labels"][row])
            image = torch.from_numpy(np.array(arrays["images"][row]))
            if "masks" in arrays:
                return image, torch.from_numpy(np.array(arrays["masks"][row])).long()
            return image, int(arrays["labels"][row])

    def padded(taken: list[tuple[Any, Any]]) -> tuple[Any, ...]:
        texts, labels = zip(*taken, strict=True)
        lengths = torch.tensor([len(text) for text in texts])
        return torch.nn.utils.rnn.pad_sequence(list(texts), batch_first=True), lengths, torch.tensor(labels)

    return Rows(), padded if "offsets" in arrays else None


def files(material: Material, split: str = "train") -> tuple[Any, Any]:
    """Return a Dataset that opens one file at a time, as ImageFolder does."""
    from PIL import Image

    if material.files is None:
        raise ValueError("this material has no files")
    root = material.files / split if (material.files / split).is_dir() else material.files
    classes = sorted(path.name for path in root.iterdir() if path.is_dir())
    found = [(file, number) for number, name in enumerate(classes) for file in sorted((root / name).iterdir())]
    mode = "L" if read_card(material.packed).input["channels"] == 1 else "RGB"

    class Files(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(found)

        def __getitem__(self, row: int) -> tuple[Any, int]:
            file, label = found[row]
            with Image.open(file) as image:
                pixels = np.array(image.convert(mode))
            return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1), label

    return Files(), None
