"""A bundle to what the Android app reads: the folder of a model among the app's assets.

android/app/src/main/assets/<recipe>/
  model.pte                     of the bundle
  model.json                    what the model takes and gives, and the hash of each file below
  tokenizer.json samples/       of the bundle
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainyard.errors import InputError
from trainyard.export.bundle import FORMAT_FILES, read_bundle
from trainyard.export.config import EXECUTORCH
from trainyard.serving.model_file import open_model
from trainyard.web.about import FAMILIES, describe
from trainyard.web.folder import replace_folder

ASSETS = Path("app", "src", "main", "assets")
MODEL = "model.pte"


def write_assets(bundle: Path, app: Path) -> tuple[Path, int]:
    """Write the assets of a bundle, whole or not at all; those of the same recipe are replaced.

    Args:
        bundle: the folder that stage `export` wrote, with an ExecuTorch program in it.
        app: the folder of the app's Gradle project.

    Returns:
        The folder that was written, and its size in bytes.

    Raises:
        InputError: there is no bundle, no program in it, or no app.
        IntegrityError: a file of the bundle is not the one that was exported.
        MachineError: the app's folder cannot be written.
    """
    if not bundle.is_dir():
        raise InputError(f"{bundle}: is no folder of a model; name what `dvc repro` exported, such as models/cnn")
    if not (app / "app" / "src" / "main" / "AndroidManifest.xml").is_file():
        raise InputError(f"--app {app}: holds no Android app; name the folder android of the repository, or a copy of it")
    manifest = read_bundle(bundle)
    if "executorch" not in manifest["formats"]:
        raise InputError(
            f"{bundle}: has no program for a phone; add executorch to the recipe's export.formats, run "
            f'pip install "{EXECUTORCH}", then `dvc repro`'
        )
    files = _files(bundle, manifest["trainyard"])
    out = app / ASSETS / manifest["recipe"]
    replace_folder(out, files)
    return out, sum(map(len, files.values()))


def _files(bundle: Path, trainyard: str) -> dict[str, bytes]:
    """Return every file of the folder by its name."""
    _, signature = open_model(bundle / "model.onnx", threads=1)
    expected = json.loads((bundle / "samples" / "expected.json").read_bytes())
    stated = json.loads((bundle / "preprocessing" / "constants.json").read_bytes())["executorch"]
    files = {MODEL: (bundle / FORMAT_FILES["executorch"]).read_bytes()}
    for entry in expected["samples"]:
        files[f"samples/{entry['file']}"] = (bundle / "samples" / entry["file"]).read_bytes()
    if signature.tokenizer:
        files["tokenizer.json"] = (bundle / "preprocessing" / "tokenizer.json").read_bytes()
    about: dict[str, Any] = {
        **describe(signature, [], expected, files, MODEL),
        "origin": f"{FAMILIES[signature.family]} {signature.fingerprint}, exported by Trainyard {trainyard}",
        "at_most": stated["at_most"],
    }
    files["model.json"] = f"{json.dumps(about, indent=1, ensure_ascii=False)}\n".encode()
    return files
