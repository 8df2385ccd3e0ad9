"""Stage `export`: a trained model in; verified portable formats, their parity and latency out."""

import argparse
from dataclasses import replace
from pathlib import Path

from trainyard.stage import Clock, run_stage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", help="a block under `recipes:` in params.yaml")
    parser.add_argument("data_dir", type=Path, help="what stage `prepare` wrote")
    parser.add_argument("model_dir", type=Path, help="what stage `train` wrote, and where the formats go")
    parser.add_argument("report_dir", type=Path, help="where the metrics go")
    arguments = parser.parse_args()
    run_stage(arguments.recipe, "export", lambda clock: export_stage(arguments, clock))


def export_stage(arguments: argparse.Namespace, clock: Clock) -> str:
    """Export a model, and add it to its run."""
    from trainyard.recipe import read_recipe, read_settings

    recipe = read_recipe(Path("params.yaml"), arguments.recipe)
    tracking_config = read_settings(Path("params.yaml"))[1]

    from trainyard.data.packed import read_card
    from trainyard.export.export import export
    from trainyard.models.saved import load_model
    from trainyard.origin.record import stage_tags
    from trainyard.provenance import scratch_root
    from trainyard.tracking.run import Tracking
    from trainyard.training.outcome import free_scratch, write_metrics

    free_scratch(scratch_root(), Path("dvc.lock"))
    model_dir = arguments.model_dir
    with Tracking(scratch_root(), tracking_config, recipe, "export") as tracking:
        with clock.work():
            saved = replace(load_model(model_dir), recipe=recipe)
            exported = export(saved, arguments.data_dir, model_dir / "model.onnx", model_dir / "parity.json")
            write_metrics(arguments.report_dir / "export.json", exported.metrics)
        tracking.attach(model_dir / "run.json", saved.fingerprint, read_card(arguments.data_dir))
        tracking.tag(stage_tags(Path.cwd(), recipe.name, "export", [exported.path, model_dir / "parity.json"]))
        tracking.metrics({f"export/{name}": value for name, value in exported.metrics.items()})
        tracking.onnx_model(exported.path, exported.example, exported.logits)
        tracking.artifacts([model_dir / "parity.json", model_dir / "recipe.json"], "export")
        tracking.artifacts([model_dir / "model.safetensors"], "weights")
    size, latency = exported.metrics["size_bytes"], exported.metrics["latency_p50_ms"]
    return (
        f"{exported.path.name}: {size / 1e6:.2f} MB, {latency:.2f} ms, "
        f"largest logit difference {exported.metrics['parity_max_difference']:.1e}"
    )


if __name__ == "__main__":
    main()
