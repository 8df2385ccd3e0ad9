"""What the program says when it refuses: `<where>: <what was found>; <what to do>` (errors.py)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from trainyard import errors

SOURCES = Path(__file__).parents[1] / "src" / "trainyard"
KINDS = {name for name, value in vars(errors).items() if isinstance(value, type)} | {"ParamsError"}
NEXT = re.compile(r"(; |\. [A-Z]|\n)\S")
"""After which there is what to do."""
ELSEWHERE = {
    ("comparing/find.py", "{name}: MLflow at {place} {problem}"): "which runs it could be, to name one of them",
    ("data/download.py", "{shown_url(url)}: serves another file"): "fetch.py adds the ways out",
    ("jobs/driver.py", "{line}"): "what a stage said, as it said it",
    ("jobs/server.py", "{self.url}: {_refusal"): "which token to set, and where",
    ("jobs/submit.py", "{'\\n'.join"): "a line for each path, with what to run",
    ("origin/tree.py", "{folder}: {problem}"): "the problem, with what to do, then what git says",
    ("params.py", "{'\\n'.join"): "a line for each mistake, with what was expected",
    ("reference/blocks.py", "{asked}: no such key{"): "the nearest key, or where all are listed",
    ("recipe_text.py", "{str(error)"): "the same lines",
    ("tracking/lookup.py", "{named}: MLflow at {self.place} {several"): "which runs it could be, to name one of them",
    ("training/access.py", "cluster.address: {address} {given}"): "which token to set, and where",
    (
        "training/arrival.py",
        "{socket.gethostname()}: {type(error).__name__}",
    ): "a mistake of ours, which nobody can mend who meets it",
    (
        "training/checkpoint.py",
        "{checkpoint.address}: ",
    ): "where no checkpoint is valid, the last reason stands in a message of its own",
    ("training/keeper.py", "training stopped at {place}: {problem}"): "what augmentation met, with what to change",
    ("training/launch.py", "{what}"): "BeginAgain adds it",
    ("training/launch.py", "{str(error)}"): "BeginAgain adds it",
    ("training/saver.py", "{self.store.address}: a checkpoint could not be written"): "a mistake of ours, as above",
    ("tracking/address.py", "{VARIABLE}: {problem}"): "what is expected of an address, from cluster_config.py",
    ("training/workers.py", "{problems}"): "versions that differ, with what to install",
}
"""Messages that are put together of others, or stand within others: where what to do comes from."""


def text_of(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(map(text_of, parts))
        case ast.BinOp(left=left, right=right):
            return text_of(left) + text_of(right)
        case ast.FormattedValue(value=value):
            return f"{{{ast.unparse(value)}}}"
    return f"{{{ast.unparse(node)}}}"


def messages() -> Iterator[tuple[str, int, str]]:
    """Each text that an error of ours is made with: file, line, text."""
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS and node.args:
                yield str(path.relative_to(SOURCES)), node.lineno, text_of(node.args[0])


def test_every_error_says_what_to_do() -> None:
    found = list(messages())
    assert len(found) > 250
    composed = [
        place
        for place in ELSEWHERE
        if not any(file == place[0] and text.startswith(place[1]) and not NEXT.search(text) for file, _, text in found)
    ]
    assert composed == []
    silent = [
        f"{file}:{line}: {text}"
        for file, line, text in found
        if not NEXT.search(text) and not any(file == place and text.startswith(begin) for place, begin in ELSEWHERE)
    ]
    assert silent == []
