"""The folder that `trainyard web` writes: whole, small, and of a whole bundle alone."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import onnx
import pytest

from trainyard.errors import InputError, IntegrityError, MachineError
from trainyard.web.folder import PAGE, write_folder
from trainyard.web.layers import with_first_layers
from trainyard.web.runtime import RUNTIME, WASM, integrity, read_runtime


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def bundle(bundles: dict[str, Path], tmp_path: Path) -> Path:
    """A bundle that a test may damage."""
    return Path(shutil.copytree(bundles["reviews"], tmp_path / "models" / "reviews"))


def test_a_folder_has_all_that_its_page_asks_for_and_the_hash_of_each(pages: Path) -> None:
    for folder in pages.iterdir():
        about = json.loads((folder / "model.json").read_bytes())
        entries = [about["model"], *about["samples"], *([about["tokenizer"]] if about["tokenizer"] else [])]
        for entry in entries:
            content = (folder / entry["file"]).read_bytes()
            assert entry["integrity"] == integrity(content) and entry["bytes"] == len(content)
        wasm = (folder / about["runtime"]["wasm"]["file"]).read_bytes()
        assert about["runtime"]["wasm"]["integrity"].split() == [integrity(wasm), integrity(gzip.decompress(wasm))]
        assert (folder / about["runtime"]["script"]).is_file()
        imported = {
            name
            for script in folder.glob("*.js")
            for name in re.findall(r'(?:from |import\(|URL\()"\.?/?([\w.]+\.js)"', script.read_text())
        }
        assert imported and all((folder / name).is_file() for name in imported)
        assert "{{" not in (folder / "index.html").read_text()


def test_no_page_names_another_host(pages: Path) -> None:
    for name, content in contents(pages / "digits").items():
        if name.endswith((".html", ".js", ".css", ".json")) and name not in ("card.html", "runtime/ort.wasm.bundle.min.js"):
            hosts = set(re.findall(rb"(?:https?:)?//[\w.-]+\.\w+", content))
            # Names of the drawing's form and of papers, which nothing asks.
            assert hosts <= {b"http://www.w3.org", b"https://www.w3.org"}, name


def test_a_folder_is_small_and_always_the_same(bundles: dict[str, Path], pages: Path, tmp_path: Path) -> None:
    size = write_folder(bundles["digits"], tmp_path / "again")
    assert contents(tmp_path / "again") == contents(pages / "digits")
    assert sum(map(len, contents(pages / "digits").values())) == size < 6_000_000


def test_a_folder_takes_the_place_of_an_earlier_one_and_of_nothing_else(bundles: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "site" / "page"
    write_folder(bundles["reviews"], out)
    write_folder(bundles["load"], out)
    assert json.loads((out / "model.json").read_bytes())["recipe"] == "load"
    assert not (out / "tokenizer.json").exists()
    assert [path.name for path in out.parent.iterdir()] == ["page"]
    own = tmp_path / "own"
    own.mkdir()
    (own / "letters.txt").write_text("mine")
    for taken in (own, own / "letters.txt"):
        with pytest.raises(InputError, match=f"--out {re.escape(str(taken))}: is there already, and is no page"):
            write_folder(bundles["load"], taken)
    assert contents(own) == {"letters.txt": b"mine"}


def test_a_folder_that_cannot_be_written_is_said_and_the_one_before_stays(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match=r"file/page: cannot be written"):
        write_folder(bundles["load"], tmp_path / "file" / "page")
    (tmp_path / "page").mkdir()
    monkeypatch.chdir(tmp_path / "page")
    with pytest.raises(InputError, match=r"--out \.: is replaced whole, and the command runs in it"):
        write_folder(bundles["load"], Path())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "page"]


def test_what_a_link_leads_to_is_written(bundles: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("real")
    write_folder(bundles["load"], tmp_path / "link")
    write_folder(bundles["reviews"], tmp_path / "link")
    assert json.loads((tmp_path / "real" / "model.json").read_bytes())["recipe"] == "reviews"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


@pytest.mark.parametrize("name", ["model.onnx", "samples/expected.json", "preprocessing/tokenizer.json", "card.html"])
def test_a_bundle_with_another_file_is_refused(bundle: Path, tmp_path: Path, name: str) -> None:
    with (bundle / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(IntegrityError, match=r"is not the file that bundle\.json lists"):
        write_folder(bundle, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_no_whole_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no folder of a model"):
        write_folder(bundle / "model.onnx", tmp_path / "out")
    (bundle / "bundle.json").unlink()
    with pytest.raises(IntegrityError, match="nothing was exported there"):
        write_folder(bundle, tmp_path / "out")


def test_a_graph_that_answers_something_else_than_the_bundle_says_is_refused(bundle: Path, tmp_path: Path) -> None:
    expected = json.loads((bundle / "samples" / "expected.json").read_bytes())
    expected["samples"][2]["logits"][0] += 0.01
    (bundle / "samples" / "expected.json").write_text(json.dumps(expected))
    listed = json.loads((bundle / "bundle.json").read_bytes())
    content = (bundle / "samples" / "expected.json").read_bytes()
    listed["files"]["samples/expected.json"] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    others = {key: value for key, value in listed.items() if key != "sha256"}
    listed["sha256"] = hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()
    (bundle / "bundle.json").write_text(json.dumps(listed))
    with pytest.raises(IntegrityError, match=r"says of 2\.txt something else than when it was exported, by 1\.0e-02"):
        write_folder(bundle, tmp_path / "out")


def test_the_first_layers_are_further_outputs_of_the_same_weights(bundles: dict[str, Path]) -> None:
    content = (bundles["digits"] / "model.onnx").read_bytes()
    made, layers = with_first_layers(content)
    before, after = onnx.load_model_from_string(content), onnx.load_model_from_string(made)
    assert [layer.label for layer in layers] == ["Convolution 1", "Convolution 2", "Convolution 3"]
    assert [entry.name for entry in after.graph.output] == ["logits", *(layer.output for layer in layers)]
    assert after.graph.initializer == before.graph.initializer and after.graph.node == before.graph.node
    assert len(made) - len(content) < 100
    assert with_first_layers(content)[0] == made


def test_the_runtime_is_the_one_that_its_lock_lists(tmp_path: Path) -> None:
    lock = json.loads((RUNTIME / "lock.json").read_bytes())
    assert {path.name for path in RUNTIME.iterdir()} == {"lock.json", *lock["files"]}
    assert "Microsoft" in read_runtime().licences and len(read_runtime().licences) > 100_000
    copy = Path(shutil.copytree(RUNTIME, tmp_path / "runtime"))
    content = (copy / WASM).read_bytes()
    (copy / WASM).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(IntegrityError, match=f"{WASM}: is not the file that lock.json lists"):
        read_runtime(copy)
    (copy / WASM).unlink()
    with pytest.raises(IntegrityError, match="has not all files of the runtime"):
        read_runtime(copy)


def test_what_the_page_consists_of_goes_along_with_the_package(root: Path) -> None:
    assert '"trainyard.web" = ["page/*", "runtime/*"]' in (root / "pyproject.toml").read_text()
    assert not [path for path in PAGE.iterdir() if path.is_dir()]


@pytest.fixture(scope="module")
def served(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Host and folder of `trainyard web`, as a person runs it."""
    place = tmp_path_factory.mktemp("project")
    (place / "models").mkdir()
    (place / "models" / "cnn").symlink_to(bundles["digits"])
    command = [sys.executable, "-m", "trainyard.cli", "web", "cnn", "--port", "0"]
    with subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline() if process.stdout else "" for _ in range(2)]
        assert re.fullmatch(r"web/digits: \d\.\d MB of static files, for any web server\n", lines[0]), lines
        found = re.search(r"http://(127\.0\.0\.1:\d+) ", lines[1])
        assert found, lines
        yield found[1], place / "web" / "digits"
        process.terminate()
        assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/runtime/ort.wasm.bundle.min.js", "text/javascript; charset=utf-8"),
        ("/runtime/ort-wasm-simd-threaded.wasm.gz", "application/gzip"),
        ("/model.onnx", "application/octet-stream"),
        ("/model.json", "application/json"),
        ("/samples/0.png", "image/png"),
        ("/licences.txt", "text/plain; charset=utf-8"),
    ],
)
def test_files_are_served_as_what_they_are(served: tuple[str, Path], path: str, kind: str) -> None:
    host, folder = served
    connection = HTTPConnection(host, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    content = answer.read()
    assert (answer.status, answer.headers["content-type"]) == (200, kind)
    assert answer.headers["content-encoding"] is None and answer.headers["cache-control"] == "no-cache"
    assert answer.headers["cross-origin-embedder-policy"] == "require-corp"
    assert content == (folder / ("index.html" if path == "/" else path[1:])).read_bytes()


def test_nothing_but_the_folder_is_served_and_to_no_other_name(served: tuple[str, Path]) -> None:
    host, _ = served

    def status(path: str, name: str) -> int:
        connection = HTTPConnection(host, timeout=60)
        connection.request("GET", path, headers={"host": name})
        return connection.getresponse().status

    assert status("/nothing.js", host) == 404
    assert status("/../../models/cnn/bundle.json", host) == 404
    assert status("/%2e%2e/%2e%2e/models/cnn/bundle.json", host) == 404
    assert status("/", "localhost") == 200
    assert status("/", "attacker.example") == 400


def test_a_taken_port_is_said(served: tuple[str, Path], bundles: dict[str, Path], tmp_path: Path) -> None:
    port = served[0].rpartition(":")[2]
    command = [sys.executable, "-m", "trainyard.cli", "web", str(bundles["load"]), "--out", str(tmp_path / "o"), "--port", port]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 3 and f"127.0.0.1:{port}: cannot be listened on" in done.stderr
    done = subprocess.run([*command, "--no-serve"], capture_output=True, text=True)
    assert done.returncode == 0 and (tmp_path / "o" / "index.html").is_file()
