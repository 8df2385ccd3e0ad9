"""A bundle to a folder of static files, in which a browser asks the model itself.

web/<recipe>/
  index.html style.css *.js     the page
  model.json                    what the model takes and gives, and the hash of each file below
  model.onnx                    of the bundle; that of a classifier of images also gives what its first layers say
  tokenizer.json samples/       of the bundle
  runtime/                      onnxruntime-web, in WebAssembly
  card.html licences.txt
"""

from __future__ import annotations

import html
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from trainyard.errors import InputError, IntegrityError, MachineError
from trainyard.export.bundle import read_bundle
from trainyard.export.scale import logit_scale
from trainyard.file_lock import wait_for
from trainyard.files import flush
from trainyard.serving.model_file import Signature, open_bytes
from trainyard.serving.predictor import Predictor, Raw
from trainyard.web.about import FAMILIES, describe, words
from trainyard.web.layers import Layer, with_first_layers
from trainyard.web.runtime import SCRIPT, WASM, Runtime, read_runtime

PAGE = Path(__file__).with_name("page")
MARK = "model.json"
"""By which a folder is known to be one of these, and may be replaced."""
PAGE_SUFFIXES = (".html", ".css", ".js", ".svg")


def write_folder(bundle: Path, out: Path) -> int:
    """Write the page of a bundle, whole or not at all; a page that is there already is replaced.

    Args:
        bundle: the folder that stage `export` wrote.
        out: the folder to write.

    Returns:
        Its size in bytes.

    Raises:
        InputError: there is no bundle, or `out` holds something else, or the command runs in it.
        IntegrityError: a file of the bundle is not the one that was exported, or answers something else.
        MachineError: `out` cannot be written.
    """
    if not bundle.is_dir():
        raise InputError(f"{bundle}: is no folder of a model; name what `dvc repro` exported, such as models/cnn")
    check_out(out)
    # Where it is a link, what it leads to is meant.
    real = out.resolve()
    if Path.cwd().is_relative_to(real):
        raise InputError(f"--out {out}: is replaced whole, and the command runs in it; name another folder")
    files = _files(bundle)
    replace_folder(real, files)
    return sum(map(len, files.values()))


def replace_folder(out: Path, files: Mapping[str, bytes]) -> None:
    """Write files aside, by their names in a folder, and put it in the place of the one that is there.

    Raises:
        MachineError: the folder cannot be written; what is there stays.
    """
    beside, before = (out.with_name(f".{out.name}.{suffix}") for suffix in ("tmp", "old"))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with _alone(out.parent):
            for left in (beside, before):
                shutil.rmtree(left, ignore_errors=True)
            for name, content in files.items():
                path = beside / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                flush(path)
            if out.exists():
                out.rename(before)
            beside.rename(out)
            flush(out.parent)
            shutil.rmtree(before, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise MachineError(f"{out}: cannot be written ({error.strerror or error}); make room, or name another folder") from None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process replaces a folder in this one."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            wait_for(descriptor)
        yield
    finally:
        os.close(descriptor)


def check_out(out: Path) -> None:
    """Refuse a folder with something else in it.

    Raises:
        InputError: saying so.
    """
    is_page = (out / MARK).is_file() and (out / "runtime" / WASM).is_file()
    if out.exists() and not (out.is_dir() and (is_page or not any(out.iterdir()))):
        raise InputError(f"--out {out}: is there already, and is no page of `trainyard web`; name another folder")


def _files(bundle: Path) -> dict[str, bytes]:
    """Return every file of the folder by its name."""
    manifest = read_bundle(bundle)
    content = (bundle / "model.onnx").read_bytes()
    expected = json.loads((bundle / "samples" / "expected.json").read_bytes())
    layers: list[Layer] = []
    if manifest["kind"] == "image_classification":
        content, layers = with_first_layers(content)
    predictor = Predictor(*open_bytes(content, bundle / "model.onnx", threads=1))
    signature = predictor.signature
    samples = [entry[key] for entry in expected["samples"] for key in ("file", "mask") if key in entry]
    asked = {"model.onnx": content, **{f"samples/{name}": (bundle / "samples" / name).read_bytes() for name in samples}}
    if signature.tokenizer:
        asked["tokenizer.json"] = (bundle / "preprocessing" / "tokenizer.json").read_bytes()
        if json.loads(asked["tokenizer.json"]) != json.loads(signature.tokenizer):
            raise IntegrityError(f"{bundle}: its tokenizer is not the one in model.onnx; export it again")
    _check_answers(predictor, bundle, expected)
    runtime = read_runtime()
    places = {"script": f"runtime/{SCRIPT}", "wasm": {"file": f"runtime/{WASM}", "integrity": runtime.wasm_integrity}}
    about = {**describe(signature, layers, expected, asked, "model.onnx"), "runtime": places}
    page = {path.name: path.read_bytes() for path in sorted(PAGE.iterdir()) if path.suffix in PAGE_SUFFIXES}
    loaded = len(runtime.files[WASM]) + len(content) + len(asked.get("tokenizer.json", b""))
    page["index.html"] = _index(page["index.html"].decode(), signature, manifest, loaded).encode()
    return {
        **page,
        **asked,
        MARK: f"{json.dumps(about, indent=1, ensure_ascii=False)}\n".encode(),
        **{f"runtime/{name}": file for name, file in runtime.files.items()},
        "card.html": (bundle / "card.html").read_bytes(),
        "licences.txt": _licences(runtime).encode(),
    }


def _check_answers(predictor: Predictor, bundle: Path, expected: dict[str, Any]) -> None:
    """Ask the graph that goes into the folder about the bundle's samples.

    Raises:
        IntegrityError: it says something else than the bundle does.
    """
    allowed = json.loads((bundle / "parity.json").read_bytes())["max_logit_difference"]
    kind = predictor.signature.kind
    for entry in expected["samples"]:
        path = bundle / "samples" / entry["file"]
        raw: Raw = path.read_bytes()
        if path.suffix == ".txt":
            raw = path.read_text(encoding="utf-8")
        elif path.suffix == ".csv":
            raw = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
        found = predictor.run([predictor.sample(raw)])[0]
        scale = logit_scale(found[None]).item()
        if kind == "segmentation":
            found = found.mean(axis=(1, 2))
        said = np.array(entry[{"segmentation": "mean_logits", "forecasting": "forecast"}.get(kind, "logits")])
        if kind == "forecasting":
            # In its own units its size counts.
            scale = np.abs(said).max(axis=0) + 1e-9
        difference = float(np.max(np.abs(found - said) / scale))
        if not difference <= allowed:
            raise IntegrityError(
                f"{bundle}: says of {path.name} something else than when it was exported, by "
                f"{difference:.1e}; export the recipe again"
            )


def _index(template: str, signature: Signature, manifest: dict[str, Any], size: int) -> str:
    title, what = words(signature)
    family = FAMILIES[signature.family]
    values = {
        "title": title,
        "what": what,
        "size": f"{size / 1e6:.1f} MB",
        "origin": f"{family} {signature.fingerprint}, exported by Trainyard {manifest['trainyard']}",
    }
    for name, value in values.items():
        template = template.replace(f"{{{{{name}}}}}", html.escape(value))
    return template


def _licences(runtime: Runtime) -> str:
    own = "The page's own code: Trainyard, Apache-2.0. What the model was trained on, and under which licence: card.html."
    return f"{own}\n\nruntime/: {runtime.name} {runtime.version}\n\n{runtime.licences}"
