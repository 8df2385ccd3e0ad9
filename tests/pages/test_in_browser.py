"""The pages of models, as a person uses them."""

from __future__ import annotations

import gzip
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tests.browser.conftest import SECONDS, browser  # noqa: F401
from tests.pages.pngs import chunk
from trainyard.serving.answers import palette
from trainyard.serving.server import listen
from trainyard.web.server import application

pytestmark = pytest.mark.browser
NAMES = ("digits", "cells", "reviews", "load")
Until = Callable[[Callable[[webdriver.Chrome], Any]], Any]
INK = "const c = arguments[0]; return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
NAMED = {"button", "checkbox", "radio", "slider", "textbox", "img", "image", "application", "group", "region"}
"""What a screen reader says the name of."""


@pytest.fixture(scope="module")
def site(pages: Path) -> Iterator[str]:
    """The address of all pages, each below it as on a host with other pages."""
    sock = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(application(pages), ws="none", lifespan="off", log_config=None))
    thread = threading.Thread(target=server.run, args=([sock],))
    thread.start()
    yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    sock.close()


@pytest.fixture
def until(browser: webdriver.Chrome) -> Until:  # noqa: F811
    """Wait for something on the page, and return it."""
    return WebDriverWait(browser, SECONDS, poll_frequency=0.05, ignored_exceptions=(Exception,)).until


@pytest.fixture
def opened(browser: webdriver.Chrome, site: str, until: Until) -> Callable[[str], webdriver.Chrome]:  # noqa: F811
    """Open the page of a model and wait until it can be used."""

    def open_page(name: str) -> webdriver.Chrome:
        browser.get(f"{site}/{name}/")
        until(lambda page: page.execute_script("return performance.getEntriesByName('ready').length"))
        return browser

    return open_page


def text(page: webdriver.Chrome, selector: str) -> str:
    return page.find_element(By.CSS_SELECTOR, selector).text


def colours(page: webdriver.Chrome, selector: str) -> np.ndarray:
    """Return the pixels (H * W, 4) of a canvas."""
    found = page.execute_script(INK, page.find_element(By.CSS_SELECTOR, selector))
    return np.array(found, dtype=np.uint8).reshape(-1, 4)


def choose(page: webdriver.Chrome, path: Path) -> None:
    page.find_element(By.CSS_SELECTOR, "input[type=file]").send_keys(str(path))


