"""MLflow's own pages of runs that trainyard recorded, as a person reads them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.browser.conftest import SECONDS
from tests.browser.recorded import RECIPE, record

pytestmark = pytest.mark.browser
TRAINING = "workflowType=machine_learning"
SELECT = """
const boxes = [...document.querySelectorAll('input[aria-label^="Press Space"]')]
const next = boxes.find(box => !box.checked && /digits-seed/.test(box.closest('[role=row]').innerText))
if (next) next.click()
return boxes.filter(box => box.checked).length
"""


@pytest.fixture(scope="module")
def pages(
    browser: webdriver.Chrome, root: Path, packed_digits: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of `trainyard ui` in a project with three runs."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "params.yaml").write_text("recipes: {}\n")
    record(folder, RECIPE, packed_digits, seeds=range(3))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    others = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    server = subprocess.Popen(
        [sys.executable, "-m", "trainyard.cli", "ui", "--port", str(port)],
        cwd=folder,
        env={**others, "PYTHONPATH": str(root / "src")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server)
        yield f"http://127.0.0.1:{port}/#/experiments/1"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            with urlopen(url, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.5)
    raise AssertionError(f"{url} does not answer; the server's exit code is {server.poll()}")


@pytest.fixture
def until(browser: webdriver.Chrome) -> Callable[[Callable[[webdriver.Chrome], Any]], Any]:
    """Wait for something on the page, and return it."""
    return WebDriverWait(browser, SECONDS, ignored_exceptions=(Exception,)).until


def shown(browser: webdriver.Chrome) -> str:
    """Return the text of the page."""
    return browser.find_element(By.TAG_NAME, "body").text


def pictures(browser: webdriver.Chrome) -> list[int]:
    """Return the widths of the pictures on the page, once they are loaded."""
    return [int(width) for width in browser.execute_script("return [...document.images].map(one => one.naturalWidth)")]


def test_three_runs_are_listed_by_result_selected_and_compared(
    browser: webdriver.Chrome, pages: str, until: Callable[..., Any]
) -> None:
    browser.get(f"{pages}/runs?viewStateShareKey=trainyard-accuracy&{TRAINING}")
    names = until(lambda page: [one.text for one in page.find_elements(By.PARTIAL_LINK_TEXT, "digits-seed")])
    assert {name.rpartition("-")[0] for name in names} == {"digits-seed0", "digits-seed1", "digits-seed2"}
    table = shown(browser)
    assert "Results by accuracy" in table and "test/accuracy" in table and "baseline/accuracy" in table
    assert until(lambda page: page.execute_script(SELECT) == 3)
    until(lambda page: next(one for one in page.find_elements(By.TAG_NAME, "button") if one.text == "Compare")).click()
    until(lambda page: "Comparing 3 Runs from 1 Experiment" in shown(page))
    # What differs is an axis of the parallel coordinates by itself.
    axes = until(lambda page: [one.text for one in page.find_elements(By.CSS_SELECTOR, ".parcoords .axis-title")])
    assert "train.seed" in axes and "train.learning_rate" in axes


def test_charts_are_grouped_by_what_they_show(browser: webdriver.Chrome, pages: str, until: Callable[..., Any]) -> None:
    browser.get(f"{pages}/runs?compareRunsMode=CHART&{TRAINING}")
    until(lambda page: page.find_elements(By.CSS_SELECTOR, ".js-plotly-plot"))
    text = until(lambda page: shown(page) if "class_f1" in shown(page) else "")
    lines = text.splitlines()
    for group in ("baseline", "best", "class_f1", "test", "train", "val"):
        assert group in lines
    assert not [line for line in lines if line.startswith("class/")]


def test_a_run_says_what_it_reached_and_shows_its_picture(
    browser: webdriver.Chrome, pages: str, until: Callable[..., Any]
) -> None:
    browser.get(f"{pages}/runs?{TRAINING}")
    link = until(lambda page: page.find_elements(By.PARTIAL_LINK_TEXT, "digits-seed")[0].get_attribute("href"))
    run = link.split("/runs/")[1].split("?")[0]
    browser.get(f"{pages}/runs/{run}?{TRAINING}")
    text = until(lambda page: shown(page) if "test accuracy" in shown(page) and "digits (" in shown(page) else "")
    assert "359 test" in text and "baseline 0.9000" in text
    assert until(lambda page: 128 in pictures(page))
    browser.get(f"{pages}/runs/{run}/artifacts/figures/samples.png?{TRAINING}")
    until(lambda page: "figures/samples.png" in shown(page))
    assert until(lambda page: 128 in pictures(page))
