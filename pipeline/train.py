"""Stage `train`: packed data in; best weights, their recipe, the run's identity and the curves out."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from trainyard.errors import InputError
from trainyard.stage import Clock, run_stage

if TYPE_CHECKING:
    from trainyard.data.packed import Card
    from trainyard.recipe import Recipe
    from trainyard.training.cluster_config import TrackingConfig
    from trainyard.training.launch import Launch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", help="a block under `recipes:` in params.yaml")
    parser.add_argument("data_dir", type=Path, help="what stage `prepare` wrote")
    parser.add_argument("model_dir", type=Path, help="where weights, recipe and run identity go")
    parser.add_argument("report_dir", type=Path, help="where metrics and curves go")
    arguments = parser.parse_args()
    run_stage(arguments.recipe, "train", lambda clock: train(arguments, clock))


def train(arguments: argparse.Namespace, clock: Clock) -> str:
    """Start the workers, and record and hand on what they make."""
    from trainyard.data.packed import read_card, verify
    from trainyard.fingerprint import fingerprint
    from trainyard.models.spec import InputSpec, check_input
    from trainyard.provenance import scratch_root
    from trainyard.recipe import check_kind, read_recipe, read_settings
    from trainyard.tasks.train_config import check_train
    from trainyard.training.job import FitJob
    from trainyard.training.launch import started
    from trainyard.training.outcome import free_scratch, free_storage, open_scratch, open_storage

    recipe = read_recipe(Path("params.yaml"), arguments.recipe)
    cluster, tracking = read_settings(Path("params.yaml"))
    card = read_card(arguments.data_dir)
    verify(arguments.data_dir, card)
    check_kind(recipe, card.kind)
    check_input(recipe.model, InputSpec.from_card(card))
    check_train(recipe.train, card)
    weights = start(recipe, card)
    mark = fingerprint(recipe, card.sha256)
    lock = Path("dvc.lock")
    free_scratch(scratch_root(), lock)
    scratch = open_scratch(scratch_root(), mark, lock)
    job = FitJob(
        recipe=recipe,
        data_dir=arguments.data_dir.resolve(),
        data_sha256=card.sha256,
        scratch_dir=scratch,
        fingerprint=mark,
        weights=weights,
        storage=cluster.storage,
        data_cache_gigabytes=cluster.data_cache_gigabytes,
        checkpoint_seconds=cluster.checkpoint_seconds,
        checkpoint_steps=cluster.checkpoint_steps,
    )
    if cluster.storage is not None:
        free_storage(cluster.storage, lock)
        job = open_storage(job)
    with started(job, cluster) as launched:
        # The workers start while this process imports torch and MLflow.
        return follow(launched, card, tracking, arguments, clock)


def start(recipe: Recipe, card: Card) -> Path | None:
    """Check the weights that a recipe begins with, and say what they bring."""
    if (wanted := recipe.train.start_from) is None:
        return None
    from trainyard.models.spec import InputSpec
    from trainyard.models.transfer import plan_transfer
    from trainyard.progress import say

    path = Path(wanted.weights)
    transfer = plan_transfer(path, wanted.sha256, recipe.model, InputSpec.from_card(card))
    if wanted.freeze and not transfer.new:
        raise InputError(f"train.start_from.freeze: {path} has every layer of the network, so none is left to train; remove it")
    say(recipe.name, "train", f"begins with {path}: {transfer}")
    return path.resolve()


def follow(launched: Launch, card: Card, tracking_config: TrackingConfig, arguments: argparse.Namespace, clock: Clock) -> str:
    """Show and record a training while it runs, and write what came out."""
    from trainyard.files import write_whole
    from trainyard.models.saved import save_model
    from trainyard.models.spec import InputSpec, receptive_field
    from trainyard.progress import TrainProgress, say
    from trainyard.provenance import dvc_tags, git_tags, scratch_root
    from trainyard.tasks.primary import PRIMARY
    from trainyard.tracking import Forwarder, Tracking
    from trainyard.training.checkpoint import kept_weights
    from trainyard.training.hardware import describe
    from trainyard.training.outcome import close_scratch, summarise, write_history, write_metrics
    from trainyard.training.spool import Reader

    job, recipe, mark = launched.job, launched.job.recipe, launched.job.fingerprint
    run_path = job.scratch_dir / "run.json"
    tracking = Tracking(scratch_root(), tracking_config, recipe)
    # What cannot be run leaves no run behind.
    launched.ready()
    known = json.loads(run_path.read_text(encoding="utf-8"))["run_id"] if run_path.is_file() else None
    run_id = known and tracking.find(known, mark)
    if run_id is None:
        tags = {**git_tags(Path.cwd()), **dvc_tags(Path("dvc.lock"), recipe.name), **describe()}
        run_id = tracking.start(mark, card, {**tags, "workers": str(launched.workers)})
        write_whole(run_path, f"{json.dumps({'run_id': run_id, 'fingerprint': mark})}\n".encode())

    primary = PRIMARY[card.kind]
    progress = TrainProgress(recipe.name, recipe.train.epochs, primary)
    forwarder = Forwarder(tracking, run_id, Reader(job.spool), job.scratch_dir / "sent.json")

    def watch() -> None:
        for record in forwarder.forward():
            progress.show(record)

    with tracking.running(run_id):
        result = launched.wait(watch)
        weights, facts = kept_weights(job.store(), mark, recipe.train.keep)
        metrics = summarise(result, primary, facts.epoch, receptive_field(recipe.model))
        if not forwarder.flush():
            say(recipe.name, "train", f"the tracking server is away; its records wait in {job.spool}")
        tracking.metrics(run_id, metrics)
        tracking.tag(run_id, {"arithmetic": result.precision, **launched.notes})
    clock.work_seconds += result.history[-1]["seconds"]

    model_dir = arguments.model_dir
    spec = InputSpec.from_card(card)
    save_model(model_dir / "model.safetensors", model_dir / "recipe.json", weights, recipe, spec, mark)
    write_history(arguments.report_dir / "history.csv", result.history)
    write_metrics(arguments.report_dir / "train.json", metrics)
    run = run_path.read_bytes()
    write_whole(model_dir / "run.json", run)
    close_scratch(job.scratch_dir, run, job.store() if job.storage else None)
    best = metrics[f"best/{primary}"]
    size = f"{metrics['parameters']:,} parameters"
    if "receptive_field" in metrics:
        size += f", receptive field of {metrics['receptive_field']} pixels"
    kept = "best val" if recipe.train.keep == "best" else "val"
    return f"{kept} {primary} {best:.4f} in epoch {metrics['best/epoch']} of {metrics['epochs']}; {size}; {result.precision}"


if __name__ == "__main__":
    main()
