"""Whether the models were tested on the same data, trained on the same data, and by which code on which machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_uppercase

from trainyard.comparing.contender import Contender
from trainyard.comparing.markup import key, table, text
from trainyard.data.packed import Card

SHORT = 12
"""Characters of a hash that are shown; all of them are in its tooltip."""


def alarm(contenders: Sequence[Contender]) -> str:
    """Return what is to be read before any number, in red: which models were not tested on the same data as the first."""
    first, *others = contenders
    other_data = [one for one in others if one.test_sha256 != first.test_sha256 and one.test_sha256 and first.test_sha256]
    lines = []
    if other_data:
        names = ", ".join(text(one.label) for one in other_data)
        subject = (
            f"These two were not tested on the same data: {text(first.label)} and {names}."
            if len(contenders) == 2
            else f"Not tested on the same data as {text(first.label)}: {names}."
        )
        lines.append(
            f"<p><strong>{subject}</strong> A difference between their numbers can be that of the data; no difference, "
            "interval or verdict is stated for them.</p>"
        )
    if unknown := [one for one in contenders if one.test_sha256 is None]:
        names = ", ".join(text(one.label) for one in unknown)
        lines.append(f"<p><strong>What these were tested on is not known: {names}.</strong></p>")
    return f'<div class="alarm" role="alert">{"".join(lines)}</div>' if lines else ""


def identity(contenders: Sequence[Contender], positions: Mapping[str, int]) -> str:
    """Return the section on data, code and machine; equal test data bear the same letter."""
    letters: dict[str, str] = {}
    for one in contenders:
        if one.test_sha256:
            letters.setdefault(one.test_sha256, ascii_uppercase[len(letters) % len(ascii_uppercase)])
    header = ["model", "tested on", "data", "trained on", "code", "machine", "state"]
    rows = []
    for one in contenders:
        place = positions[one.label]
        rows.append(
            [
                f'<th class="m{place}">{key(place)}{text(one.label)}</th>',
                _cell(place, _tested(one, letters, one.test_sha256 == contenders[0].test_sha256)),
                _cell(place, _data(one.card)),
                _cell(place, _trained(one.card)),
                _cell(place, _code(one)),
                _cell(place, _machine(one)),
                _cell(place, _state(one)),
            ]
        )
    gaps = [f"<li>{text(one.label)}: {text(gap)}</li>" for one in contenders for gap in one.missing]
    missing = f'<p class="soft">Not shown, and why:</p><ul class="soft">{"".join(gaps)}</ul>' if gaps else ""
    note = "Equal letters: the same test samples with the same truth, bit by bit."
    heads = [f"<th>{name}</th>" for name in header]
    return f'<h2 id="identity">Data, code and machine</h2><p class="soft">{note}</p>{table(heads, rows)}{missing}'


def _cell(place: int, content: str) -> str:
    return f'<td class="m{place}">{content}</td>'


def _tested(one: Contender, letters: Mapping[str, str], same: bool) -> str:
    sha256 = one.test_sha256
    if sha256 is None:
        return '<span class="bad">not known</span>'
    count = len(one.results) if one.results is not None else one.card.samples["test"] if one.card is not None else 0
    verdict = "" if same else ' class="bad"'
    return f"<strong{verdict}>{letters[sha256]}</strong> {count:,} samples<br>{_hash(sha256)}"


def _data(card: Card | None) -> str:
    return "–" if card is None else f"{text(card.source)}<br>{_hash(card.sha256)}"


def _trained(card: Card | None) -> str:
    return "–" if card is None else f"{card.samples['train']:,} samples<br><small>{card.samples['val']:,} to choose by</small>"


def _code(one: Contender) -> str:
    tags = {} if one.run is None else one.run.tags
    commit = tags.get("mlflow.source.git.commit", "")
    changed = ' <span class="bad">and changes</span>' if tags.get("git.dirty") == "true" else ""
    shown = f"commit {_hash(commit)}{changed}<br>" if commit else ""
    mark = f"<small>{text(one.fingerprint)}</small>" if one.fingerprint else ""
    return shown + mark or "–"


def _machine(one: Contender) -> str:
    tags = {} if one.run is None else one.run.tags
    facts = [
        tags.get("machine.gpu", f"{tags['machine.processors']} processors" if "machine.processors" in tags else ""),
        f"torch {tags['machine.torch']}" if "machine.torch" in tags else "",
        tags.get("arithmetic", "").partition(",")[0],
        f"{tags['workers']} workers" if tags.get("workers", "0") != "0" else "",
    ]
    return "<br>".join(text(fact) for fact in facts if fact) or "–"


def _state(one: Contender) -> str:
    if one.run is None:
        return text(one.place)
    bad = "" if one.run.status == "FINISHED" else ' class="bad"'
    gate = one.run.tags.get("gate")
    return (
        f"<span{bad}>{text(one.run.status.lower())}</span>{f'<br>gate: {text(gate)}' if gate else ''}"
        f"<br><small>run {_hash(one.run.run_id)}</small>"
    )


def _hash(value: str) -> str:
    return f'<code title="{text(value)}">{text(value[:SHORT])}</code>'
