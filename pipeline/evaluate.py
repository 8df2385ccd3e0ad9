"""Stage `evaluate`: a trained model and the test split in; metrics with intervals, tables and figures out."""

import argparse
from dataclasses import replace
from pathlib import Path

from trainyard.stage import Clock, leave, run_stage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", help="a block under `recipes:` in params.yaml")
    parser.add_argument("data_dir", type=Path, help="what stage `prepare` wrote")
    parser.add_argument("model_dir", type=Path, help="what stage `train` wrote")
    parser.add_argument("report_dir", type=Path, help="where history.csv is, and metrics, tables and figures go")
    arguments = parser.parse_args()
    run_stage(arguments.recipe, "evaluate", lambda clock: evaluate_stage(arguments, clock))


def evaluate_stage(arguments: argparse.Namespace, clock: Clock) -> str:
    """Score a model, and add what came out to its run."""
    from trainyard.recipe import read_recipe, read_settings

    recipe = read_recipe(Path("params.yaml"), arguments.recipe)
    tracking_config = read_settings(Path("params.yaml"))[1]

    from trainyard.data.packed import read_card
    from trainyard.evaluation.evaluate import evaluate
    from trainyard.evaluation.note import PLACE, note, preview
    from trainyard.evaluation.paths import ReportPaths
    from trainyard.models.saved import load_model
    from trainyard.origin.record import stage_tags
    from trainyard.provenance import scratch_root
    from trainyard.tasks.primary import PRIMARY
    from trainyard.tracking.run import Tracking
    from trainyard.training.outcome import free_scratch

    free_scratch(scratch_root(), Path("dvc.lock"))
    report_dir = arguments.report_dir
    paths = ReportPaths.within(report_dir)
    with Tracking(scratch_root(), tracking_config, recipe, "evaluate") as tracking:
        with clock.work():
            saved = replace(load_model(arguments.model_dir), recipe=recipe)
            scored = evaluate(saved, arguments.data_dir, report_dir / "history.csv", paths)
        card = read_card(arguments.data_dir)
        tracking.attach(arguments.model_dir / "run.json", saved.fingerprint, card)
        tracking.metrics(headline(scored.metrics, PRIMARY[saved.spec.kind]) | scored.by_class)
        made = stage_tags(Path.cwd(), recipe.name, "evaluate", [paths.metrics, paths.results])
        tracking.tag({**made, "baseline": scored.baseline or "none"})
        files = [paths.metrics, paths.report, paths.per_class, paths.worst, paths.results, report_dir / "history.csv"]
        tracking.artifacts(files, "evaluate")
        tracking.artifacts(sorted(paths.figures.glob("*.png")), "figures")
        tracking.artifacts([arguments.data_dir / "card.json", arguments.data_dir / "card.html"], "data")
        with preview(report_dir) as pictures:
            tracking.artifacts(pictures, PLACE[0])
        tracking.note(note(report_dir, card, ("train", "evaluate")))
    primary = PRIMARY[saved.spec.kind]
    line = f"test {primary} {scored.metrics[f'test/{primary}']:.4f}"
    if scored.baseline:
        line += f", baseline {scored.metrics[f'baseline/{primary}']:.4f} ({scored.baseline})"
    return line


def headline(metrics: dict[str, float], primary: str) -> dict[str, float]:
    """Return the metrics that are charted: all values, but the interval of the primary one alone."""
    return {
        name: value
        for name, value in metrics.items()
        if not name.endswith(("_low", "_high")) or name.startswith(f"test/{primary}")
    }


if __name__ == "__main__":
    main()
    leave()
