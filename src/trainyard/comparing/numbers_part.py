"""Parameters, metrics and costs of the models, in tables; what differs is shown first."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from trainyard.comparing.contender import Contender
from trainyard.comparing.markup import key, number, table, text
from trainyard.comparing.paired import Findings, higher_is_better
from trainyard.evaluation.summary import duration, file_size

ENDS = ("_low", "_high")
SIDE_WIDTH, SIDE_HEIGHT = 560, 26
"""Of the drawing of intervals, and of one of its rows, in pixels."""
NAME_WIDTH = 190

Show = Callable[[float], str]
COSTS: tuple[tuple[str, tuple[str, ...], Show, bool], ...] = (
    ("training", ("seconds",), duration, True),
    ("epochs", ("epochs",), number, False),
    ("samples a second, training", ("samples_per_s",), lambda value: f"{value:,.0f}", False),
    ("parameters", ("parameters",), lambda value: f"{value:,.0f}", True),
    ("exported size", ("export/size_bytes",), file_size, True),
    ("latency, median", ("export/latency_p50_ms",), lambda value: f"{value:.3g} ms", True),
    ("latency, 95 % below", ("export/latency_p95_ms",), lambda value: f"{value:.3g} ms", True),
    ("memory of a worker, peak", ("memory/worker_peak_megabytes", "worker_memory"), lambda value: f"{value:,.0f} MB", True),
    (
        "GPU memory of a worker, peak",
        ("memory/worker_gpu_memory_peak_megabytes", "worker_gpu_memory"),
        lambda value: f"{value:,.0f} MB",
        True,
    ),
    ("memory of the machine, most in use", ("memory",), lambda value: f"{value:,.0f} MB", True),
    ("memory of a GPU, most in use", ("gpu_memory",), lambda value: f"{value:,.0f} MB", True),
)
"""Title, metrics that say it, how it is written, and whether less is better."""


def params(contenders: Sequence[Contender], positions: Mapping[str, int]) -> str:
    """Return the section on parameters: those that differ, and the equal ones folded away."""
    known = [one for one in contenders if one.params]
    names = sorted({name for one in known for name in one.params})
    if not names:
        return ""
    differing = [name for name in names if len({one.params.get(name) for one in known}) > 1]
    equal = [name for name in names if name not in differing]
    header = ["<th>parameter</th>", *(_head(one, positions) for one in known)]
    rows = []
    for name in differing:
        values = [one.params.get(name) for one in known]
        cells = [f"<th><code>{text(name)}</code></th>"]
        for one, value in zip(known, values, strict=True):
            other = " differs" if value != values[0] else ""
            shown = '<span class="soft">not there</span>' if value is None else f"<code>{text(value)}</code>"
            cells.append(f'<td class="m{positions[one.label]}{other}">{shown}</td>')
        rows.append(cells)
    body = table(header, rows) if rows else "<p>None differs.</p>"
    same = table(
        ["<th>parameter</th>", "<th>of all</th>"],
        [[f"<th><code>{text(name)}</code></th>", f"<td><code>{text(known[0].params[name])}</code></td>"] for name in equal],
    )
    folded = f"<details><summary>{len(equal)} that are the same</summary>{same}</details>" if equal else ""
    return f'<h2 id="parameters">Parameters that differ ({len(differing)})</h2>{body}{folded}'


def summary(contenders: Sequence[Contender], findings: Findings, positions: Mapping[str, int]) -> str:
    """Return the first table: what each model reached, how that differs from the first, and what it cost."""
    header = ["<th>model</th>", "<th>test, 95 %</th>", "<th>less the first, 95 %</th>"]
    header += ['<th class="number">training</th>', '<th class="number">parameters</th>', '<th class="number">latency</th>']
    rows = []
    for one in contenders:
        place, costs = positions[one.label], cost_of(one)
        name, reached = _primary(one, findings)
        cells = [
            _head(one, positions, f"<br><small>{text(one.place)}</small>" if one.origin != "recipe" else ""),
            f'<td class="m{place}">{text(name)} {reached}</td>',
            f'<td class="m{place}{_verdict_class(one, findings)}">{_difference(one, contenders[0], findings)}</td>',
        ]
        for metric, show in (
            ("seconds", duration),
            ("parameters", "{:,.0f}".format),
            ("export/latency_p50_ms", "{:.3g} ms".format),
        ):
            cells.append(f'<td class="number m{place}">{show(costs[metric]) if metric in costs else "–"}</td>')
        rows.append(cells)
    return table(header, rows)


def metrics(contenders: Sequence[Contender], findings: Findings, positions: Mapping[str, int]) -> str:
    """Return the section on metrics: differences with their intervals, then every number."""
    return (
        f'<h2 id="metrics">Metrics</h2>{intervals(contenders, findings, positions)}'
        f"{paired_table(contenders, findings, positions)}{all_metrics(contenders, positions)}"
    )


def intervals(contenders: Sequence[Contender], findings: Findings, positions: Mapping[str, int]) -> str:
    """Return a drawing of each difference in the primary metric with its interval, around the zero line."""
    pairs = list(findings.pairs.values())
    if not pairs:
        return ""
    found = [pair.differences[0] for pair in pairs]
    reach = max((max(abs(one.difference.low), abs(one.difference.high)) for one in found), default=0) or 1e-3

    def at(value: float) -> float:
        return NAME_WIDTH + (value / reach + 1) / 2 * (SIDE_WIDTH - NAME_WIDTH - 10)

    height = SIDE_HEIGHT * len(found) + 24
    parts = [f'<line class="axis" x1="{at(0):.1f}" x2="{at(0):.1f}" y1="0" y2="{height - 20}"/>']
    for value, anchor in ((-reach, "start"), (0.0, "middle"), (reach, "end")):
        parts.append(f'<text x="{at(value):.1f}" y="{height - 4}" text-anchor="{anchor}">{value:+.3g}</text>')
    for row, (pair, one) in enumerate(zip(pairs, found, strict=True)):
        y, place, estimate = SIDE_HEIGHT * row + SIDE_HEIGHT / 2, positions[pair.label], one.difference
        name = pair.label if len(pair.label) <= 26 else f"{pair.label[:25]}…"
        parts.append(
            f'<g class="m{place}"><title>{text(pair.verdict)}</title><text x="{NAME_WIDTH - 8}" y="{y + 4}" text-anchor="end">'
            f'{text(name)}</text><line class="line m{place}" stroke-width="2.5" x1="{at(estimate.low):.1f}" '
            f'x2="{at(estimate.high):.1f}" y1="{y}" y2="{y}"/><circle class="line m{place}" fill="currentColor" r="3.5" '
            f'cx="{at(estimate.value):.1f}" cy="{y}"/></g>'
        )
    first, better = contenders[0].label, "right" if higher_is_better(found[0].metric, 1.0) > 0 else "left"
    caption = f"{found[0].metric} less that of {first}, 95 % intervals over the same test samples; {better} is better"
    svg = f'<svg viewBox="0 0 {SIDE_WIDTH} {height}" role="img" aria-label="{text(caption)}">{"".join(parts)}</svg>'
    return f'<figure style="max-width:52rem"><figcaption>{text(caption)}</figcaption>{svg}</figure>'


def paired_table(contenders: Sequence[Contender], findings: Findings, positions: Mapping[str, int]) -> str:
    """Return a row a model, a column a metric that is made of the test samples: value, and difference from the first."""
    names = list(dict.fromkeys(name for found in findings.scores.values() for name in found))
    shown = [one for one in contenders if one.label in findings.scores]
    if not shown:
        return ""
    rows = []
    for one in shown:
        place, pair = positions[one.label], findings.pairs.get(one.label)
        by_name = {} if pair is None else {found.metric: found for found in pair.differences}
        cells = [_head(one, positions)]
        for name in names:
            estimate = findings.scores[one.label].get(name)
            if estimate is None:
                cells.append(f'<td class="number m{place}">–</td>')
                continue
            tone, difference = "", ""
            if found := by_name.get(name):
                low, high = found.difference.low, found.difference.high
                if low > 0 or high < 0:
                    tone = " good" if higher_is_better(name, low) > 0 else " bad"
                difference = f"<br>{found.difference.value:+.4f} <small>{low:+.4f} to {high:+.4f}</small>"
            cells.append(
                f'<td class="number m{place}{tone}">{number(estimate.value)} <small>{number(estimate.low)} to '
                f"{number(estimate.high)}</small>{difference}</td>"
            )
        rows.append(cells)
    header = ["<th>test split</th>", *(f'<th class="number">{text(name)}</th>' for name in names)]
    note = (
        f"Above: the value and its own 95 % interval. Below: less that of {text(contenders[0].label)}, paired over "
        f"{findings.resamples:,} resamples; coloured where that interval leaves out 0."
    )
    return f'{table(header, rows)}<p class="soft">{note}</p>'


def all_metrics(contenders: Sequence[Contender], positions: Mapping[str, int]) -> str:
    """Return every other number that the stages wrote: those that differ, then the equal ones; costs are told elsewhere."""
    elsewhere = {metric for _, found, _, _ in COSTS for metric in found}
    known = [one for one in contenders if one.metrics]
    names = list(
        dict.fromkeys(name for one in known for name in one.metrics if not name.endswith(ENDS) and name not in elsewhere)
    )
    names.sort(key=_order)
    header = ["<th>metric</th>", *(_head(one, positions) for one in known)]
    differing: list[list[str]] = []
    equal: list[list[str]] = []
    for name in names:
        values = [one.metrics.get(name) for one in known]
        cells = [f"<th><code>{text(name)}</code></th>"]
        for one, value in zip(known, values, strict=True):
            low, high = (one.metrics.get(f"{name}{end}") for end in ENDS)
            own = f" <small>{number(low)} to {number(high)}</small>" if low is not None and high is not None else ""
            cells.append(f'<td class="number m{positions[one.label]}">{number(value)}{own}</td>')
        (differing if len(set(values)) > 1 else equal).append(cells)
    parts = []
    for title, rows in (
        (f"{len(differing)} numbers of the stages that differ", differing),
        (f"{len(equal)} that are the same", equal),
    ):
        if rows:
            parts.append(f"<details><summary>{title}</summary>{table(header, rows)}</details>")
    return "".join(parts)


def costs(contenders: Sequence[Contender], positions: Mapping[str, int]) -> str:
    """Return the section on what the models cost; the cheapest of each kind is bold."""
    found = {one.label: cost_of(one) for one in contenders}
    rows = []
    for title, names, show, less in COSTS:
        values = {label: next((costs[name] for name in names if name in costs), math.nan) for label, costs in found.items()}
        there = [value for value in values.values() if not math.isnan(value)]
        if not there:
            continue
        most, least = max(there), min(there)
        cells = [f"<th>{title}</th>"]
        for one in contenders:
            value = values[one.label]
            strong = " best" if less and value == least and most > least else ""
            bar = f'<span class="bar" style="width:{100 * value / most:.1f}%"></span>' if most > 0 and value == value else ""
            cells.append(
                f'<td class="number m{positions[one.label]}{strong}">{"–" if math.isnan(value) else show(value)}{bar}</td>'
            )
        rows.append(cells)
    if not rows:
        return ""
    header = ["<th>cost</th>", *(_head(one, positions) for one in contenders)]
    note = (
        "As measured when each was trained and exported, on the machine that is named above: times of different machines, "
        "or of a machine that was busy, do not compare."
    )
    return f'<h2 id="cost">Cost</h2>{table(header, rows)}<p class="soft">{note}</p>'


def cost_of(one: Contender) -> dict[str, float]:
    """Return a model's costs by the names in COSTS."""
    # A recipe's files do not say what its run knows of memory.
    known = {**({} if one.run is None else one.run.metrics), **one.metrics}
    found = {name: value for name, value in known.items() if any(name in names for _, names, _, _ in COSTS)}
    for path, value in ({} if one.run is None else one.run.peaks).items():
        which = f"{'worker_' if '/rank_' in path else ''}{'gpu_' if 'gpu' in path else ''}memory"
        found[which] = max(found.get(which, 0.0), value)
    return found


