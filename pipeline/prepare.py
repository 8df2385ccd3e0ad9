"""Stage `prepare`: a recipe's raw data in, packed arrays and their card out."""

import argparse
from functools import partial
from pathlib import Path

from trainyard.progress import say
from trainyard.stage import Clock, leave, run_stage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", help="a block under `recipes:` in params.yaml")
    parser.add_argument("data_dir", type=Path, help="where the packed data goes")
    arguments = parser.parse_args()

    def work(clock: Clock) -> str:
        from trainyard.data.prepare import prepare
        from trainyard.provenance import scratch_root
        from trainyard.recipe import read_recipe

        recipe = read_recipe(Path("params.yaml"), arguments.recipe)
        with clock.work():
            scratch = scratch_root() / ".trainyard" / "prepare" / recipe.name
            progress = partial(say, recipe.name, "prepare")
            card = prepare(recipe.name, recipe.data, arguments.data_dir, scratch=scratch, progress=progress)
        for warning in card.warnings:
            found = warning["found"] if len(warning["found"]) < 200 else f"{warning['found'][:200]} ... (all in card.json)"
            say(recipe.name, "prepare", f"warning: {warning['where']}: {found}; {warning['expected']}")
        counts = ", ".join(f"{count:,} {split}" for split, count in card.samples.items())
        left_out = f", {len(card.skipped):,} bad ones left out" if card.skipped else ""
        return f"{card.source}: {counts} samples in {len(card.classes)} classes{left_out}"

    run_stage(arguments.recipe, "prepare", work)


if __name__ == "__main__":
    main()
    leave()
