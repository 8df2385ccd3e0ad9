"""The same test samples, and what each model says of them, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainyard.comparing.ask_again import answers
from trainyard.comparing.chosen import Asked
from trainyard.comparing.contender import Contender
from trainyard.comparing.markup import SIDE, SMALL_SIDE, chart, key, number, picture, table, text
from trainyard.data.card_page import overlay
from trainyard.data.packed import Split
from trainyard.evaluation.comparison import is_classifier
from trainyard.evaluation.results import Results
from trainyard.evaluation.samples import sample_iou

TEXT_SIGNS = 400
SHOWN_CONTEXT = 2
"""Horizons of what came before a forecast that are drawn."""


def samples(asked: Asked, positions: Mapping[str, int]) -> str:
    """Return the section.

    Args:
        asked: models, and the samples to show.
        positions: of the models among all that are compared.
    """
    results = asked.contenders[0].results
    if results is None:
        return ""
    if is_classifier(results):
        body, unit = labels(asked, positions), "samples are right by some of these models and wrong by others"
    elif results.about.kind == "segmentation":
        body, unit = masks(asked, positions), "images are not labelled equally well by all of these models"
    else:
        body, unit = forecasts(asked, positions), "windows are not forecast equally well by all of these models"
    shown = f"{asked.disagreements:,} of {len(results):,} test {unit}; the {len(asked.rows)} shown begin with the "
    shown += "largest disagreement."
    if asked.test is None:
        shown += " The data are not at hand (<code>dvc repro prepare</code> brings them), so samples are named and not shown."
    return f'<h2 id="samples">The same samples, side by side</h2><p class="soft">{shown}</p>{body}'


def labels(asked: Asked, positions: Mapping[str, int]) -> str:
    """Return a row a sample: what it is, and what each model takes it for, and how surely."""
    first = asked.contenders[0].results
    if first is None or not len(asked.rows):
        return "<p>Each of these models is right of every test sample.</p>"
    classes = first.about.classes
    header = ["<th>sample</th>", "<th>truth</th>", *_heads(asked, positions)]
    rows = []
    for row in asked.rows:
        truth = int(first.columns["label"][row])
        cells = [f"<th>{_shown(asked, int(row))}</th>", f"<td>{text(classes[truth])}</td>"]
        for contender in asked.contenders:
            cells.append(_said(contender, int(row), truth, positions[contender.label]))
        rows.append(cells)
    return table(header, rows)


def masks(asked: Asked, positions: Mapping[str, int]) -> str:
    """Return a row an image: it, its true mask, and that of each model with its mean IoU."""
    test = asked.test
    found, reasons = _asked_again(asked)
    header = ["<th>image</th>", "<th>truth</th>" if test is not None else "", *_heads(asked, positions)]
    scores = {contender.label: _iou(contender) for contender in asked.contenders}
    rows = []
    for number_, row in enumerate(asked.rows):
        cells = [f"<th>{_shown(asked, int(row))}</th>"]
        if test is not None:
            image = np.asarray(test.arrays["images"][row])
            cells.append(f"<td>{picture(_rgb(overlay(image, np.asarray(test.arrays['masks'][row]))), 'truth')}</td>")
        best = max(float(values[row]) for values in scores.values())
        for contender in asked.contenders:
            score = float(scores[contender.label][row])
            shown = ""
            if test is not None and (mask := found[contender.label]) is not None:
                shown = picture(_rgb(overlay(image, mask[number_])), f"{contender.label}: {score:.3f}")
            strong = " best" if score == best else ""
            cells.append(f'<td class="m{positions[contender.label]}{strong}">{shown}IoU {score:.3f}</td>')
        rows.append(cells)
    return table(header, rows) + reasons


def forecasts(asked: Asked, positions: Mapping[str, int]) -> str:
    """Return a chart a window and target: what came, and what each model said before."""
    test, results = asked.test, asked.contenders[0].results
    if test is None or results is None:
        return _errors(asked, positions)
    from trainyard.data.batches import gather

    batch = gather(test, asked.rows)
    context, truth = batch.inputs[0].numpy(), batch.targets.numpy()
    horizon = truth.shape[1]
    begin = max(0, context.shape[1] - SHOWN_CONTEXT * horizon)
    found, reasons = _asked_again(asked)
    known = {label: values for label, values in found.items() if values is not None}
    if not known:
        return _errors(asked, positions) + reasons
    charts = []
    for number_, row in enumerate(asked.rows):
        # The target on which they differ most: one chart a window.
        spread = np.ptp(np.stack([np.abs(values[number_] - truth[number_]).mean(axis=0) for values in known.values()]), axis=0)
        target = int(spread.argmax())
        mean, std = (float(test.arrays[name][target]) for name in ("mean", "std"))
        seen = np.concatenate([context[number_, begin:, target], truth[number_, :, target]]) * std + mean
        lines = [
            ("what came", "truth", list(zip(range(begin - context.shape[1] + 1, horizon + 1), seen.tolist(), strict=True)))
        ]
        errors = []
        for contender in asked.contenders:
            if (values := known.get(contender.label)) is not None:
                said = values[number_, :, target] * std + mean
                lines.append(
                    (
                        contender.label,
                        f"m{positions[contender.label]}",
                        list(zip(range(1, horizon + 1), said.tolist(), strict=True)),
                    )
                )
            errors.append(f"{contender.label} {_mse(contender)[row]:.3f}")
        title = f"{_name(asked.contenders[0], int(row), test)}, {results.about.classes[target]} · MSE {', '.join(errors[:4])}"
        charts.append(chart(title + (" …" if len(errors) > 4 else ""), lines, "steps from now"))
    return f'<div class="charts">{"".join(charts)}</div>{reasons}'


def _errors(asked: Asked, positions: Mapping[str, int]) -> str:
    header = ["<th>window</th>", *_heads(asked, positions)]
    rows = [
        [f"<th>{text(_name(asked.contenders[0], int(row), None))}</th>"]
        + [f'<td class="number m{positions[one.label]}">MSE {number(float(_mse(one)[row]))}</td>' for one in asked.contenders]
        for row in asked.rows
    ]
    return table(header, rows)


def _asked_again(asked: Asked) -> tuple[dict[str, NDArray[Any] | None], str]:
    """Return what each model says of the rows, and a remark on those that cannot be asked."""
    if asked.test is None:
        return {contender.label: None for contender in asked.contenders}, ""
    found, reasons = {}, []
    for contender in asked.contenders:
        found[contender.label], reason = answers(contender, asked.test, asked.rows)
        if reason:
            reasons.append(f"<li>{text(contender.label)}: {text(reason)}</li>")
    remark = f'<p class="soft">Not asked again for what it says of these:</p><ul class="soft">{"".join(reasons)}</ul>'
    return found, remark if reasons else ""


def _heads(asked: Asked, positions: Mapping[str, int]) -> list[str]:
    return [
        f'<th class="m{positions[one.label]}">{key(positions[one.label])}{text(one.label)}</th>' for one in asked.contenders
    ]


def _said(contender: Contender, row: int, truth: int, position: int) -> str:
    if contender.results is None:
        return f'<td class="m{position}"></td>'
    predicted = int(contender.results.columns["prediction"][row])
    sure = f" <small>{float(contender.details['confidence'][row]):.0%}</small>" if "confidence" in contender.details else ""
    verdict, sign = ("good", "✓") if predicted == truth else ("bad", "✗")
    return f'<td class="{verdict} m{position}">{sign} {text(contender.results.about.classes[predicted])}{sure}</td>'


def _shown(asked: Asked, row: int) -> str:
    """Return a sample as a picture or a text over its name, or its name alone where the data are not at hand."""
    name = _name(asked.contenders[0], row, asked.test)
    if asked.test is None:
        return text(name)
    if asked.test.kind == "text_classification":
        whole = asked.test.text(row)
        cut = f"{whole[:TEXT_SIGNS]} …" if len(whole) > TEXT_SIGNS else whole
        return f'<div class="text" dir="auto">{text(cut)}</div><small>{text(name)}</small>'
    side = SIDE if asked.test.kind == "segmentation" else SMALL_SIDE
    return f"{picture(_rgb(np.asarray(asked.test.arrays['images'][row])), name, side)}<small>{text(name)}</small>"


def _name(contender: Contender, row: int, test: Split | None) -> str:
    if "sample" in contender.details:
        found = str(contender.details["sample"][row])
    else:
        found = test.sample_name(row) if test is not None else str(row)
    return f"sample {found}" if found.isdecimal() else found


def _rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image (C, H, W) as (H, W, 3); one or two channels as grey, the first three of more."""
    shown = image[:3] if len(image) >= 3 else np.repeat(image[:1], 3, axis=0)
    return np.ascontiguousarray(np.moveaxis(shown, 0, -1))


def _iou(contender: Contender) -> NDArray[np.float64]:
    return np.asarray(contender.details["iou"]) if "iou" in contender.details else sample_iou(_results(contender).counts())


def _mse(contender: Contender) -> NDArray[np.float64]:
    return np.asarray(_results(contender).columns["mse"])


def _results(contender: Contender) -> Results:
    if contender.results is None:
        raise ValueError("a model without results is not asked")
    return contender.results


def legend_of_masks(classes: Sequence[str]) -> str:
    """Return the colours of the classes of masks."""
    from trainyard.data.card_page import COLOURS

    keys = (
        f'<span class="key" style="border-color:{COLOURS[(place - 1) % len(COLOURS)]}"></span>{text(name)}'
        for place, name in enumerate(classes)
        if place
    )
    return f'<p class="soft">{" &ensp; ".join(keys)}</p>'
