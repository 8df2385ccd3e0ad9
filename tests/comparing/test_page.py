"""What the page of a comparison says, and that it is whole in itself."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from tests.comparing.contenders import contender, elsewhere, pattern
from trainyard.comparing.chosen import asked_the_same
from trainyard.comparing.contender import Contender
from trainyard.comparing.markup import nice_ticks
from trainyard.comparing.page import page
from trainyard.comparing.paired import held_against_first

BASE = pattern((True, 80), (False, 20))
BETTER = pattern((True, 79), (False, 1), (True, 10), (False, 10))
VOID = {"meta", "br", "img", "input"}


class Checked(HTMLParser):
    """Reads a page, and remembers what is wrong with its nesting and what it would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.fetched: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href") and not str(value).startswith("data:")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def rendered(contenders: list[Contender]) -> str:
    """Return the page of models without their data."""
    return page(contenders, held_against_first(contenders, 200), asked_the_same([], contenders))


def checked(html: str) -> Checked:
    """Return what reading a page found."""
    found = Checked()
    found.feed(html)
    return found


def test_a_page_is_well_formed_and_fetches_nothing_and_runs_nothing(tmp_path: Path) -> None:
    curves = {"val/loss": [(1.0, 2.0), (2.0, 1.5)], "val/accuracy": [(1.0, 0.2)]}
    models = [contender(tmp_path, name, right, curves=curves) for name, right in (("a", BASE), ("b", BETTER))]
    found = checked(rendered(models))
    assert found.wrong == [] and found.open == []
    assert found.fetched == [] and "script" not in found.tags and "link" not in found.tags
    assert found.tags.count("svg") == 3


def test_two_models_that_were_not_tested_on_the_same_data_are_told_so_in_red_and_not_compared(tmp_path: Path) -> None:
    first, other = contender(tmp_path, "first", BASE), elsewhere(contender(tmp_path, "other", BETTER))
    html = rendered([first, other])
    alarm = re.search(r'<div class="alarm" role="alert">(.*?)</div>', html)
    assert alarm and "These two were not tested on the same data: first and other." in alarm[1]
    assert "--bad: #a8172c" in html and re.search(r"\.alarm \{[^}]*color: var\(--bad\)", html)
    assert "is better" not in html and "no difference can be told" not in html
    assert '<span class="bad">not tested on the same data</span>' in html
    assert 'role="alert"' not in rendered([first, contender(tmp_path, "third", BETTER)])


def test_parameters_that_differ_are_shown_and_the_others_folded_away(tmp_path: Path) -> None:
    params = {"train.seed": "0", "train.learning_rate": "0.005"}
    models = [
        contender(tmp_path, "a", BASE, params=params),
        contender(tmp_path, "b", BETTER, params={**params, "train.learning_rate": "0.01", "model.depth": "3"}),
    ]
    html = rendered(models)
    shown, _, folded = html.partition("<details><summary>1 that are the same")
    assert "Parameters that differ (2)" in shown
    assert "train.learning_rate" in shown and "model.depth" in shown and "not there" in shown
    assert "train.seed" not in shown and "train.seed" in folded


def test_a_name_that_is_markup_is_shown_as_text(tmp_path: Path) -> None:
    evil = '<img src=x onerror="alert(1)"><script>alert(2)</script>'
    first = contender(tmp_path, "a", BASE, params={"train.note": evil, evil: "1"})
    models = [replace(first, label=evil, place=evil), contender(tmp_path, "b", BETTER, curves={evil: [(1.0, 1.0)]})]
    found = checked(rendered(models))
    assert "script" not in found.tags and found.wrong == []
    assert not [src for src in found.fetched if src == "x"]


def test_the_confusion_of_two_models_is_shown_by_what_changed(tmp_path: Path) -> None:
    # Of class a (even samples) both get forty-five right; of class b the second gets nine more.
    html = rendered([contender(tmp_path, "a", BASE), contender(tmp_path, "b", BETTER)])
    cells = re.findall(r'title="(\w taken for \w|\w recognised)"[^>]*>([^<]*)<', html)
    even, odd = BASE[::2], BASE[1::2]
    change = {"a": int(BETTER[::2].sum() - even.sum()), "b": int(BETTER[1::2].sum() - odd.sum())}
    assert dict(cells) == {
        "a recognised": f"+{change['a']}",
        "a taken for b": f"−{change['a']}",
        "b taken for a": f"−{change['b']}",
        "b recognised": f"+{change['b']}",
    }


def test_samples_on_which_they_disagree_stand_with_what_each_says(tmp_path: Path) -> None:
    html = rendered([contender(tmp_path, "a", BASE), contender(tmp_path, "b", BETTER)])
    assert "11 of 100 test samples are right by some of these models and wrong by others; the 21 shown begin" in html
    row = re.search(r"<tr><th>sample 79</th><td>b</td>(.*?)</tr>", html)
    assert row and "good m0" in row[1] and "bad m1" in row[1] and "80%" in row[1]


def test_every_model_can_be_hidden_without_a_script(tmp_path: Path) -> None:
    models = [contender(tmp_path, f"m{number}", BASE) for number in range(12)]
    html = rendered(models)
    for number in range(12):
        assert f'id="show{number}" checked' in html
        assert f"body:has(#show{number}:not(:checked)) .m{number}:not(nav *) {{ display: none; }}" in html
    # The eleventh has the colour of the first, and another line.
    assert "stroke: var(--c0); stroke-dasharray: 5 4;" in html


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    models = [contender(tmp_path, "a", BASE), contender(tmp_path, "b", BETTER, missing=("a champion keeps no curves",))]
    assert "<li>b: a champion keeps no curves</li>" in rendered(models)


def test_ticks_are_round_and_within_what_is_drawn() -> None:
    for low, high in ((0.123, 0.987), (0.0, 1e-7), (-3.0, 12345.0), (2.0, 2.0)):
        ticks = nice_ticks(low, high)
        assert 2 <= len(ticks) <= 11
        assert all(low - (abs(low) or 1) / 5 <= tick <= high + (abs(high) or 1) / 5 for tick in ticks)
    assert np.allclose(nice_ticks(0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1.0])
