from __future__ import annotations

import dataclasses
from collections.abc import Callable

from trainyard.fingerprint import code_sha256, fingerprint, stage_code
from trainyard.recipe import Recipe

MakeRecipe = Callable[..., Recipe]


def test_the_same_state_has_the_same_name(make_recipe: MakeRecipe) -> None:
    assert fingerprint(make_recipe(), "a") == fingerprint(make_recipe(), "a")
    assert fingerprint(make_recipe(), "a").startswith("digits-")


def test_parameters_and_data_change_it(make_recipe: MakeRecipe) -> None:
    names = {
        fingerprint(make_recipe(), "a"),
        fingerprint(make_recipe(), "b"),
        fingerprint(make_recipe(epochs=9), "a"),
        fingerprint(make_recipe(model={"widths": (4,)}), "a"),
    }
    assert len(names) == 4


def test_how_it_is_scored_does_not_change_it(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe()
    other = dataclasses.replace(recipe, evaluate=dataclasses.replace(recipe.evaluate, bootstrap_samples=7))
    assert fingerprint(recipe, "a") == fingerprint(other, "a")


def test_the_code_of_a_family_counts_and_that_of_others_does_not(make_recipe: MakeRecipe) -> None:
    code = stage_code("train", make_recipe())
    assert {"trainyard.models.cnn", "trainyard.tasks.classification", "trainyard.training.keeper"} <= code
    assert not {"trainyard.models.unet", "trainyard.tasks.segmentation", "trainyard.tracking"} & code
    assert code_sha256(code) != code_sha256(code - {"trainyard.models.cnn"})
