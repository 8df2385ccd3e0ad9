"""One fit in one process, alone or as one of several workers. Knows no Ray and no tracking."""

from __future__ import annotations

import logging
import pickle
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from trainyard.data.batches import ScoringBatches, TrainBatches, hold
from trainyard.data.packed import VECTORS, open_split, read_card
from trainyard.errors import ServiceError, TrainyardError
from trainyard.models.build import NormalisedImages, build_network
from trainyard.models.lstm_config import LSTMConfig
from trainyard.models.spec import InputSpec
from trainyard.models.transfer import take_over
from trainyard.models.whitening import whiten
from trainyard.models.word_vectors import take_vectors
from trainyard.tasks.build import build_task
from trainyard.tasks.primary import PRIMARY
from trainyard.training import checkpoint, fault, trace
from trainyard.training.arithmetic import choose, prepare_torch, this_machine
from trainyard.training.averaging import Averaging, averaged_copy
from trainyard.training.compiling import install
from trainyard.training.global_norm import normalise_over_workers
from trainyard.training.hardware import room_for_data, take_device
from trainyard.training.job import FitJob, FitResult
from trainyard.training.keeper import Keeper
from trainyard.training.memory import keep_freed
from trainyard.training.recorder import Recorder
from trainyard.training.relay import Outbox
from trainyard.training.restore import keeper_state, restore
from trainyard.training.sample_dropout import drop_by_sample
from trainyard.training.saver import Saver
from trainyard.training.shared_sum import SharedGradients
from trainyard.training.single_values import check_single_values
from trainyard.training.spool import FileSpool, Spool
from trainyard.training.steps import take_steps
from trainyard.training.trail import Trail
from trainyard.training.under_way import UnderWay


