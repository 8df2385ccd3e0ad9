"""The commands of docs/serving.md, as a person would run them, against the server that `trainyard serve` starts."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trainyard.cli import app
from trainyard.errors import InputError, IntegrityError, MachineError

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"


@pytest.fixture(scope="module")
def place(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder as the page has it, and the address of a server in it."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "models").mkdir()
    for name, model in {"cnn": "photos", "unet": "cells", "lstm": "reviews"}.items():
        (folder / "models" / name).symlink_to(models[model])
    (folder / "digit.png").symlink_to(models["photos"].parents[1] / "raw" / "day" / "glass-0.png")
    (folder / "scene.png").symlink_to(models["cells"].parents[1] / "raw" / "images" / "00.png")
    command = [sys.executable, "-m", "trainyard.cli", "serve", "cnn", "unet", "lstm", "--port", "0", "--drain", "0"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        said = process.stdout.readline() if process.stdout else ""
        found = re.search(r"cnn, unet, lstm: (http://127\.0\.0\.1:\d+) ", said)
        assert found, said
        yield folder, found[1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def commands() -> list[str]:
    block = re.search(r"```bash\n(curl .*?)```", PAGE.read_text(), flags=re.DOTALL)
    return block[1].strip().splitlines() if block else []


@pytest.mark.parametrize("command", commands())
def test_the_commands_of_the_page_get_answers(place: tuple[Path, str], command: str) -> None:
    folder, url = place
    environment = {**os.environ, "URL": url, "no_proxy": "127.0.0.1"}
    done = subprocess.run(["bash", "-ec", command], cwd=folder, env=environment, capture_output=True, text=True, check=True)
    if "/metrics" in command:
        assert "trainyard_model_info" in done.stdout
    elif "mask.png" in command:
        assert (folder / "mask.png").read_bytes().startswith(b"\x89PNG")
    else:
        assert "error" not in json.loads(done.stdout), done.stdout
    if command.count("digit.png") > 1:
        assert len(json.loads(done.stdout)["predictions"]) == 2


def test_a_network_is_listened_on_with_a_token_alone(place: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, url = place
    monkeypatch.chdir(folder)

    def run(*options: str) -> None:
        CliRunner().invoke(app, ["serve", "cnn", *options], catch_exceptions=False)

    with pytest.raises(IntegrityError, match=r"--host 0\.0\.0\.0: whoever reaches this machine could ask"):
        run("--host", "0.0.0.0")
    (folder / "token").write_text("f8Zk2-qLw9-xx1T-0000")
    (folder / "token").chmod(0o644)
    with pytest.raises(IntegrityError, match="others can read it"):
        run("--host", "0.0.0.0", "--token-file", "token")
    (folder / "token").chmod(0o600)
    (folder / "token").write_text("short")
    with pytest.raises(InputError, match="holds no token of at least 16 characters"):
        run("--token-file", "token")
    with pytest.raises(InputError, match="nowhere: No such file"):
        run("--token-file", "nowhere")
    with pytest.raises(MachineError, match="cannot be listened on"):
        run("--port", url.rpartition(":")[2])
    with pytest.raises(InputError, match="pets: no exported model"):
        CliRunner().invoke(app, ["serve", "pets"], catch_exceptions=False)


def test_models_of_one_name_are_not_served_as_one(place: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = place
    monkeypatch.chdir(folder)
    (folder / "other").mkdir()
    (folder / "other" / "cnn").symlink_to(folder / "models" / "lstm")

    def run(*options: str) -> None:
        CliRunner().invoke(app, ["serve", *options], catch_exceptions=False)

    with pytest.raises(InputError, match="models/cnn and other/cnn: both would be asked at /models/cnn/predict; rename one"):
        run("cnn", "other/cnn")
    with pytest.raises(InputError, match=r"both would be asked at /models/model\.onnx/predict; name their folders"):
        run("models/cnn/model.onnx", "models/unet/model.onnx")
    assert CliRunner().invoke(app, ["serve", "cnn", "--timeout", "inf"]).exit_code == 2
