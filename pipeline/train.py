"""Stage `train`: packed data in; best weights, their recipe, the run's identity and the curves out."""

import argparse
import json
from pathlib import Path

from trainyard.stage import Clock, run_stage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", help="a block under `recipes:` in params.yaml")
    parser.add_argument("data_dir", type=Path, help="what stage `prepare` wrote")
    parser.add_argument("model_dir", type=Path, help="where weights, recipe and run identity go")
    parser.add_argument("report_dir", type=Path, help="where metrics and curves go")
    arguments = parser.parse_args()
    run_stage(arguments.recipe, "train", lambda clock: train(arguments, clock))


def train(arguments: argparse.Namespace, clock: Clock) -> str:
    """Train, record, and hand on the best weights."""
    from trainyard.data.packed import read_card, verify
    from trainyard.files import write_whole
    from trainyard.fingerprint import fingerprint
    from trainyard.models.build import check_size
    from trainyard.models.saved import save_model
    from trainyard.models.spec import InputSpec
    from trainyard.progress import TrainProgress, say
    from trainyard.provenance import dvc_tags, git_tags, scratch_root
    from trainyard.recipe import read_recipe, read_settings
    from trainyard.tasks.primary import PRIMARY
    from trainyard.tracking import Forwarder, Tracking
    from trainyard.training.fit import FitJob, best_weights
    from trainyard.training.hardware import describe
    from trainyard.training.launch import launch
    from trainyard.training.outcome import close_scratch, open_scratch, summarise, write_history, write_metrics
    from trainyard.training.spool import Reader

    recipe = read_recipe(Path("params.yaml"), arguments.recipe)
    cluster, tracking_config = read_settings(Path("params.yaml"))
    card = read_card(arguments.data_dir)
    verify(arguments.data_dir, card)
    spec = InputSpec.from_card(card)
    check_size(recipe.model, spec)
    mark = fingerprint(recipe, card.sha256)
    root = scratch_root()
    scratch = open_scratch(root, mark)
    run_path = scratch / "run.json"

    tracking = Tracking(root, tracking_config, recipe)
    known = json.loads(run_path.read_text(encoding="utf-8"))["run_id"] if run_path.is_file() else None
    run_id = known and tracking.find(known, mark)
    if run_id is None:
        tags = {**git_tags(Path.cwd()), **dvc_tags(Path("dvc.lock"), recipe.name), **describe()}
        run_id = tracking.start(mark, card, {**tags, "cluster.workers": str(cluster.workers)})
        write_whole(run_path, f"{json.dumps({'run_id': run_id, 'fingerprint': mark})}\n".encode())

    job = FitJob(recipe=recipe, data_dir=arguments.data_dir.resolve(), scratch_dir=scratch, fingerprint=mark)
    primary = PRIMARY[card.kind]
    progress = TrainProgress(recipe.name, recipe.train.epochs, primary)
    forwarder = Forwarder(tracking, run_id, Reader(job.spool), scratch / "sent.json")

    def watch() -> None:
        for record in forwarder.forward():
            progress.show(record)

    with tracking.running(run_id):
        result = launch(job, cluster, watch)
        weights, facts = best_weights(job)
        metrics = summarise(result, primary, facts.epoch)
        if not forwarder.flush():
            say(recipe.name, "train", f"the tracking server is away; its records wait in {job.spool}")
        tracking.metrics(run_id, metrics)
        tracking.tag(run_id, {"arithmetic": result.precision})
    clock.work_seconds += result.history[-1]["seconds"]

    model_dir = arguments.model_dir
    save_model(model_dir / "model.safetensors", model_dir / "recipe.json", weights, recipe, spec, mark)
    write_history(arguments.report_dir / "history.csv", result.history)
    write_metrics(arguments.report_dir / "train.json", metrics)
    write_whole(model_dir / "run.json", run_path.read_bytes())
    close_scratch(scratch)
    best = metrics[f"best/{primary}"]
    return f"best val {primary} {best:.4f} in epoch {metrics['best/epoch']} of {metrics['epochs']}, {result.precision}"


if __name__ == "__main__":
    main()
