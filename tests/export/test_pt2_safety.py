"""A .pt2 file can bring code in many ways; none of them is run."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.export.kinds import made
from trainyard.errors import IntegrityError
from trainyard.export.pt2_format import check_archive, open_pt2


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.marker),)


def rewrite(path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """Change the files of an archive, by their names below its folder."""
    with zipfile.ZipFile(made("images").pt2) as archive:
        root = archive.namelist()[0].partition("/")[0]
        files = {name.removeprefix(f"{root}/"): archive.read(name) for name in archive.namelist()}
    change(files)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(f"{root}/{name}", content)


def edit(files: dict[str, bytes], name: str, change: Callable[[Any], None]) -> None:
    values = json.loads(files[name])
    change(values)
    files[name] = json.dumps(values).encode()


WEIGHTS, CONSTANTS = "data/weights/model_weights_config.json", "data/constants/model_constants_config.json"


def pickled_weight(files: dict[str, bytes], trap: bytes, marker: Path) -> None:
    def change(values: Any) -> None:
        first = next(iter(values["config"].values()))
        first["use_pickle"] = True
        files[f"data/weights/{first['path_name']}"] = trap

    edit(files, WEIGHTS, change)


def pickled_constant(files: dict[str, bytes], trap: bytes, marker: Path) -> None:
    def change(values: Any) -> None:
        first = next(iter(values["config"].values()))
        first["path_name"] = "opaque_obj_0"

    edit(files, CONSTANTS, change)
    files["data/constants/opaque_obj_0"] = trap


def pickled_example(files: dict[str, bytes], trap: bytes, marker: Path) -> None:
    content = io.BytesIO()
    torch.save(Trap(marker), content)
    files["data/sample_inputs/model.pt"] = content.getvalue()


def calling(function: str) -> Callable[[dict[str, bytes], bytes, Path], None]:
    def change(files: dict[str, bytes], trap: bytes, marker: Path) -> None:
        def first(values: Any) -> None:
            values["graph_module"]["graph"]["nodes"][0]["target"] = function

        edit(files, "models/model.json", first)

    return change


def sized_by(formula: str) -> Callable[[dict[str, bytes], bytes, Path], None]:
    def change(files: dict[str, bytes], trap: bytes, marker: Path) -> None:
        text = files["models/model.json"].decode()
        assert "Symbol(" in text
        start = text.index('"expr_str": "') + len('"expr_str": "')
        end = text.index('"', start)
        files["models/model.json"] = (text[:start] + formula.format(marker=marker) + text[end:]).encode()

    return change


def guarded(files: dict[str, bytes], trap: bytes, marker: Path) -> None:
    code = f"__import__('os').mkdir('{marker}') is None"
    edit(files, "models/model.json", lambda values: values.update(guards_code=[code]))


def library(files: dict[str, bytes], trap: bytes, marker: Path) -> None:
    files["data/aotinductor/model/model.so"] = b"\x7fELF"


def old_form(files: dict[str, bytes], trap: bytes, marker: Path) -> None:
    files.clear()
    files.update({"version": b"5.1", "serialized_state_dict.pt": trap})


DANGERS: dict[str, tuple[Callable[[dict[str, bytes], bytes, Path], None], str]] = {
    "a pickled weight": (pickled_weight, "keeps weight_0 as a pickle"),
    "a pickled constant": (pickled_constant, "holds data/constants/opaque_obj_0, which may be a pickle"),
    "a pickled example": (pickled_example, "holds data/sample_inputs/model.pt, which may be a pickle"),
    "torch.load as an operation": (calling("torch.load"), "calls torch.load"),
    "torch.hub as an operation": (calling("torch.hub.load"), "calls torch.hub.load"),
    "another operator": (calling("_operator.methodcaller"), "calls _operator.methodcaller"),
    "an operation of an extension": (calling("#custom"), "calls #custom"),
    "code for a size": (sized_by("__import__('os').mkdir('{marker}')"), "computes a size by"),
    "a function for a size": (sized_by("exit()"), "computes a size by"),
    "an attribute for a size": (sized_by("Symbol('s0').func"), "computes a size by"),
    "guards": (guarded, "brings guards, which are code"),
    "a library": (library, "which may be a pickle or a library"),
    "the form of older versions": (old_form, "is not a .pt2 file of torch 2.8 or later"),
}


@pytest.mark.parametrize("danger", DANGERS)
def test_what_could_run_code_is_refused_and_not_run(danger: str, tmp_path: Path) -> None:
    marker, path = tmp_path / "code-was-run", tmp_path / "model.pt2"
    change, said = DANGERS[danger]
    rewrite(path, lambda files: change(files, pickle.dumps(Trap(marker), protocol=2), marker))
    with pytest.raises(IntegrityError, match=said.replace(".", r"\.")):
        open_pt2(path)
    assert not marker.exists()


def test_torch_itself_would_have_run_some_of_it(tmp_path: Path) -> None:
    marker, path = tmp_path / "code-was-run", tmp_path / "model.pt2"
    rewrite(path, lambda files: pickled_example(files, b"", marker))
    logging.disable()  # torch's own warning of it has not the arguments it names
    try:
        with contextlib.suppress(AssertionError):  # what came out of it is no example
            torch.export.load(path)
    finally:
        logging.disable(logging.NOTSET)
    assert marker.exists()


def test_an_archive_that_is_written_again_as_it_was_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    rewrite(path, lambda files: None)
    check_archive(path)
    assert open_pt2(path) is not None


def test_a_pickle_and_other_files_are_refused(tmp_path: Path) -> None:
    marker, path = tmp_path / "code-was-run", tmp_path / "model.pt2"
    for content in (pickle.dumps(Trap(marker)), b"", b"PK\x03\x04"):
        path.write_bytes(content)
        with pytest.raises(IntegrityError, match=r"model\.pt2: is not a whole \.pt2 file"):
            open_pt2(path)
    torch.save(Trap(marker), path)
    with pytest.raises(IntegrityError, match=r"model\.pt2"):
        open_pt2(path)
    assert not marker.exists()
