from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trainyard.errors import InputError
from trainyard.origin.tree import Tree, bring_data


class Watched(Tree):
    """A tree whose stages only note what lay there when they were asked for."""

    def stage(self, stage: str) -> None:
        assert stage == "prepare"
        self.seen.update({str(path.relative_to(self.folder)): path.read_text() for path in self.folder.rglob("*.*")})

    @property
    def seen(self) -> dict[str, str]:
        return SEEN.setdefault(self.folder, {})


SEEN: dict[Path, dict[str, str]] = {}


def origin_of(data: dict[str, Any]) -> dict[str, Any]:
    return {"dvc": {"lock": {}}, "data": {"path": data["path"]}, "block": {"data": data}}


def test_raw_data_and_word_vectors_are_there_before_data_are_prepared_again(tmp_path: Path) -> None:
    root, place = tmp_path / "project", tmp_path / "tree"
    (root / "data" / "raw").mkdir(parents=True)
    place.mkdir()
    (root / "data/raw/t.csv").write_text("text,label\n")
    tree = Watched(folder=place, recipe="words", address="local")
    data = {"path": "data/raw/t.csv", "vectors": {"path": "data/raw/words.vec"}}
    with pytest.raises(InputError, match=r"words\.vec"):
        bring_data(tree, root, origin_of(data), lambda said: None)
    assert not tree.seen
    (root / "data/raw/words.vec").write_text("cat 1\n")
    bring_data(tree, root, origin_of(data), lambda said: None)
    assert tree.seen == {"data/raw/t.csv": "text,label\n", "data/raw/words.vec": "cat 1\n"}


def test_data_without_vectors_need_none(tmp_path: Path) -> None:
    root, place = tmp_path / "project", tmp_path / "tree"
    root.mkdir()
    place.mkdir()
    (root / "t.csv").write_text("text,label\n")
    tree = Watched(folder=place, recipe="words", address="local")
    bring_data(tree, root, origin_of({"path": "t.csv", "vectors": None}), lambda said: None)
    assert tree.seen == {"t.csv": "text,label\n"}
