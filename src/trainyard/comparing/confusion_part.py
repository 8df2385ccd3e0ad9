"""Where the mistakes of two models differ: which classes are taken for which others, more or less often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from trainyard.comparing.contender import Contender
from trainyard.comparing.markup import key, table, text
from trainyard.evaluation.comparison import is_classifier
from trainyard.evaluation.metrics import by_class, total
from trainyard.evaluation.results import Results

SQUARE_CLASSES = 20
"""Most classes of which the whole matrix is shown."""
CHANGES = 30
"""Of more classes, the changes that are listed."""
SHOWN_CLASSES = 100


def confusion(results: Results) -> NDArray[np.int64]:
    """Return the confusion matrix (K, K) of labels, true classes in rows."""
    count = len(results.about.classes)
    cells = np.asarray(results.columns["label"], dtype=np.int64) * count + results.columns["prediction"]
    return np.bincount(cells, minlength=count**2).reshape(count, count)


def confusions(alike: Sequence[Contender], positions: Mapping[str, int]) -> str:
    """Return the section: each model's confusion matrix less the first one's; nothing where there are no labels.

    Args:
        alike: the first model, and those that were tested on the same samples.
        positions: of the models among all that are compared.
    """
    first, *others = alike
    if first.results is None or not others or not is_classifier(first.results):
        return ""
    base, classes = confusion(first.results), first.results.about.classes
    parts = []
    for other in others:
        if other.results is None:
            continue
        change = confusion(other.results) - base
        body = _square(change, classes) if len(classes) <= SQUARE_CLASSES else _listed(change, classes)
        place = positions[other.label]
        title = f"{key(place)}{text(other.label)} less {text(first.label)}"
        parts.append(f'<div class="m{place}"><h3>{title}</h3>{body}</div>')
    note = (
        "Test samples more (+) or fewer (−) than the first model has; true classes in rows, predicted ones in columns. On the "
        "diagonal more is better, everywhere else fewer."
    )
    head = f'<h2 id="confusion">Confusion, and how it differs</h2><p class="soft">{note}</p>'
    return f'{head}<div class="confusions">{"".join(parts)}</div>'


def classes_section(alike: Sequence[Contender], positions: Mapping[str, int]) -> str:
    """Return F1 or IoU of each class by model, those first that differ most; nothing for forecasts."""
    found = alike[0].results
    if found is None or found.about.kind == "forecasting" or len(alike) < 2:
        return ""
    name = "iou" if found.about.kind == "segmentation" else "f1"
    columns = {
        one.label: by_class(one.results.about.kind, total(one.results.counts()))[name]
        for one in alike
        if one.results is not None
    }
    scores = np.stack(list(columns.values()))
    apart = np.nan_to_num(scores, nan=0.0).max(axis=0) - np.nan_to_num(scores, nan=0.0).min(axis=0)
    order = np.argsort(-apart, kind="stable")[:SHOWN_CLASSES]
    header = [
        "<th>class</th>",
        *(f'<th class="m{positions[label]}">{key(positions[label])}{text(label)}</th>' for label in columns),
    ]
    rows = []
    for place in order:
        best = np.nanmax(scores[:, place]) if not np.all(np.isnan(scores[:, place])) else np.nan
        cells = [f"<th>{text(found.about.classes[place])}</th>"]
        for label, values in columns.items():
            strong = " best" if values[place] == best and apart[place] > 0 else ""
            shown = "–" if np.isnan(values[place]) else f"{values[place]:.3f}"
            cells.append(f'<td class="number m{positions[label]}{strong}">{shown}</td>')
        rows.append(cells)
    more = f" The {SHOWN_CLASSES} that differ most." if len(found.about.classes) > SHOWN_CLASSES else ""
    title = {"iou": "IoU", "f1": "F1"}[name]
    head = f'<h2 id="classes">{title} of each class</h2><p class="soft">The class that differs most first.{more}</p>'
    return head + table(header, rows)


def _square(change: NDArray[np.int64], classes: Sequence[str]) -> str:
    most = int(np.abs(change).max()) or 1
    header = ["<th></th>", *(f"<th>{text(name)}</th>" for name in classes)]
    rows = []
    for truth, name in enumerate(classes):
        cells = [f"<th>{text(name)}</th>"]
        for predicted in range(len(classes)):
            count = int(change[truth, predicted])
            title = f"{name} taken for {classes[predicted]}" if truth != predicted else f"{name} recognised"
            cells.append(f'<td title="{text(title)}"{_tint(count, truth == predicted, most)}>{_signed(count)}</td>')
        rows.append(cells)
    return table(header, rows, "confusion")


def _listed(change: NDArray[np.int64], classes: Sequence[str]) -> str:
    order = np.argsort(-np.abs(change), axis=None, kind="stable")[:CHANGES]
    rows = []
    for truth, predicted in zip(*np.unravel_index(order, change.shape), strict=True):
        if count := int(change[truth, predicted]):
            good = (count > 0) == (truth == predicted)
            rows.append(
                [
                    f"<th>{text(classes[truth])}</th>",
                    f"<td>{'recognised' if truth == predicted else text(classes[predicted])}</td>",
                    f'<td class="number {"good" if good else "bad"}">{_signed(count)}</td>',
                ]
            )
    return table(["<th>class</th>", "<th>taken for</th>", '<th class="number">samples</th>'], rows)


def _tint(count: int, right: bool, most: int) -> str:
    if not count:
        return ""
    good = (count > 0) == right
    share = 15 + round(70 * abs(count) / most)
    colour = "--good" if good else "--bad"
    return (
        f' class="{"good" if good else "bad"}" style="background:color-mix(in srgb, var({colour}) {share // 2}%, transparent)"'
    )


def _signed(count: int) -> str:
    return "" if not count else f"{'+' if count > 0 else '−'}{abs(count):,}"