def fit(
    job: FitJob,
    *,
    rank: int = 0,
    world_size: int = 1,
    strategy: Any = "auto",
    plugins: Any = None,
    stop: threading.Event | None = None,
    callbacks: Sequence[pl.Callback] = (),
) -> FitResult:
    """Train a recipe to its end, from the newest valid checkpoint if there is one.

    Raises:
        Interrupted: `stop` was set.
        InputError: the loss or its gradient is not a number, or every attempt fails at the same samples.
        ServiceError: the store of the checkpoints is away.
        MachineError: a checkpoint could not be written, or workers die at the same samples in every attempt.
        IntegrityError: checkpoints are there and none of them is valid.
    """
    _quiet()
    keep_freed()
    began = time.monotonic()
    config = job.recipe.train
    card = read_card(job.data_dir)
    train_split, val_split = (open_split(job.data_dir, name, card) for name in ("train", "val"))
    batch_size = len(train_split) if config.batch_size == "full" else config.batch_size
    micro_batches = 1
    if config.micro_batch_size is not None:
        share = -(-min(batch_size, len(train_split)) // world_size)
        micro_batches = -(-share // config.micro_batch_size)
    batches = TrainBatches(
        train_split,
        batch_size=batch_size,
        seed=config.seed,
        rank=rank,
        world_size=world_size,
        micro_batches=micro_batches,
    )
    scoring_size = config.micro_batch_size or max(1, min(batch_size, 1024) // world_size)
    scoring = ScoringBatches(val_split, batch_size=max(scoring_size, 32), rank=rank, world_size=world_size)

    pl.seed_everything(config.seed, verbose=False)
    network = build_network(job.recipe.model, InputSpec.from_card(card))
    if isinstance(network, NormalisedImages):
        whiten(network, train_split.arrays["images"], network.normalise)
    if isinstance(job.recipe.model, LSTMConfig) and VECTORS in card.files:
        take_vectors(network, job.data_dir / VECTORS, job.recipe.model)
    if config.start_from is not None and job.weights is not None:
        take_over(network, job.weights, freeze=config.start_from.freeze)
    check_single_values(network, batches, config)
    # Before layers take the places of those that only training needs otherwise.
    averaged = None if config.ema is None else averaged_copy(network)
    under_way = UnderWay(config.seed)
    drop_by_sample(network, under_way)
    if config.batch_statistics == "global" and world_size > 1:
        normalise_over_workers(network, under_way)
    arithmetic = choose(config, card.kind, this_machine())
    prepare_torch(arithmetic)
    if arithmetic.channels_last:
        # On processors with bf16 up to three times as fast.
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        averaged = averaged and averaged.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    task = build_task(network, card, config, config.epochs * batches.steps, averaged)
    averaging = [] if config.ema is None else [Averaging(config.ema, micro_batches)]
    store = job.store()
    trail = Trail(job.trail, job.trail_store(), rank)
    spool = Outbox(store) if rank == 0 and job.storage is not None else FileSpool(job.spool)
    recorder = Recorder(spool, config.epochs * batches.steps)
    saver = Saver(store, job.fingerprint, recorder.note, spool.flush) if rank == 0 else None
    keeper = Keeper(
        config=config,
        batches=batches,
        primary=PRIMARY[card.kind],
        fingerprint=job.fingerprint,
        saver=saver,
        recorder=recorder,
        trail=trail,
        under_way=under_way,
        stop=stop or threading.Event(),
        checkpoint_seconds=job.checkpoint_seconds,
        checkpoint_steps=job.checkpoint_steps,
    )
    say = recorder.note if rank == 0 else _nothing
    compiling = install(arithmetic.compiled, network, batches, config.epochs * batches.steps, say)
    trainer = pl.Trainer(
        max_epochs=config.epochs,
        accelerator="auto",
        devices="auto" if world_size > 1 else 1,
        strategy=strategy,
        plugins=plugins,
        # The caller's first: they note a phase before a fault on demand can happen in it.
        callbacks=[
            *callbacks,
            *([SharedGradients()] if world_size > 1 else []),
            *compiling,
            *averaging,
            *trace.install(rank),
            *fault.install(job.scratch_dir, rank),
            keeper,
        ],
        precision=arithmetic.precision,
        accumulate_grad_batches=micro_batches,
        deterministic="warn" if config.deterministic else False,
        benchmark=arithmetic.autotune,
        use_distributed_sampler=False,
        default_root_dir=str(job.scratch_dir),
        logger=False,
        # The keeper is the only checkpoint callback; as one it runs last at the end of an epoch.
        enable_checkpointing=True,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    take_steps(trainer)
    device = trainer.strategy.root_device
    take_device(device)
    batches.held = hold(train_split, device, room_for_data(device))
    scoring.held = hold(val_split, device, room_for_data(device))
    found = restore(job, store, rank)
    resume = found.checkpoint.facts if found is not None else None
    for line in found.refused if found is not None else ():
        recorder.note(f"refused {line}")
    if found is not None and found.checkpoint.facts.finished:
        # It has nothing to continue; its history is in its checkpoint.
        keeper.load_state_dict(keeper_state(found))
        recorder.recall()
        recorder.begin(found.checkpoint.facts.step, keeper.history if rank == 0 else [])
        spool.flush()
        start_seconds = time.monotonic() - began
    else:
        say(f"computes in {arithmetic}")
        if resume is not None and not resume.ended:
            batches.begin = (resume.epoch, resume.step - resume.epoch * batches.steps)
        state = found.state if found is not None else None
        with _traced(trail, saver, spool, state):
            trainer.fit(task, batches, scoring, ckpt_path=state, weights_only=True)
        start_seconds = keeper.recorder.started - began
    return FitResult(
        history=keeper.history,
        parameters=sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad),
        precision=str(arithmetic),
        start_seconds=start_seconds,
        resumed_epoch=resume.epoch + resume.ended if resume else None,
    )


@contextmanager
def _traced(trail: Trail, saver: Saver | None, spool: Spool, state: Path | None) -> Iterator[None]:
    """Leave on the trail how a training ends, and see to it that what it submitted and recorded is where it belongs."""
    try:
        yield
        spool.flush()
        trail.end()
    except pickle.UnpicklingError as error:
        trail.end()
        raise checkpoint.forged(state or trail.folder, error) from None
    except TrainyardError as error:
        # All workers leave, at the same step: there is time.
        if saver is not None:
            saver.drain()
        if not isinstance(error, ServiceError):
            with suppress(ServiceError, OSError):
                spool.flush()
        trail.end()
        raise
    except Exception as error:
        trail.end(error)
        raise
    finally:
        if saver is not None:
            saver.close()
        spool.close()


def _nothing(text: str) -> None:
    """Say nothing: rank 0 speaks for all."""


def _quiet() -> None:
    """Silence what the frameworks say on every run, whatever the user does."""
    for name in ("pytorch_lightning", "lightning.pytorch", "pytorch_lightning.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # The loaders are iterables of ready batches from memory-mapped arrays; worker processes would only add copies.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*not.* a `Sampler`.*|.*sync_dist=True.*|.*srun.*|.*isinstance.*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*`IterableDataset` has `__len__` defined.*")
    # They are: what a batch is follows from its number.
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
    # A worker's share of a small validation split may be empty.
    warnings.filterwarnings("ignore", message=".*was called before the ``update`` method.*")
    # Weights of which some are left out are no longer in one piece, which costs a copy.
    warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk.*")
    # torch's compiler looks at all of a tensor where a graph begins behind dropout, which stays uncompiled.
    warnings.filterwarnings("ignore", message=r"The \.grad attribute of a Tensor that is not a leaf Tensor.*")
    # Frozen layers, as the recipe wants them.
    warnings.filterwarnings("ignore", message="Found .* module.s. in eval mode.*")
