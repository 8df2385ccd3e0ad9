"""The part of `make bench` that trains until a share of the test images is right, from a folder of files on disk."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import bench_sides as sides
import torch
from bench_result import Asked, Part
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from trainyard.data.batches import eval_batches
from trainyard.data.packed import open_split, read_card
from trainyard.models.build import build_network
from trainyard.models.spec import InputSpec
from trainyard.recipe import Recipe, read_recipe
from trainyard.training.checkpoint import kept_weights
from trainyard.training.job import FitJob

MOST_EPOCHS = 14
"""After which a tutorial gives up."""
SHARED = {"source": "image_folder", "val_fraction": 0.02, "test_fraction": 0.1}
ADAMW = {"optimizer": "adamw", "learning_rate": 5e-3, "weight_decay": 0.02}
SGD = {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "learning_rate": 0.5, "weight_decay": 5e-4}
ONE_CYCLE = {"schedule": "one_cycle", "warmup_fraction": 0.25, "keep": "last"}
RECIPES: dict[str, dict[str, Any]] = {
    "mnist": {
        "family": "cnn",
        "data": {**SHARED, "size": [28, 28], "channels": 1},
        "model": {"widths": [16, 32, 64], "convolutions": 2, "pool_after": "first", "normalisation": "batch"},
        "train": {"epochs": 2, "batch_size": 128, **ADAMW, **ONE_CYCLE},
    },
    "cifar": {
        "family": "cnn",
        "data": {**SHARED, "size": [32, 32], "channels": 3},
        "model": {"widths": [64, 128, 256], "convolutions": 2, "normalisation": "batch"},
        "train": {
            "epochs": 24,
            "batch_size": 512,
            **SGD,
            **ONE_CYCLE,
            "label_smoothing": 0.1,
            "augment": {"shift": 4, "flip": "horizontal"},
        },
    },
}
PACK = """\
import sys
from pathlib import Path
from trainyard.data.prepare import prepare
from trainyard.recipe import read_recipe
name, folder, root = sys.argv[1], *map(Path, sys.argv[2:])
data = read_recipe(folder / "params.yaml", name).data
prepare(name, data, folder / "packed", root=root, scratch=folder / "packing")
"""
FIT = """\
import sys
from pathlib import Path
from trainyard.lean import load_lightning
load_lightning()
from trainyard.recipe import read_recipe
from trainyard.training.fit import fit
from trainyard.training.job import FitJob
name, folder = sys.argv[1], Path(sys.argv[2])
recipe = read_recipe(folder / "params.yaml", name)
fit(FitJob(recipe=recipe, data_dir=folder / "packed", scratch_dir=folder / "scratch", fingerprint="f"))
"""


def mnist(asked: Asked) -> Part:
    return accuracy("MNIST to 99 %", "mnist", 0.99, asked.mnist, asked)


def cifar(asked: Asked) -> Part:
    return accuracy("CIFAR-10 to 93 %", "cifar", 0.93, asked.cifar, asked)


def accuracy(title: str, name: str, goal: float, files: Path | None, asked: Asked) -> Part:
    """Measure seconds from the files to a trained network; testing it is not counted.

    trainyard packs and trains in a process each, imports and all. The tutorial runs once, epoch by epoch, and takes the epochs
    that it needs: several runs of it would take longer than all else together.
    """
    if files is None:
        raise ValueError(f"{title} has no folder")
    files = some_of(files, asked.folder / "some", 50) if asked.quick else files
    packing, training, reached = [], [], []
    with tempfile.TemporaryDirectory(dir=asked.folder) as made:
        for repeat in range(asked.repeats):
            folder = Path(made) / str(repeat)
            folder.mkdir()
            # JSON is YAML.
            data = {**RECIPES[name]["data"], "path": files.name}
            train = {**RECIPES[name]["train"], "seed": repeat}
            wanted = {**RECIPES[name], "data": data, "train": train, "evaluate": {}, "export": {}}
            (folder / "params.yaml").write_text(json.dumps({"recipes": {name: wanted}}))
            packing.append(timed(PACK, name, folder, files.parent))
            training.append(timed(FIT, name, folder))
            recipe = read_recipe(folder / "params.yaml", name)
            reached.append(tested(recipe, folder))
            asked.say(f"{title}: packed in {packing[-1]:.1f} s, trained in {training[-1]:.1f} s, {reached[-1]:.2%} right")
        accuracies, epochs = tutorial(goal, recipe, files, folder, asked)
    facts = {
        "trainyard reached": reached,
        "trainyard, packing": packing,
        "trainyard, training": training,
        "tutorial reached": accuracies,
        "tutorial, epochs": epochs,
        "both reached the goal": min(reached) >= goal and accuracies[-1] >= goal,
    }
    total = [first + second for first, second in zip(packing, training, strict=True)]
    return Part(title, "s", {"trainyard": total, "tutorial": [sum(epochs)]}, facts)


def some_of(files: Path, folder: Path, count: int) -> Path:
    """Return a folder with so many files of each class."""
    for own in (*(files / "train").iterdir(), *(files / "test").iterdir()):
        target = folder / own.relative_to(files)
        target.mkdir(parents=True)
        for file in sorted(own.iterdir())[:count]:
            shutil.copy(file, target)
    return folder


def timed(code: str, *arguments: object) -> float:
    began = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"exit code {done.returncode}\n{done.stdout[-3000:]}")
    return time.perf_counter() - began


@torch.no_grad()
def tested(recipe: Recipe, folder: Path) -> float:
    """Return the share of the test images that trainyard's network has right."""
    card = read_card(folder / "packed")
    job = FitJob(recipe=recipe, data_dir=folder / "packed", scratch_dir=folder / "scratch", fingerprint="f")
    network = build_network(recipe.model, InputSpec.from_card(card))
    network.load_state_dict(kept_weights(job.store(), "f", "last")[0])
    network.eval().to(sides.device())
    split = open_split(folder / "packed", "test", card)
    right = 0
    for batch in eval_batches(split, 500):
        guessed = network(*(tensor.to(sides.device()) for tensor in batch.inputs)).argmax(dim=1)
        right += int((guessed.cpu() == batch.targets).sum())
    return right / len(split)


