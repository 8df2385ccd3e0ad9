"""The page of twenty models, as a person opens it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.comparing.contenders import elsewhere
from trainyard.comparing.chosen import asked_the_same
from trainyard.comparing.contender import Contender, read_details
from trainyard.comparing.page import page
from trainyard.comparing.paired import held_against_first
from trainyard.data.packed import open_split, read_card
from trainyard.evaluation.predictions import label_predictions
from trainyard.evaluation.result_columns import label_columns
from trainyard.evaluation.results import About, read_results, sha256_of_test, write_results

pytestmark = pytest.mark.browser
MODELS = 20
EPOCHS = 200


@pytest.fixture(scope="module")
def twenty(packed_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of twenty models of the digits, each wrong here and there; the last one was tested on other samples."""
    folder = tmp_path_factory.mktemp("twenty")
    card, test = read_card(packed_digits), open_split(packed_digits, "test")
    labels = np.asarray(test.arrays["labels"])
    rng = np.random.default_rng(0)
    models = []
    for number in range(MODELS):
        about = About(
            recipe=f"cnn_{number}",
            fingerprint=f"cnn_{number}-{number:016x}",
            kind="image_classification",
            primary="accuracy",
            classes=card.classes,
            test_sha256=sha256_of_test(card),
        )
        probabilities = rng.dirichlet(np.ones(10), len(labels)) * 0.8 + 0.2 * np.eye(10)[labels]
        path = folder / f"{number}.parquet"
        write_results(path, about, test, label_columns(test, label_predictions(probabilities, labels)))
        falling = [(float(epoch), float(2 * np.exp(-epoch / (30 + number)))) for epoch in range(1, EPOCHS + 1)]
        names = ("train/loss", "val/loss", "val/accuracy", "val/macro_f1", "learning_rate", "gradient_norm")
        models.append(
            Contender(
                label=about.recipe,
                origin="recipe",
                place=f"recipe {about.recipe}",
                params={f"train.parameter_{index}": str(number if index < 5 else index) for index in range(70)},
                metrics={"seconds": 10.0 + number, **{f"class_f1/{index}": rng.random() for index in range(60)}},
                curves=dict.fromkeys(names, falling),
                results=read_results(path),
                details=read_details(path),
                card=card,
            )
        )
    models[-1] = replace(elsewhere(models[-1]), label="from_elsewhere")
    shown = page(models, held_against_first(models, 500), asked_the_same([str(packed_digits)], models))
    (folder / "comparison.html").write_text(shown, encoding="utf-8")
    return folder / "comparison.html"


def test_twenty_models_are_less_than_ten_megabytes(twenty: Path) -> None:
    assert 100_000 < twenty.stat().st_size < 10_000_000


def test_twenty_models_open_within_two_seconds_of_work(browser: webdriver.Chrome, twenty: Path) -> None:
    # Counted in the processor time of the page's own thread, so that a busy machine changes nothing.
    browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    browser.get(twenty.as_uri())
    browser.execute_script("return document.body.offsetHeight")
    counted = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    worked = {one["name"]: one["value"] for one in counted}
    browser.execute_cdp_cmd("Performance.disable", {})
    assert worked["Nodes"] > 5000
    assert 0 < worked["TaskDuration"] < 2


def test_it_asks_for_nothing_but_itself_and_complains_of_nothing(browser: webdriver.Chrome, twenty: Path) -> None:
    browser.get_log("performance")
    browser.get_log("browser")
    browser.get(twenty.as_uri())
    told = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [one["params"]["request"]["url"] for one in told if one["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] == [twenty.as_uri()]
    assert browser.get_log("browser") == []
    pictures = browser.find_elements(By.TAG_NAME, "img")
    assert len(pictures) == 40
    assert all(browser.execute_script("return arguments[0].naturalWidth", picture) == 8 for picture in pictures)


def test_the_model_that_was_tested_on_other_data_is_named_in_red(browser: webdriver.Chrome, twenty: Path) -> None:
    browser.get(twenty.as_uri())
    alarm = browser.find_element(By.CSS_SELECTOR, "[role=alert]")
    assert "Not tested on the same data as cnn_0: from_elsewhere." in alarm.text
    red, green, blue = (int(part) for part in alarm.value_of_css_property("color").strip("rgba()").split(",")[:3])
    assert red > 2 * max(green, blue)


def test_a_model_that_is_not_ticked_is_seen_nowhere(browser: webdriver.Chrome, twenty: Path) -> None:
    browser.get(twenty.as_uri())

    def seen(number: int) -> int:
        script = "return [...document.querySelectorAll(arguments[0])].filter(one => one.getClientRects().length).length"
        return int(browser.execute_script(script, f"td.m{number}, g.m{number} > polyline"))

    before = seen(3), seen(4)
    browser.find_element(By.ID, "show3").click()
    assert before[0] > 20 and seen(3) == 0
    assert seen(4) == before[1]
    browser.find_element(By.ID, "show3").click()
    assert seen(3) == before[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_read_by_light_and_by_dark(browser: webdriver.Chrome, twenty: Path, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(twenty.as_uri())
    body = browser.find_element(By.TAG_NAME, "body")
    ink, back = (_brightness(body.value_of_css_property(name)) for name in ("color", "background-color"))
    assert (ink < 60 and back > 240) if scheme == "light" else (ink > 200 and back < 40)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def _brightness(colour: str) -> float:
    return float(np.mean([float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]))
