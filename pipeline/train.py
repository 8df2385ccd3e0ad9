"""Stage `train`: packed data in; best weights, their recipe, the run's identity and the curves out."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from trainyard.stage import Clock, leave, run_stage

if TYPE_CHECKING:
    from trainyard.data.packed import Card
    from trainyard.tracking.run import Tracking
    from trainyard.training.launch import Launch
    from trainyard.training.lease import Lease


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
    from trainyard.models.spec import InputSpec
    from trainyard.progress import say
    from trainyard.provenance import scratch_root
    from trainyard.recipe import check_data, read_recipe, read_settings
    from trainyard.tracking.run import Tracking
    from trainyard.training.job import FitJob
    from trainyard.training.launch import started
    from trainyard.training.lease import held
    from trainyard.training.outcome import bring_identity, check_storage, free_scratch, free_storage, open_scratch, open_storage

    recipe = read_recipe(Path("params.yaml"), arguments.recipe)
    cluster, tracking_config = read_settings(Path("params.yaml"))
    card = read_card(arguments.data_dir)
    verify(arguments.data_dir, card)
    brought = check_data(recipe, InputSpec.from_card(card), Path())
    if (begin := recipe.train.start_from) is not None:
        say(recipe.name, "train", f"begins with {begin.weights}: {brought}")
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
        weights=None if begin is None else Path(begin.weights).resolve(),
        storage=cluster.storage,
        data_cache_gigabytes=cluster.data_cache_gigabytes,
        checkpoint_seconds=cluster.checkpoint_seconds,
        checkpoint_steps=cluster.checkpoint_steps,
    )
    if cluster.storage is not None:
        check_storage(cluster.storage)
        free_storage(cluster.storage, lock)
    with held(job.store(), lambda text: say(recipe.name, "train", text)) as lease:
        if job.storage is not None:
            job = open_storage(job)
            bring_identity(job)
        with Tracking(scratch_root(), tracking_config, recipe, "train") as tracking, started(job, cluster) as launched:
            # The workers, and the process that talks to MLflow, start while this one imports torch.
            return follow(launched, card, tracking, lease, arguments, clock)


def follow(launched: Launch, card: Card, tracking: Tracking, lease: Lease, arguments: argparse.Namespace, clock: Clock) -> str:
    """Show and record a training while it runs, and write what came out."""
    from trainyard.files import write_whole
    from trainyard.models.saved import save_model
    from trainyard.models.spec import InputSpec, receptive_field
    from trainyard.origin.record import FOLDER, Placed, write_origin
    from trainyard.progress import TrainProgress
    from trainyard.provenance import dvc_tags
    from trainyard.tasks.primary import PRIMARY
    from trainyard.training.checkpoint import kept_weights
    from trainyard.training.load import Loads
    from trainyard.training.outcome import RUN, close_scratch, share_identity, summarise, write_history, write_metrics
    from trainyard.training.spool import Reader

    job, recipe, mark = launched.job, launched.job.recipe, launched.job.fingerprint
    # What cannot be run leaves no run behind.
    launched.ready()
    placed = Placed(
        workers=launched.workers,
        cpus_per_worker=launched.cluster.threads,
        address=launched.shown_address,
        run_name=mark if launched.workers else "none, in the driver's process",
    )
    origin, tags = write_origin(job.scratch_dir, recipe, mark, card, placed, Path.cwd())
    tracking.start(job.scratch_dir / RUN, mark, card, tags)
    tracking.artifacts(origin, FOLDER)
    tracking.artifacts([arguments.data_dir / "card.json"], "data")
    if job.storage is not None:
        share_identity(job)
    primary = PRIMARY[card.kind]
    progress, reader = TrainProgress(recipe.name, recipe.train.epochs, primary), Reader(job.spool)
    loads = Loads(host=os.uname().nodename)

    def watch() -> None:
        for record in tracking.record(reader):
            progress.show(record)
        for sample in launched.loads():
            tracking.load(loads.take(sample))
        tracking.watch()
        lease.check()

    with tracking.running(job.spool):
        result = launched.wait(watch)
        weights, facts = kept_weights(job.store(), mark, recipe.train.keep)
        metrics = summarise(result, primary, facts.epoch, receptive_field(recipe.model))
        # What has a curve is not told once more.
        tracking.metrics({name: value for name, value in metrics.items() if name not in result.history[-1]})
        tracking.metrics(loads.summary())
        hosts = ", ".join(sorted(loads.hosts))
        tracking.tag({"arithmetic": result.precision, "ray.hosts": hosts, **launched.notes})
    clock.work_seconds += result.history[-1]["seconds"]
    clock.facts |= {"fingerprint": mark, "data_sha256": card.sha256, "epochs": len(result.history), "workers": launched.workers}
    clock.facts |= loads.memory()

    model_dir = arguments.model_dir
    spec = InputSpec.from_card(card)
    weights_sha256 = save_model(model_dir / "model.safetensors", model_dir / "recipe.json", weights, recipe, spec, mark)
    write_history(arguments.report_dir / "history.csv", result.history)
    write_metrics(arguments.report_dir / "train.json", metrics)
    made = [model_dir / "model.safetensors", model_dir / "recipe.json", arguments.report_dir / "history.csv"]
    tracking.tag({**dvc_tags(Path("dvc.lock"), recipe.name, "train", made), "weights.sha256": weights_sha256})
    tracking.finish()
    run = tracking.identity()
    write_whole(model_dir / "run.json", run)
    close_scratch(job.scratch_dir, run, job.store() if job.storage else None)
    best = metrics[f"best/{primary}"]
    size = f"{metrics['parameters']:,} parameters"
    if "receptive_field" in metrics:
        size += f", receptive field of {metrics['receptive_field']} pixels"
    kept = "best val" if recipe.train.keep == "best" else "val"
    return f"{kept} {primary} {best:.4f} in epoch {metrics['best/epoch']} of {metrics['epochs']}; {size}"


if __name__ == "__main__":
    main()
    leave()