def drop(page: webdriver.Chrome, path: Path) -> None:
    """Let a file fall on the page, as from a folder's window."""
    for kind in ("dragEnter", "dragOver", "drop"):
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        page.execute_cdp_cmd("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 300, "data": data})


def answers(page: webdriver.Chrome) -> list[float]:
    return [float(one) for one in page.execute_script("return performance.getEntriesByName('answer').map(one => one.duration)")]


@pytest.mark.parametrize("name", NAMES)
def test_a_page_asks_its_own_folder_alone_complains_of_nothing_and_names_all_its_parts(
    opened: Callable[[str], webdriver.Chrome], site: str, name: str
) -> None:
    page = opened(name)
    told = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [one["params"]["request"]["url"] for one in told if one["method"] == "Network.requestWillBeSent"]
    own = [url for url in asked if url.startswith(f"{site}/{name}/")]
    assert len(own) > 10 and [url for url in asked if not url.startswith((f"{site}/{name}/", "data:", "blob:"))] == []
    assert page.get_log("browser") == []
    nodes = page.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    parts = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
    assert {role for role, _ in parts} >= {"main", "heading", "status", "button"}
    assert [role for role, said in parts if role in NAMED and not said.strip()] == []
    page.set_window_size(360, 740)
    wide = "return [document.scrollingElement.scrollWidth, innerWidth]"
    needed, there = page.execute_script(wide)
    page.set_window_size(1500, 1000)
    assert needed <= there < 600


def test_a_digit_that_is_drawn_is_recognised_and_so_is_one_by_the_keyboard(
    opened: Callable[[str], webdriver.Chrome], until: Until
) -> None:
    page = opened("digits")
    pad = page.find_element(By.CSS_SELECTOR, ".pad")
    side = pad.size["width"]
    one = [(0.3, 0.3), (0.5, 0.15), (0.5, 0.85)]
    seven = [(0.25, 0.2), (0.75, 0.2), (0.45, 0.85)]
    circle = [(0.5 + 0.22 * np.sin(angle), 0.5 - 0.33 * np.cos(angle)) for angle in np.linspace(0, 2 * np.pi, 14)]
    for digit, line in {"0": circle, "1": one, "7": seven}.items():
        page.find_element(By.ID, "clear").click()
        until(lambda page: text(page, ".verdict") == "…")
        pointer = ActionChains(page, duration=10)
        for number, (x, y) in enumerate(line):
            pointer.move_to_element_with_offset(pad, round((x - 0.5) * side), round((y - 0.5) * side))
            if number == 0:
                pointer.click_and_hold()
        pointer.release().perform()
        until(lambda page, digit=digit: text(page, ".verdict") == digit)
    until(lambda page: text(page, "#state").startswith("Looks like 7, "))
    assert text(page, ".bars .best .name") == "7"
    keys = ActionChains(page)
    page.execute_script("arguments[0].focus()", pad)
    keys.send_keys(Keys.DELETE, Keys.ARROW_UP, Keys.SPACE, *[Keys.ARROW_DOWN] * 24, Keys.SPACE).perform()
    until(lambda page: text(page, ".verdict") == "1")
    keys.reset_actions()
    ActionChains(page).send_keys(Keys.BACKSPACE).perform()
    until(lambda page: text(page, ".verdict") == "…")
    # How long they took is for benchmarks/web_speed.py: a busy machine would fail any bound.
    assert len(answers(page)) > 20 and min(answers(page)) > 0


def test_a_sample_gets_its_expected_answer_and_shows_what_the_first_layers_say(
    opened: Callable[[str], webdriver.Chrome], until: Until, pages: Path
) -> None:
    page = opened("digits")
    [first, *_] = json.loads((pages / "digits" / "model.json").read_bytes())["samples"]
    page.find_element(By.CSS_SELECTOR, ".sample").click()
    until(lambda page: text(page, ".verdict") == first["label"])
    assert f"expected {first['label']}" in text(page, ".note")
    seen = colours(page, ".seen")[:, 0]
    assert np.array_equal(seen, np.asarray(Image.open(pages / "digits" / first["file"])).ravel())
    maps = page.find_elements(By.CSS_SELECTOR, ".maps button")
    assert len(maps) == 16 and len(np.unique(colours(page, ".large"), axis=0)) > 5
    before = colours(page, ".large")
    maps[3].click()
    assert maps[3].get_attribute("aria-pressed") == "true"
    assert not np.array_equal(colours(page, ".large"), before)
    page.find_elements(By.CSS_SELECTOR, ".choices input")[2].click()
    assert len(page.find_elements(By.CSS_SELECTOR, ".maps button")) == 32


def test_a_mask_lies_over_its_image_as_strong_as_the_slider_says(
    opened: Callable[[str], webdriver.Chrome], until: Until, pages: Path, tmp_path: Path
) -> None:
    page = opened("cells")
    [first, *_] = json.loads((pages / "cells" / "model.json").read_bytes())["samples"]
    expected = np.asarray(Image.open(pages / "cells" / "samples" / first["mask"])).ravel()
    shown = colours(page, ".over")
    assert np.array_equal(shown[:, 3] > 0, expected == 1)
    assert (shown[expected == 1][:, :3] == palette(2)[1]).all()
    assert page.find_element(By.CSS_SELECTOR, ".over").value_of_css_property("opacity") == "0.6"
    page.find_element(By.ID, "opacity").send_keys(*[Keys.ARROW_LEFT] * 20)
    assert page.find_element(By.CSS_SELECTOR, ".over").value_of_css_property("opacity") == "0.4"
    page.find_elements(By.CSS_SELECTOR, ".legend input")[1].click()
    assert not colours(page, ".over")[:, 3].any()
    other = tmp_path / "other.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (45, 70), dtype=np.uint8)).save(other)
    choose(page, other)
    until(lambda page: len(colours(page, ".over")) == 45 * 70)
    assert "70 × 45 pixels" in text(page, ".note")


def test_what_is_typed_changes_the_answer(opened: Callable[[str], webdriver.Chrome], until: Until) -> None:
    page = opened("reviews")
    areas = page.find_elements(By.TAG_NAME, "textarea")
    assert [page.find_element(By.CSS_SELECTOR, f"label[for={area.get_attribute('id')}]").text for area in areas] == [
        "title",
        "body",
    ]
    for area in areas:
        area.send_keys(Keys.CONTROL, "a", Keys.NULL, Keys.BACKSPACE)
    until(lambda page: text(page, ".verdict") == "…")
    said = set()
    for word in ("warm", "dull", "late", "fine"):
        areas[1].send_keys(Keys.CONTROL, "a", Keys.NULL, word)
        until(lambda page, word=word: "".join(text(page, ".pieces").split()) == word)
        said.add(tuple(page.find_elements(By.CSS_SELECTOR, ".bars .fill")[0].get_attribute("style").split()))
    assert len(said) == 4
    until(lambda page: text(page, "#state").startswith("Looks like "))
    areas[1].send_keys(" many more words than the nine tokens that it reads")
    until(lambda page: "it reads the first 9, as in training" in page.find_element(By.TAG_NAME, "body").text)


def test_a_text_that_is_dropped_is_read_and_the_page_stays(
    opened: Callable[[str], webdriver.Chrome], until: Until, tmp_path: Path
) -> None:
    page = opened("reviews")
    here = page.current_url
    area = page.find_element(By.TAG_NAME, "textarea")
    for name, content in (("long.txt", "warm " * 300_000), ("short.txt", "warm and fine")):
        (tmp_path / name).write_text(content)
        drop(page, tmp_path / name)
        if name == "long.txt":
            until(lambda page: text(page, "#problem") == "1,500,000 bytes; this page takes files of at most 1,048,576.")
    until(lambda page: area.get_property("value") == "warm and fine")
    assert page.current_url == here
    assert not page.find_element(By.ID, "problem").is_displayed()


def test_a_series_is_forecast_and_one_with_a_gap_is_refused_with_its_place(
    opened: Callable[[str], webdriver.Chrome], until: Until, pages: Path, tmp_path: Path
) -> None:
    page = opened("load")
    [first, *_] = json.loads((pages / "load" / "model.json").read_bytes())["samples"]
    assert len(page.find_elements(By.CSS_SELECTOR, ".plot path.forecast")) == 2
    assert " rows, of which the last 24 are seen." in text(page, ".note")
    page.find_element(By.TAG_NAME, "summary").click()
    cells = [float(cell.text) for cell in page.find_elements(By.CSS_SELECTOR, "td")]
    assert np.allclose(cells, np.ravel(first["forecast"]), rtol=1e-4)
    lines = (pages / "load" / first["file"]).read_text().splitlines()
    gap = tmp_path / "gap.csv"
    gap.write_text("\n".join([*lines[:-1], "nan," + lines[-1].partition(",")[2]]))
    choose(page, gap)
    until(lambda page: text(page, "#problem") == "row 24, sun: no number; expected a number: the recipe says missing: refuse.")
    assert page.find_elements(By.CSS_SELECTOR, ".plot path") == []
    area = page.find_element(By.TAG_NAME, "textarea")
    page.execute_script("arguments[0].value = arguments[1]", area, "\n".join(lines))
    area.send_keys("\n")
    until(lambda page: len(page.find_elements(By.CSS_SELECTOR, ".plot path.forecast")) == 2)
    assert not page.find_element(By.ID, "problem").is_displayed()


def test_what_is_no_image_or_too_large_a_one_is_said(
    opened: Callable[[str], webdriver.Chrome], until: Until, tmp_path: Path
) -> None:
    page = opened("digits")
    page.get_log("browser")  # what was said of earlier pages
    header = chunk(b"IHDR", (5000).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0]))
    cases = {
        "letter.png": (b"Dear all", "letter.png is no image, or a damaged one; expected an image that this browser can read"),
        "huge.png": (
            b"\x89PNG\r\n\x1a\n" + header + chunk(b"IEND", b""),
            "5000 x 5000 = 25,000,000 pixels; this page takes images of at most 16,000,000 pixels.",
        ),
        "cut.png": (b"\x89PNG\r\n\x1a\n" + header, "damaged PNG: cut off at byte 33, before its end chunk"),
        "empty.png": (b"", "an empty file; expected an image"),
    }
    for name, (content, said) in cases.items():
        (tmp_path / name).write_bytes(content)
        choose(page, tmp_path / name)
        until(lambda page, said=said: text(page, "#problem").startswith(said))
    picture = tmp_path / "photo.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 40, 3), dtype=np.uint8)).save(picture)
    choose(page, picture)
    until(lambda page: text(page, ".verdict") != "…")
    assert not page.find_element(By.ID, "problem").is_displayed()
    assert page.get_log("browser") == []


