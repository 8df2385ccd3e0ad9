"""Time the pages of exported models in Chromium: from opening one to its first answer, and each answer after it.

    python benchmarks/web_speed.py cnn unet lstm --rounds 5

Answers are counted by the page itself, from the question to the answer, with the way to its worker and back. Needs chromium and
chromedriver. Every round is a new browser with nothing kept.
"""

import argparse
import shutil
import tempfile
import threading
from pathlib import Path

import numpy as np
import uvicorn
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from trainyard.serving.server import listen
from trainyard.web.folder import write_folder
from trainyard.web.server import application

ASKED = 30
"""Samples, one after the other, in a round."""
FIRST = "const all = performance.getEntriesByName('answer'); return all.length ? all[0].startTime + all[0].duration : 0"
LATER = "return performance.getEntriesByName('answer').slice(1).map(one => one.duration)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--root", type=Path, default=Path())
    arguments = parser.parse_args()
    print("| page | MB | first answer after opening, s (worst) | each later answer, ms (95th percentile) |")
    print("|---|---|---|---|")
    for recipe in arguments.recipes:
        with tempfile.TemporaryDirectory() as folder:
            size = write_folder(arguments.root / "models" / recipe, Path(folder, "page"))
            first, later = measure(Path(folder, "page"), arguments.rounds)
        seconds = f"{np.median(first) / 1000:.2f} ({max(first) / 1000:.2f})"
        print(f"| {recipe} | {size / 1e6:.1f} | {seconds} | {np.median(later):.1f} ({np.percentile(later, 95):.1f}) |")


def measure(folder: Path, rounds: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds of first and of later answers."""
    sock = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(application(folder), ws="none", lifespan="off", log_config=None))
    thread = threading.Thread(target=server.run, args=([sock],))
    thread.start()
    first: list[float] = []
    later: list[float] = []
    try:
        for _ in range(rounds):
            one, others = open_page(f"http://127.0.0.1:{sock.getsockname()[1]}/")
            first.append(one)
            later += others
    finally:
        server.should_exit = True
        thread.join()
        sock.close()
    return first, later


def open_page(url: str) -> tuple[float, list[float]]:
    """Open a page in a new browser, ask it about its samples, and return the milliseconds of the answers."""
    options = Options()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu"):
        options.add_argument(f"--{argument}")
    chrome = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver") or ""))
    try:
        chrome.get(url)
        wait = WebDriverWait(chrome, 120, poll_frequency=0.05).until
        wait(lambda page: page.execute_script("return performance.getEntriesByName('ready').length"))
        samples = chrome.find_elements(By.CSS_SELECTOR, ".sample")
        for number in range(ASKED):
            # A page of digits waits to be drawn on: its first answer is to the first sample.
            before = len(chrome.execute_script("return performance.getEntriesByName('answer')"))
            samples[number % len(samples)].click()
            wait(lambda page, before=before: len(page.execute_script("return performance.getEntriesByName('answer')")) > before)
        return float(chrome.execute_script(FIRST)), [float(one) for one in chrome.execute_script(LATER)]
    finally:
        chrome.quit()


if __name__ == "__main__":
    main()