class Tutorial(nn.Module):
    """The network of PyTorch's own MNIST example (pytorch/examples, mnist/main.py), for images of any size."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, 32, 3), nn.Conv2d(32, 64, 3)
        self.dropout1, self.dropout2 = nn.Dropout(0.25), nn.Dropout(0.5)
        self.fc1, self.fc2 = nn.Linear(64 * ((size - 4) // 2) ** 2, 128), nn.Linear(128, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = F.relu(self.conv2(F.relu(self.conv1(images))))
        features = self.dropout1(F.max_pool2d(features, 2)).flatten(1)
        return self.fc2(self.dropout2(F.relu(self.fc1(features))))


def tutorial(goal: float, recipe: Recipe, files: Path, folder: Path, asked: Asked) -> tuple[list[float], list[float]]:
    """Train epoch by epoch to the goal as that example does; return what each one reached, and its seconds.

    Its network for grey images; for colours the same one as trainyard's, with which that example would not get there.
    """
    sides.reset()
    card = read_card(folder / "packed")
    spec = InputSpec.from_card(card)
    material = sides.Material(recipe, folder / "packed", folder, files)
    torch.manual_seed(0)
    network: nn.Module = Tutorial(1, 28) if spec.channels == 1 else build_network(recipe.model, spec)
    network.to(sides.device())
    optimizer = torch.optim.Adadelta(network.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)
    train, test = (DataLoader(sides.files(material, split)[0], size, shuffle=split == "train", num_workers=sides.WORKERS)
                   for split, size in (("train", 64), ("test", 1000)))  # fmt: skip
    accuracies: list[float] = []
    epochs: list[float] = []
    while len(epochs) < (1 if asked.quick else MOST_EPOCHS) and (not accuracies or accuracies[-1] < goal):
        began = sides.now()
        network.train()
        for images, labels in train:
            optimizer.zero_grad()
            loss = F.cross_entropy(network(scaled(images, spec)), labels.to(sides.device()))
            loss.backward()
            optimizer.step()
        schedule.step()
        epochs.append(sides.now() - began)
        network.eval()
        with torch.no_grad():
            right = sum(int((network(scaled(images, spec)).argmax(dim=1).cpu() == labels).sum()) for images, labels in test)
        accuracies.append(right / len(test.dataset))  # type: ignore[arg-type]
        asked.say(f"tutorial, epoch {len(epochs)}: {epochs[-1]:.1f} s, {accuracies[-1]:.2%} right")
    return accuracies, epochs


def scaled(images: torch.Tensor, spec: InputSpec) -> torch.Tensor:
    """Return images as the example normalises them; our own network does so itself."""
    images = images.to(sides.device())
    return (images / 255 - 0.1307) / 0.3081 if spec.channels == 1 else images
