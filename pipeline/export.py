"""Stage `export`: a trained and admitted model in; a bundle of verified formats, with all that is needed to use them, out."""

import argparse
from dataclasses import replace
from pathlib import Path

from trainyard.stage import Clock, leave, run_stage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", help="a block under `recipes:` in params.yaml")
    parser.add_argument("data_dir", type=Path, help="what stage `prepare` wrote")
    parser.add_argument("model_dir", type=Path, help="what stage `train` wrote, and where the formats go")
    parser.add_argument("report_dir", type=Path, help="what stage `evaluate` wrote, and where the metrics go")
    arguments = parser.parse_args()
    run_stage(arguments.recipe, "export", lambda clock: export_stage(arguments, clock))


def export_stage(arguments: argparse.Namespace, clock: Clock) -> str:
    """Export a model, and add it to its run."""
    from trainyard.recipe import read_recipe, read_settings

    recipe = read_recipe(Path("params.yaml"), arguments.recipe)
    tracking_config = read_settings(Path("params.yaml"))[1]

    from trainyard.data.packed import read_card
    from trainyard.evaluation.note import note
    from trainyard.evaluation.results import read_made
    from trainyard.export.bundle import FILES, FOLDERS, MANIFEST, SERVED
    from trainyard.export.export import Evaluated, export
    from trainyard.models.saved import load_model
    from trainyard.origin.record import stage_tags
    from trainyard.provenance import scratch_root
    from trainyard.tasks.primary import PRIMARY
    from trainyard.tracking.run import Tracking
    from trainyard.training.outcome import free_scratch, write_metrics

    free_scratch(scratch_root(), Path("dvc.lock"))
    model_dir, report_dir = arguments.model_dir, arguments.report_dir
    with Tracking(scratch_root(), tracking_config, recipe, "export") as tracking:
        with clock.work():
            saved = replace(load_model(model_dir), recipe=recipe)
            report = read_made(report_dir / "report.json", "run `dvc repro` to evaluate the recipe")
            evaluated = Evaluated(report=report, figures=report_dir / "figures")
            exported = export(saved, arguments.data_dir, model_dir, evaluated)
            write_metrics(report_dir / "export.json", exported.metrics)
        card = read_card(arguments.data_dir)
        tracking.attach(model_dir / "run.json", saved.fingerprint, card)
        made = [model_dir / name for name in (*FILES, MANIFEST)]
        tracking.tag(stage_tags(Path.cwd(), recipe.name, "export", made))
        tracking.metrics({f"export/{name}": value for name, value in exported.metrics.items()})
        tracking.model(model_dir, (*SERVED, MANIFEST), exported.tags)
        tracking.artifacts([*(path for path in made if path != exported.path), model_dir / "recipe.json"], "export")
        for folder in FOLDERS:
            tracking.artifacts(sorted(path for path in (model_dir / folder).iterdir()), f"export/{folder}")
        tracking.artifacts([model_dir / "model.safetensors"], "weights")
        tracking.note(note(report_dir, card, ("train", "evaluate", "gate", "export")))
    metrics = exported.metrics
    said = [
        f"{exported.path.name}: {metrics['size_bytes'] / 1e6:.2f} MB, {metrics['latency_p50_ms']:.2f} ms, "
        f"largest logit difference {metrics['parity_max_difference']:.1e}"
    ]
    if (drop := metrics.get("onnx_int8_quality_drop")) is not None:
        said.append(
            f"int8: {metrics['onnx_int8_latency_p50_ms']:.2f} ms, {PRIMARY[saved.spec.kind]} worse by {max(0.0, drop):.4f}"
        )
    return "; ".join(said)


if __name__ == "__main__":
    main()
    leave()
