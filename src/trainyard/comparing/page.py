"""The page of a comparison: one file of HTML with style, drawings and pictures within; nothing is fetched, no script runs."""

from __future__ import annotations

from collections.abc import Sequence

from trainyard.comparing.chosen import Asked
from trainyard.comparing.confusion_part import classes_section, confusions
from trainyard.comparing.contender import Contender
from trainyard.comparing.identity_part import alarm, identity
from trainyard.comparing.markup import chart, key, text
from trainyard.comparing.numbers_part import costs, metrics, params, summary
from trainyard.comparing.page_style import style
from trainyard.comparing.paired import Findings
from trainyard.comparing.samples_part import legend_of_masks, samples

TITLED = 3
"""Models that the title names."""
FIRST_CURVES = ("val/loss", "train/loss")
LAST_CURVES = ("learning_rate", "gradient_norm", "throughput/samples_per_s")


def page(contenders: Sequence[Contender], findings: Findings, asked: Asked | None) -> str:
    """Return the page of models, in their order; the first one is what the others are held against."""
    positions = {one.label: place for place, one in enumerate(contenders)}
    alike = asked.contenders if asked is not None else ()
    title = _title([one.label for one in contenders])
    parts = [
        f"<h1>{text(title)}</h1>",
        f'<p class="soft">{len(contenders)} models; each is held against the first one, {text(contenders[0].label)}.</p>',
        alarm(contenders),
        _verdicts(findings, len(contenders)),
        _bar(contenders),
        summary(contenders, findings, positions),
        identity(contenders, positions),
        params(contenders, positions),
        metrics(contenders, findings, positions),
        _curves(contenders),
        "" if asked is None else samples(asked, positions),
        _colours(asked),
        confusions(alike, positions) if alike else "",
        classes_section(alike, positions) if alike else "",
        costs(contenders, positions),
    ]
    # No file of the page's is fetched; should a name ever slip through as markup, it may not run or load anything either.
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{text(title)}</title><style>{style(len(contenders))}</style>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _title(labels: Sequence[str]) -> str:
    if len(labels) <= TITLED:
        return " · ".join(labels)
    return f"{' · '.join(labels[: TITLED - 1])} and {len(labels) - TITLED + 1} more"


def _verdicts(findings: Findings, count: int) -> str:
    if not findings.pairs:
        return ""
    told = "".join(f"<li>{text(pair.verdict)}</li>" for pair in findings.pairs.values())
    several = (
        f" {len(findings.pairs)} models are held against one, so the verdicts are stricter than each interval alone: all "
        "together they are wrong by chance at most one time in twenty (Holm, Bonferroni)."
        if len(findings.pairs) > 1
        else ""
    )
    how = "Paired over the same test samples: McNemar's exact test for accuracy, a paired bootstrap for all else."
    seeds = "They speak of these trained models; another seed gives others (<code>trainyard repeat</code>)."
    note = f'<p class="soft">{how}{several} {seeds}</p>'
    listed = f'<ul class="verdicts">{told}</ul>'
    return (listed if count <= 6 else f"<details><summary>{len(findings.pairs)} verdicts</summary>{listed}</details>") + note


def _bar(contenders: Sequence[Contender]) -> str:
    """Return the bar of all models: what is not ticked is shown nowhere."""
    labels = (
        f'<label><input type="checkbox" id="show{place}" checked>{key(place)}{text(one.label)}</label>'
        for place, one in enumerate(contenders)
    )
    return f'<nav aria-label="models that are shown">{"".join(labels)}</nav>'


def _curves(contenders: Sequence[Contender]) -> str:
    names = list(dict.fromkeys(name for one in contenders for name in one.curves))
    first = [name for name in FIRST_CURVES if name in names]
    last = [name for name in LAST_CURVES if name in names]
    ordered = [*first, *(name for name in names if name not in (*first, *last)), *last]
    charts = [
        chart(
            name,
            [(one.label, f"m{place}", one.curves[name]) for place, one in enumerate(contenders) if name in one.curves],
            "epoch",
        )
        for name in ordered
    ]
    if not any(charts):
        return ""
    return f'<h2 id="curves">Curves</h2><div class="charts">{"".join(charts)}</div>'


def _colours(asked: Asked | None) -> str:
    results = None if asked is None else asked.contenders[0].results
    shown = results is not None and results.about.kind == "segmentation" and asked is not None and asked.test is not None
    return legend_of_masks(results.about.classes) if shown and results is not None else ""
