"""Every file that the product reads back, replaced by one that makes a folder when it is unpickled."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from trainyard.data.digits import DigitsConfig
from trainyard.data.packed import file_sha256, open_split, read_card
from trainyard.errors import IntegrityError, TrainyardError
from trainyard.evaluation.config import EvaluateConfig
from trainyard.export.config import ExportConfig
from trainyard.export.opened import open_session
from trainyard.models.cnn_config import CNNConfig
from trainyard.models.saved import load_model, save_model
from trainyard.models.spec import InputSpec
from trainyard.models.transfer import plan_transfer
from trainyard.recipe import Recipe
from trainyard.tasks.train_config import TrainConfig
from trainyard.training import checkpoint
from trainyard.training.checkpoint import MANIFEST, kept_weights
from trainyard.training.fit import fit
from trainyard.training.job import FitJob
from trainyard.training.spool import Reader


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "code-was-run"


@pytest.fixture
def trap(marker: Path) -> bytes:
    return pickle.dumps(Trap(marker), protocol=2)


def test_the_trap_works(trap: bytes, marker: Path) -> None:
    pickle.loads(trap)
    assert marker.exists()


@pytest.fixture(scope="module")
def trained(packed_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> FitJob:
    """A training of one epoch."""
    recipe = Recipe(
        name="digits",
        family="cnn",
        data=DigitsConfig(source="digits", seed=0, val_fraction=0.15, test_fraction=0.2),
        model=CNNConfig(widths=(8, 16), convolutions=1, normalisation="group"),
        train=TrainConfig(epochs=1, batch_size=64, optimizer="adamw", learning_rate=3e-3),
        evaluate=EvaluateConfig(),
        export=ExportConfig(),
    )
    scratch = tmp_path_factory.mktemp("trained")
    job = FitJob(recipe=recipe, data_dir=packed_digits, scratch_dir=scratch, fingerprint="f")
    fit(job)
    return job


@pytest.fixture
def job(trained: FitJob, tmp_path: Path) -> FitJob:
    """A copy of it that a test may damage."""
    return dataclasses.replace(trained, scratch_dir=Path(shutil.copytree(trained.scratch_dir, tmp_path / "s")))


def _replace_states(job: FitJob, write: Callable[[Path], object]) -> None:
    """Replace each checkpoint's state, and let its manifest state the hash of the new one."""
    for found in checkpoint.scan(job.checkpoints, job.fingerprint)[0]:
        write(found.state)
        manifest = found.state.parent / MANIFEST
        values = json.loads(manifest.read_text())
        manifest.write_text(json.dumps({**values, "sha256": file_sha256(found.state), "bytes": found.state.stat().st_size}))
    assert checkpoint.scan(job.checkpoints, job.fingerprint)[0], "the forged checkpoints must pass for valid ones"


def _say_finished(job: FitJob, finished: bool) -> None:
    """A training reads another part of a checkpoint where it goes on than where it has ended."""
    for found in checkpoint.scan(job.checkpoints, job.fingerprint)[0]:
        manifest = found.state.parent / MANIFEST
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "finished": finished}))


@pytest.mark.parametrize("form", ["torch archive", "torch legacy", "plain pickle"])
def test_a_forged_checkpoint_with_a_right_hash_is_refused(form: str, job: FitJob, trap: bytes, marker: Path) -> None:
    writers: dict[str, Callable[[Path], object]] = {
        "torch archive": lambda path: torch.save({"state_dict": Trap(marker), "callbacks": {}}, path),
        "torch legacy": lambda path: torch.save(Trap(marker), path, _use_new_zipfile_serialization=False),
        "plain pickle": lambda path: path.write_bytes(trap),
    }
    _replace_states(job, writers[form])
    for finished in (True, False):
        _say_finished(job, finished)
        with pytest.raises(IntegrityError, match="nothing in it was run"):
            fit(job)
    with pytest.raises(IntegrityError, match="nothing in it was run"):
        kept_weights(job.checkpoints, job.fingerprint)
    assert not marker.exists()


def test_forged_packed_arrays_and_cards_are_refused(digits_copy: Path, trap: bytes, marker: Path) -> None:
    card = read_card(digits_copy)
    arrays = sorted((digits_copy / "train").glob("*.npy"))
    for path in arrays:
        whole = path.read_bytes()
        forged = np.empty(1, dtype=object)
        forged[0] = Trap(marker)
        np.save(path, forged, allow_pickle=True)
        with pytest.raises(IntegrityError):
            open_split(digits_copy, "train", card)
        path.write_bytes(trap)
        with pytest.raises(IntegrityError):
            open_split(digits_copy, "train", card)
        path.write_bytes(whole)
    (digits_copy / "card.json").write_bytes(trap)
    with pytest.raises(IntegrityError):
        read_card(digits_copy)
    assert arrays and not marker.exists()


def test_forged_models_are_refused(job: FitJob, packed_digits: Path, tmp_path: Path, trap: bytes, marker: Path) -> None:
    weights, _ = kept_weights(job.checkpoints, job.fingerprint)
    spec = InputSpec.from_card(read_card(packed_digits))
    folder = tmp_path / "model"
    folder.mkdir()
    paths = folder / "model.safetensors", folder / "recipe.json"
    save_model(*paths, weights, job.recipe, spec, "f")
    load_model(folder)
    for path in paths:
        whole = path.read_bytes()
        forged = [trap]
        if path.suffix == ".safetensors":
            torch.save({"network": Trap(marker)}, path)
            forged.append(path.read_bytes())
        for content in forged:
            path.write_bytes(content)
            with pytest.raises(IntegrityError):
                load_model(folder)
            if path.suffix == ".safetensors":
                with pytest.raises(TrainyardError):
                    plan_transfer(path, file_sha256(path), job.recipe.model, spec)
        path.write_bytes(whole)
    (folder / "model.onnx").write_bytes(trap)
    with pytest.raises(IntegrityError):
        open_session(folder / "model.onnx")
    assert not marker.exists()


def test_a_forged_spool_and_manifest_are_passed_over(job: FitJob, trap: bytes, marker: Path) -> None:
    job.spool.write_bytes(trap + b"\n")
    assert list(Reader(job.spool).read()) == []
    for found in checkpoint.scan(job.checkpoints, job.fingerprint)[0]:
        (found.state.parent / MANIFEST).write_bytes(trap)
    valid, refused = checkpoint.scan(job.checkpoints, job.fingerprint)
    assert not valid and refused
    with pytest.raises(IntegrityError):
        fit(job)
    assert not marker.exists()


def test_no_code_of_ours_unpickles_or_lets_a_library_do_so(root: Path) -> None:
    wrong = []
    for path in [*(root / "src").rglob("*.py"), *(root / "pipeline").glob("*.py")]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            code = line.partition("#")[0]
            unsafe = any(word in code for word in ("pickle.load", "joblib.load", "allow_pickle=True"))
            unsafe = unsafe or ("weights_only=False" in code and "dump_checkpoint" not in code)  # what is written
            if unsafe or ("torch.load(" in code and "weights_only=True" not in code):
                wrong.append(f"{path.relative_to(root)}:{number}: {line.strip()}")
    assert not [line for line in wrong if "numpy.save" not in line]
