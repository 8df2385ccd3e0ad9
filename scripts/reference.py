"""Write docs/reference/ from the code: each key of params.yaml, each command, each exit code.

python scripts/reference.py            # writes the pages; `make reference` does the same
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import typer.main

from trainyard import errors
from trainyard.cli import app
from trainyard.command_help import EXAMPLES
from trainyard.reference.blocks import Block, blocks
from trainyard.reference.keys import Key, about
from trainyard.reference.values import as_yaml, words

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
PAGES = {
    "data": ("Data: block `data` of a recipe", "[Your own data](../your-data.md), [tables](../tables.md)"),
    "model": ("Network: block `model` of a recipe", "[lessons](../lessons/README.md), [better recipes](../better-recipes.md)"),
    "train": (
        "Training: block `train` of a recipe",
        "[augmentation](../augmentation.md), [exactness](../exactness.md), [better recipes](../better-recipes.md)",
    ),
    "evaluate": (
        "Evaluation: block `evaluate` of a recipe",
        "[evaluation](../evaluation.md), [segmentation](../segmentation.md)",
    ),
    "gate": ("Gate: block `gate` of a recipe", "[evaluation](../evaluation.md)"),
    "export": ("Export: block `export` of a recipe", "[export](../export.md), [serving](../serving.md)"),
    "cluster": ("Where it runs: `cluster`", "[clusters](../clusters.md), [storage](../storage.md)"),
    "tracking": ("Where it is recorded: `tracking`", "[tracking](../tracking.md)"),
    "sweep": ("Sweeps: `sweep`", "[sweeps](../sweeps.md)"),
}
"""A page for each block: its title, and the pages that show how it is used."""
NOTE = "<!-- Written by scripts/reference.py from the code: change it there, then run `make reference`. -->"


def pages() -> dict[str, str]:
    """Return the text of each page by its file's name."""
    found = {f"{place}.md": block_page(title, more, list(_of(place))) for place, (title, more) in PAGES.items()}
    return {**found, "commands.md": commands_page(), "exit-codes.md": exit_codes_page()}


def block_page(title: str, more: str, found: list[Block]) -> str:
    """Return the page of all blocks that stand at one place."""
    parts = [
        NOTE,
        f"# {title}",
        f"How it is used: {more}. `trainyard explain {found[0].place.partition('.')[0]}` says the same as this page.",
    ]
    for block in found:
        if block.where:
            name, _, purpose = block.where.partition(", ")
            parts.append(f"## `{name}`\n\nFor {purpose.removeprefix('for ').replace('_', ' ')}.")
        parts.append(about(block.config))
        parts += _tables(block.keys)
    return "\n\n".join(parts) + "\n"


def _of(place: str) -> Iterator[Block]:
    return (block for block in blocks() if block.place.partition(".")[0] == place)


def _tables(keys: list[Key]) -> Iterator[str]:
    """Yield a table of the keys, and one below it, with a heading, for each key that holds others."""
    groups: dict[str, list[Key]] = {}
    for key in keys:
        groups.setdefault(key.path.rpartition(".")[0], []).append(key)
    for holder, held in groups.items():
        rows = [[f"`{key.path}`", key.values, _default(key), key.effect] for key in held if key.effect != "Chooses this block."]
        table = _table(["key", "values", "default", "effect"], rows)
        yield f"### `{holder}`\n\n{table}" if holder else table


def _default(key: Key) -> str:
    return f"`{key.default}`" if key.default else key.without


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    """Return text that is no markup of a table, nor of HTML outside of code."""
    pieces = re.split(r"(`[^`]*`)", text.replace("|", "\\|"))
    return "".join(piece if piece.startswith("`") else piece.replace("<", "&lt;").replace("*", "\\*") for piece in pieces)


def commands_page() -> str:
    """Return the page of all commands."""
    group: Any = typer.main.get_command(app)
    parts = [NOTE, "# Commands", inspect.cleandoc(group.help)]
    parts.append(
        "`trainyard COMMAND --help` says the same on a terminal. All commands end with these [exit codes](exit-codes.md)."
    )
    for name, command in sorted(group.commands.items()):
        hints = get_type_hints(command.callback)
        said = " ".join(inspect.cleandoc(command.help).split())
        typed = "\n".join([f"trainyard {name}{_usage(command)}", "", *EXAMPLES.get(name, ())]).strip()
        parts.append(f"## `trainyard {name}`\n\n{said}\n\n```text\n{typed}\n```")
        rows = [[_name(each), *_parameter(each, hints[each.name])] for each in command.params if each.name != "help"]
        if rows:
            parts.append(_table(["argument or option", "values", "default", "effect"], rows))
    return "\n\n".join(parts) + "\n"


def _usage(command: Any) -> str:
    """Return the arguments as they are typed, and whether there are options."""
    found = [f" {_shown(each)}" if each.required else f" [{_shown(each)}]" for each in command.params if _is_argument(each)]
    options = any(not _is_argument(each) and each.name != "help" for each in command.params)
    return "".join([*found, " [OPTIONS]"] if options else found)


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def _shown(argument: Any) -> str:
    return argument.metavar or argument.name.upper()


def _name(parameter: Any) -> str:
    return f"`{_shown(parameter)}`" if _is_argument(parameter) else " ".join(f"`{option}`" for option in parameter.opts)


def _parameter(parameter: Any, hint: Any) -> list[str]:
    """Return what an argument or option may be, what it is when left out, and what it does."""
    values = "flag" if hint is bool else words(hint)
    limits = [f"at least {parameter.min}"] if parameter.min is not None else []
    limits += [f"at most {parameter.max}"] if parameter.max is not None else []
    default = parameter.default
    if parameter.required:
        shown = "must be given"
    elif hint is bool:
        shown = "off"
    elif default in (None, "", (), []):
        shown = "may be left out"
    else:
        shown = f"`{as_yaml(str(default))}`"
    return [", ".join([values, *limits]), shown, parameter.help or ""]


def exit_codes_page() -> str:
    """Return the page of errors by exit code."""
    kinds = sorted(errors.TrainyardError.__subclasses__(), key=lambda kind: kind.exit_code)
    rows = [["0", "", "Done."]]
    rows.append(["1", "", "An error of the program itself; of `trainyard reproduce`: not all bits are the same."])
    rows += [[str(kind.exit_code), f"`{kind.__name__}`", about(kind)] for kind in kinds]
    rows.append(["130", "", "Ctrl-C: what was under way has been saved."])
    text = (
        "An error that a user can meet is one headline on stderr: `ERROR: <where>: <what was found>; <what to do>`. "
        "`TRAINYARD_DEBUG=1` shows the traceback of a stage, too. A command or an option that does not exist is an input, too. "
        "`dvc` itself answers 255 for any stage that failed."
    )
    return "\n\n".join([NOTE, "# Exit codes", text, _table(["code", "error", "meaning"], rows)]) + "\n"


def main() -> None:
    """Write the pages."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
