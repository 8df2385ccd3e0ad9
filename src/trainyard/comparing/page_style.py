"""How the page looks: by light and by dark, and which of its models are shown, without any script."""

from __future__ import annotations

LIGHT = ("#1f6fd6", "#d9660f", "#1d8a4b", "#c9304b", "#7d4fc4", "#7a5a2e", "#c2409b", "#6d7a00", "#0a8aa0", "#5b6470")
DARK = ("#6aa9ff", "#ff9d52", "#53c98a", "#ff7388", "#b893f5", "#c9a06a", "#f083cd", "#b9c73a", "#4cc7dc", "#a4adba")
"""Of the models, one after the other; from the eleventh on they come again, and their lines are broken."""
STYLE = """
:root { color-scheme: light dark; --line: #d5dae1; --soft: #5f6875; --back: #ffffff; --raised: #f5f7fa; --ink: #16191d;
  --good: #12703a; --good-back: #e2f5e9; --bad: #a8172c; --bad-back: #fdeaec; --bar: #9db8dd; %(light)s }
@media (prefers-color-scheme: dark) {
  :root { --line: #343b45; --soft: #a0a9b5; --back: #14171b; --raised: #1d2127; --ink: #e8ebef;
    --good: #6fdc9b; --good-back: #15311f; --bad: #ff8d9c; --bad-back: #3c171d; --bar: #3f5f8c; %(dark)s } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 84rem; margin: 0 auto; padding: 1.5rem 1.25rem 4rem;
  color: var(--ink); background: var(--back); }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { margin: 2.4rem 0 .5rem; font-size: 1.2rem; scroll-margin-top: 4rem; }
h3 { font-size: 1rem; margin: 1rem 0 .3rem; }
p { margin: .4rem 0; max-width: 62rem; }
.soft, small, figcaption, caption { color: var(--soft); }
code { font-size: .86em; overflow-wrap: anywhere; } a { color: inherit; }
nav { position: sticky; top: 0; z-index: 3; background: var(--back); border-bottom: 1px solid var(--line);
  padding: .5rem 0; margin: .8rem 0; display: flex; flex-wrap: wrap; gap: .3rem .9rem; max-height: 30vh; overflow: auto; }
nav label { display: inline-flex; align-items: center; gap: .35rem; cursor: pointer; white-space: nowrap; font-size: .9rem; }
nav label:has(input:focus-visible) { outline: 2px solid; outline-offset: 2px; }
.key { flex: none; display: inline-block; width: 1.5rem; height: 0; border-top: 3px solid; vertical-align: middle;
  margin-right: .4rem; }
.broken { border-top-style: dotted; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; margin: .6rem 0; }
table { border-collapse: separate; border-spacing: 0; width: 100%%; font-size: .88rem; }
th { text-align: left; font-weight: 600; background: var(--raised); }
td, th { padding: .32rem .65rem; border-bottom: 1px solid var(--line); vertical-align: top; }
tr:last-child > * { border-bottom: 0; }
thead th { vertical-align: bottom; overflow-wrap: anywhere; min-width: 4.5rem; }
tbody th, thead th:first-child { position: sticky; left: 0; z-index: 1; background: var(--raised); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.good { color: var(--good); } .bad { color: var(--bad); }
td.good { background: var(--good-back); } td.bad { background: var(--bad-back); }
td.differs { font-weight: 600; } .best { font-weight: 700; }
.alarm { border: 2px solid var(--bad); color: var(--bad); background: var(--bad-back);
  border-radius: 6px; padding: .7rem 1rem; margin: 1rem 0; }
.alarm p { max-width: none; }
.verdicts { padding-left: 1.1rem; margin: .5rem 0; }
.bar { display: block; height: .35rem; background: var(--bar); border-radius: 2px; margin-top: .15rem; min-width: 1px; }
details { margin: .6rem 0; } summary { cursor: pointer; font-weight: 600; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(25rem, 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-size: .88rem; margin-bottom: .2rem; }
svg { width: 100%%; height: auto; display: block; overflow: visible; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
svg .grid { stroke: var(--line); stroke-width: 1; } svg .axis { stroke: var(--soft); stroke-width: 1; }
svg .truth { stroke: var(--ink); stroke-width: 1.6; fill: none; }
svg polyline { fill: none; stroke-width: 1.8; } svg g:hover > polyline { stroke-width: 4; }
img { image-rendering: pixelated; border-radius: 3px; display: block; max-width: none; } img.smooth { image-rendering: auto; }
.confusions { display: flex; flex-wrap: wrap; gap: 1.4rem; } .confusions .scroll { border: 0; margin: 0; }
.confusion { width: auto; font-size: .78rem; } .confusion caption { text-align: left; padding: .2rem 0; }
.confusion td { text-align: center; min-width: 2rem; padding: .2rem .3rem; font-variant-numeric: tabular-nums; }
.confusion thead th { min-width: 2rem; text-align: center; } .text { max-width: 30rem; overflow-wrap: anywhere; }
%(models)s
@media print { nav { position: static; } body { max-width: none; } }
"""


def style(count: int) -> str:
    """Return the style sheet of a page of so many models."""
    variables = [" ".join(f"--c{number}: {colour};" for number, colour in enumerate(colours)) for colours in (LIGHT, DARK)]
    rules = []
    for number in range(count):
        colour = f"var(--c{number % len(LIGHT)})"
        broken = " stroke-dasharray: 5 4;" if number >= len(LIGHT) else ""
        rules.append(f".line.m{number} {{ stroke: {colour};{broken} }} .key.m{number} {{ border-color: {colour}; }}")
        # The checkbox of a model in the bar hides it everywhere.
        rules.append(f"body:has(#show{number}:not(:checked)) .m{number}:not(nav *) {{ display: none; }}")
    return STYLE % {"light": variables[0], "dark": variables[1], "models": "\n".join(rules)}