def _head(one: Contender, positions: Mapping[str, int], more: str = "") -> str:
    place = positions[one.label]
    return f'<th class="m{place}">{key(place)}{text(one.label)}{more}</th>'


def _primary(one: Contender, findings: Findings) -> tuple[str, str]:
    if found := findings.scores.get(one.label):
        name, estimate = next(iter(found.items()))
        return (
            name,
            f"<strong>{number(estimate.value)}</strong> <small>{number(estimate.low)} to {number(estimate.high)}</small>",
        )
    return "", '<span class="soft">not evaluated</span>'


def _difference(one: Contender, first: Contender, findings: Findings) -> str:
    if one.label == first.label:
        return '<span class="soft">the first</span>'
    if (pair := findings.pairs.get(one.label)) is None:
        other_data = one.test_sha256 and first.test_sha256 and one.test_sha256 != first.test_sha256
        return f'<span class="bad">{"not tested on the same data" if other_data else "not to be compared"}</span>'
    found = pair.differences[0].difference
    told = {1: "better", -1: "worse", 0: "no difference to be told"}[pair.better]
    return f"{found.value:+.4f} <small>{found.low:+.4f} to {found.high:+.4f}</small><br>{told}"


def _verdict_class(one: Contender, findings: Findings) -> str:
    pair = findings.pairs.get(one.label)
    return "" if pair is None or not pair.better else " good" if pair.better > 0 else " bad"


def _order(name: str) -> tuple[int, str]:
    parts = ("test/", "best/", "baseline/", "val/", "train/", "export/")
    return next((place for place, part in enumerate(parts) if name.startswith(part)), len(parts)), name