def test_a_file_that_changed_on_the_way_is_refused_and_one_that_the_host_unpacked_is_taken(
    browser: webdriver.Chrome,  # noqa: F811
    site: str,
    pages: Path,
    until: Until,
) -> None:
    copy = Path(shutil.copytree(pages / "load", pages / "changed"))
    try:
        wasm = next((copy / "runtime").glob("*.wasm.gz"))
        wasm.write_bytes(gzip.decompress(wasm.read_bytes()))
        browser.get(f"{site}/changed/")
        until(lambda page: page.find_elements(By.CSS_SELECTOR, ".plot path.forecast"))
        content = (copy / "model.onnx").read_bytes()
        (copy / "model.onnx").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        browser.get(f"{site}/changed/")
        until(
            lambda page: (
                "model.onnx is not to be had, or is not the file that this page was made with" in text(page, "#problem")
            )
        )
        browser.get_log("browser")
    finally:
        shutil.rmtree(copy)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_is_read_by_light_and_by_dark(browser: webdriver.Chrome, site: str, scheme: str) -> None:  # noqa: F811
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    browser.get(f"{site}/reviews/")
    body = browser.find_element(By.TAG_NAME, "body")
    ink, back = (brightness(body.value_of_css_property(name)) for name in ("color", "background-color"))
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert (ink < 60 and back > 235) if scheme == "light" else (ink > 200 and back < 40)


def brightness(colour: str) -> float:
    return float(np.mean([float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]))
