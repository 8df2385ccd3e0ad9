"""Stage `gate`: an evaluated model in; whether it may be exported out. One that may not ends the pipeline, with exit code 6."""

import argparse
from pathlib import Path

from trainyard.stage import Clock, leave, run_stage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", help="a block under `recipes:` in params.yaml")
    parser.add_argument("data_dir", type=Path, help="what stage `prepare` wrote")
    parser.add_argument("model_dir", type=Path, help="what stage `train` wrote, and where the mark of admission goes")
    parser.add_argument("report_dir", type=Path, help="what stage `evaluate` wrote, and where the verdict goes")
    parser.add_argument("champion_dir", type=Path, help="what `trainyard promote` wrote, if anything")
    arguments = parser.parse_args()
    run_stage(arguments.recipe, "gate", lambda clock: gate_stage(arguments, clock))


def gate_stage(arguments: argparse.Namespace, clock: Clock) -> str:
    """Judge a model, and add the verdict to its run."""
    from trainyard.recipe import read_recipe, read_settings

    recipe = read_recipe(Path("params.yaml"), arguments.recipe)
    tracking_config = read_settings(Path("params.yaml"))[1]

    from trainyard.data.packed import read_card
    from trainyard.errors import Rejected
    from trainyard.evaluation.champion import read_champion
    from trainyard.evaluation.gate import judge, read_metrics, write_verdict
    from trainyard.evaluation.note import note
    from trainyard.origin.record import stage_tags
    from trainyard.progress import say
    from trainyard.provenance import scratch_root
    from trainyard.tracking.run import Tracking

    model_dir, report_dir = arguments.model_dir, arguments.report_dir
    with Tracking(scratch_root(), tracking_config, recipe, "gate") as tracking:
        with clock.work():
            metrics = read_metrics(report_dir / "evaluate.json")
            verdict = judge(recipe.gate, metrics, report_dir / "predictions.parquet", arguments.champion_dir)
            write_verdict(report_dir / "gate.json", model_dir / "admitted.json", verdict)
        card = read_card(arguments.data_dir)
        tracking.attach(model_dir / "run.json", verdict.fingerprint, card)
        made = stage_tags(Path.cwd(), recipe.name, "gate", [report_dir / "gate.json", model_dir / "admitted.json"])
        tracking.tag({**made, **verdict.tags()})
        if (champion := read_champion(arguments.champion_dir)) is not None:
            tracking.champion(champion[0].fingerprint)
        tracking.artifacts([report_dir / "gate.json"], "evaluate")
        tracking.note(note(report_dir, card, ("train", "evaluate", "gate")))
    failures = "; ".join(verdict.failures())
    if not verdict.admitted:
        raise Rejected(
            f"the model did not pass the gate, and is not exported: {failures}. Its report is in {report_dir}; improve it, or "
            "let it pass: gate: {on_fail: warn}"
        )
    if not verdict.passed:
        say(recipe.name, "gate", f"warning: the model did not pass the gate: {failures}")
        return "goes on all the same, as gate.on_fail: warn says"
    return "; ".join(["passed", *(f"{check.name}: {check.found}" for check in verdict.checks)])


if __name__ == "__main__":
    main()
    leave()
