"""An exported bundle in MLflow: registered once, with aliases that say which version to use, and asked about raw inputs."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.scoring_server import invocations
from mlflow.tracking import MlflowClient

from tests.tracking.journals import begin, drive, opening
from trainyard.data.packed import read_card
from trainyard.data.raw_form import SeriesForm
from trainyard.errors import IntegrityError
from trainyard.export.bundle import MANIFEST, SERVED
from trainyard.export.export import export
from trainyard.models.build import build_network
from trainyard.models.saved import SavedModel
from trainyard.models.spec import InputSpec
from trainyard.recipe import Recipe
from trainyard.serving.predictor import Predictor
from trainyard.tracking.onnx_model import code, signature
from trainyard.tracking.poster import Poster
from trainyard.tracking.raw_model import RawModel

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def bundles(packed_digits: Path, packed_series: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle of an untrained network for digits, and one of a forecaster."""
    folder = tmp_path_factory.mktemp("bundles")
    made = {}
    for name, packed, recipe in (("digits", packed_digits, digits_recipe()), ("waves", packed_series, waves_recipe())):
        spec = InputSpec.from_card(read_card(packed))
        torch.manual_seed(0)
        saved = SavedModel(build_network(recipe.model, spec).eval(), recipe, spec, f"{name}-1")
        export(saved, packed, folder / name)
        made[name] = folder / name
    return made


def digits_recipe() -> Recipe:
    from trainyard.data.digits import DigitsConfig
    from trainyard.evaluation.config import EvaluateConfig
    from trainyard.export.config import ExportConfig
    from trainyard.models.cnn_config import CNNConfig
    from trainyard.tasks.train_config import TrainConfig

    return Recipe(
        name="digits",
        family="cnn",
        data=DigitsConfig(source="digits"),
        model=CNNConfig(widths=(4,)),
        train=TrainConfig(epochs=1, batch_size=1, optimizer="sgd", learning_rate=1.0),
        evaluate=EvaluateConfig(),
        export=ExportConfig(verify_samples=9, latency_runs=3),
    )


def waves_recipe() -> Recipe:
    from tests.conftest import SERIES
    from trainyard.models.lstm_config import LSTMConfig

    model = LSTMConfig(hidden_size=4, bidirectional=False, residual="last")
    train = replace(digits_recipe().train, loss="mse")
    return replace(digits_recipe(), name="waves", family="lstm", data=SERIES, model=model, train=train)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A store of its own, with a folder for files."""
    root = tmp_path_factory.mktemp("registry")
    yield root, f"sqlite:///{root}/mlflow.db"
    mlflow.set_tracking_uri(None)


def told(store: tuple[Path, str], *entries: tuple[str, dict[str, Any]], bundle: Path | None = None, **changes: Any) -> None:
    """Send a journal with these entries, as a stage writes it."""
    root, uri = store
    journal = begin(root, opening(uri, artifacts=(root / "mlartifacts").as_uri(), **changes))
    for kind, values in entries:
        if kind == "model" and bundle is not None:
            values = {**values, "folder": journal.add_folder(bundle, (*SERVED, MANIFEST))}
        journal.append(kind, values)
    journal.append("end", {})
    journal.release()
    drive(Poster(root, uri))


def model(name: str, fingerprint: str) -> tuple[str, dict[str, Any]]:
    return "model", {"name": name, "registered": name, "tags": {"trainyard.fingerprint": fingerprint, "formats": "onnx"}}


@pytest.fixture(scope="module")
def client(store: tuple[Path, str], bundles: dict[str, Path]) -> MlflowClient:
    """A registry with two exports of digits and one of waves."""
    told(store, model("digits", "digits-1"), bundle=bundles["digits"])
    told(store, model("digits", "digits-2"), bundle=bundles["digits"])
    told(store, model("waves", "waves-1"), bundle=bundles["waves"])
    os.environ["MLFLOW_TRACKING_URI"] = store[1]
    mlflow.set_tracking_uri(store[1])
    return MlflowClient(store[1])


def aliases(client: MlflowClient, name: str) -> dict[str, str]:
    found = client.get_registered_model(name).aliases
    return {alias: client.get_model_version(name, number).tags["trainyard.fingerprint"] for alias, number in found.items()}


def test_the_newest_export_is_the_challenger_and_nothing_is_champion_unasked(client: MlflowClient) -> None:
    assert aliases(client, "digits") == {"challenger": "digits-2"}
    first = client.get_model_version("digits", "1")
    assert first.tags["formats"] == "onnx" and first.run_id


def test_only_what_is_named_becomes_champion_and_a_later_export_does_not(
    client: MlflowClient, store: tuple[Path, str], bundles: dict[str, Path]
) -> None:
    told(store, ("champion", {"registered": "digits", "fingerprint": "digits-1"}))
    assert aliases(client, "digits") == {"champion": "digits-1", "challenger": "digits-2"}
    told(store, model("digits", "digits-3"), bundle=bundles["digits"])
    assert aliases(client, "digits") == {"champion": "digits-1", "challenger": "digits-3"}
    told(store, ("champion", {"registered": "digits", "fingerprint": "digits-3"}))
    assert aliases(client, "digits") == {"champion": "digits-3"}
    told(store, ("champion", {"registered": "digits", "fingerprint": "nobody"}), ("tags", {"a": "b"}))
    assert aliases(client, "digits") == {"champion": "digits-3"}


def test_a_champion_that_is_exported_after_it_was_named_is_the_champion(
    client: MlflowClient, store: tuple[Path, str], bundles: dict[str, Path]
) -> None:
    told(
        store,
        ("tags", {"trainyard.champion": "yes"}),
        ("champion", {"registered": "digits", "fingerprint": "digits-4"}),
        model("digits", "digits-4"),
        bundle=bundles["digits"],
    )
    assert aliases(client, "digits") == {"champion": "digits-4"}


def test_a_bundle_that_is_told_twice_is_one_version(
    client: MlflowClient, store: tuple[Path, str], bundles: dict[str, Path]
) -> None:
    root, uri = store
    journal = begin(root, opening(uri, artifacts=(root / "mlartifacts").as_uri(), experiment="twice"))
    kind, values = model("twice", "twice-1")
    journal.append(kind, {**values, "folder": journal.add_folder(bundles["digits"], (*SERVED, MANIFEST))})
    journal.append("end", {})
    journal.release()
    poster = Poster(root, uri)
    poster.waiting()
    sending = poster.held[journal.name]
    while [entry.kind for entry in journal.entries(sending.state.sent)] != ["model", "end"]:
        assert poster.work()
    before = sending.state.sent
    assert poster.work()
    # As if the poster had been killed before it could write down what it had sent.
    sending.state.sent = before
    drive(poster)
    assert len(client.search_model_versions("name = 'twice'")) == 1
    assert len(client.search_logged_models([client.get_experiment_by_name("twice").experiment_id])) == 1


def test_a_bundle_that_changed_on_the_way_is_not_registered(
    client: MlflowClient, store: tuple[Path, str], bundles: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = Path(shutil.copytree(bundles["digits"], tmp_path / "digits"))
    (damaged / "labels.json").write_text("[]")
    told(store, model("damaged", "damaged-1"), bundle=damaged)
    assert "labels.json: is not the file that bundle.json lists" in capsys.readouterr().out
    assert client.search_model_versions("name = 'damaged'") == []


def test_a_registered_model_takes_the_bytes_of_image_files(client: MlflowClient, bundles: dict[str, Path]) -> None:
    loaded = mlflow.pyfunc.load_model("models:/digits/1")
    samples = bundles["digits"] / "samples"
    expected = json.loads((samples / "expected.json").read_text())["samples"]
    images = [(samples / entry["file"]).read_bytes() for entry in expected]
    found = loaded.predict(pd.DataFrame({"image": images}))
    assert list(found["label"]) == [entry["label"] for entry in expected]
    assert list(found["probability"]) == pytest.approx([entry["probability"] for entry in expected], abs=1e-4)
    assert len(found["probabilities"][0]) == 10
    flavour = loaded.metadata.flavors["python_function"]
    assert flavour["loader_module"] == "trainyard.tracking.raw_model" and "python_model" not in flavour
    assert loaded.metadata.signature.inputs.input_names() == ["image"]


def asked(model: mlflow.pyfunc.PyFuncModel, body: dict[str, Any]) -> Any:
    """Return what MLflow's server answers to a request."""
    reply = invocations(json.dumps(body), "application/json", model, model.metadata.get_input_schema())
    return json.loads(reply.response)["predictions"]


def test_each_form_of_mlflows_json_brings_the_same_images(client: MlflowClient, bundles: dict[str, Path]) -> None:
    loaded = mlflow.pyfunc.load_model("models:/digits/1")
    samples = bundles["digits"] / "samples"
    expected = json.loads((samples / "expected.json").read_text())["samples"]
    images = [base64.encodebytes((samples / entry["file"]).read_bytes()).decode() for entry in expected]
    records = [{"image": image} for image in images]
    for body in (
        {"dataframe_split": {"columns": ["image"], "data": [[image] for image in images]}},
        {"dataframe_records": records},
        {"instances": records},
        {"inputs": records},
        {"inputs": {"image": images}},
    ):
        assert [row["label"] for row in asked(loaded, body)] == [entry["label"] for entry in expected]


def test_what_cannot_be_answered_is_said_to_whoever_asks_mlflows_server(client: MlflowClient, bundles: dict[str, Path]) -> None:
    image = base64.b64encode((bundles["digits"] / "samples" / "0.png").read_bytes()).decode()
    with pytest.raises(MlflowException, match=r"images\[1\]: .*whole images of the formats") as refused:
        asked(mlflow.pyfunc.load_model("models:/digits/1"), {"dataframe_records": [{"image": image}, {"image": "YWJj"}]})
    assert refused.value.get_http_status_code() == 400
    rows = [{"load": 1.0, "heat": 2.0}] * 3
    with pytest.raises(MlflowException, match=r"series\[0\]: 3 rows; expected at least"):
        asked(mlflow.pyfunc.load_model("models:/waves/1"), {"dataframe_records": rows})


def test_a_registered_forecaster_takes_rows(client: MlflowClient, bundles: dict[str, Path]) -> None:
    loaded = mlflow.pyfunc.load_model("models:/waves@challenger")
    samples = bundles["waves"] / "samples"
    entry = json.loads((samples / "expected.json").read_text())["samples"][0]
    rows = pd.read_csv(samples / entry["file"])
    found = loaded.predict(rows)
    assert list(found["step"]) == list(range(1, 13))
    assert found[["load", "heat"]].to_numpy() == pytest.approx(pd.DataFrame(entry["forecast"]).to_numpy(), rel=1e-4)
    both = pd.concat([rows.assign(series="a"), rows.assign(series="b")])
    assert list(loaded.predict(both)["series"]) == ["a"] * 12 + ["b"] * 12
    # Without a name it would have been one series of both.
    both.iloc[3, both.columns.get_loc("series")] = None
    with pytest.raises(MlflowException, match="row 3: series: nothing; expected the name of a series, as in other rows"):
        loaded.predict(both)
    assert "series" not in loaded.predict(rows.assign(series=None))


def test_series_are_told_apart_by_the_column_of_the_recipe_too(bundles: dict[str, Path]) -> None:
    stated = json.loads((bundles["waves"] / "preprocessing" / "constants.json").read_text())
    stated["raw"]["series"] = "shop"
    # MLflow hands on no column that the signature does not name: two series would be one.
    assert signature(stated, "forecasting").inputs.input_names() == ["load", "heat", "shop", "series"]
    predictor = Predictor.load(bundles["waves"])
    predictor.signature = replace(predictor.signature, form=SeriesForm(time="time", series="shop"))
    rows = pd.read_csv(bundles["waves"] / "samples" / "0.csv")
    both = pd.concat([rows.assign(shop="a"), rows.assign(shop="b", load=0.0)])
    found = RawModel(predictor).predict(both)
    assert list(found["series"]) == ["a"] * 12 + ["b"] * 12
    alone = RawModel(predictor).predict(rows)
    assert list(found["load"][:12]) == list(alone["load"]) and list(found["load"][12:]) != list(alone["load"])


def test_a_forecaster_of_columns_called_series_and_step_is_described(bundles: dict[str, Path]) -> None:
    stated = json.loads((bundles["waves"] / "preprocessing" / "constants.json").read_text())
    stated["input"]["values"]["columns"] = stated["inside_the_graph"]["targets"] = ["series", "step"]
    described = signature(stated, "forecasting")
    assert described.inputs.input_names() == ["series", "step"]
    assert described.outputs.input_names() == ["series", "step", "forecast_series", "forecast_step"]


def test_a_registered_model_whose_file_changed_is_not_loaded(client: MlflowClient, tmp_path: Path) -> None:
    local = Path(mlflow.artifacts.download_artifacts("models:/digits/1", dst_path=str(tmp_path)))
    assert mlflow.pyfunc.load_model(str(local)) is not None
    (onnx_file,) = local.rglob("model.onnx")
    content = bytearray(onnx_file.read_bytes())
    content[len(content) // 2] ^= 1
    onnx_file.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"model\.onnx: is not the file that bundle\.json lists"):
        mlflow.pyfunc.load_model(str(local))


def test_a_registered_model_holds_the_code_it_needs_and_no_pickle(client: MlflowClient, tmp_path: Path) -> None:
    local = Path(mlflow.artifacts.download_artifacts("models:/digits/1", dst_path=str(tmp_path)))
    names = {str(path.relative_to(local)) for path in local.rglob("*") if path.is_file()}
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".pth"))]
    assert "code/trainyard/tracking/raw_model.py" in names and "code/trainyard/models/cnn.py" not in names
    requirements = (local / "requirements.txt").read_text()
    assert "onnxruntime==" in requirements and "pillow==" in requirements.lower() and "torch" not in requirements
    assert len(names) < 80


def test_the_code_that_is_sent_along_is_all_that_is_imported(root: Path) -> None:
    package = root / "src" / "trainyard"
    sent = {str(path.relative_to(package.parent)) for path in code(package)}
    look = (
        "import json, sys, trainyard.tracking.raw_model;"
        "print(json.dumps([m.__file__ for n, m in sys.modules.items() if n.startswith('trainyard')]))"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    used = {str(Path(name).relative_to(package.parent)) for name in json.loads(done.stdout)}
    assert used <= sent
    assert "trainyard/training/fit.py" not in sent and not [name for name in sent if name.startswith("trainyard/models/")]


@pytest.mark.pipeline
def test_mlflows_own_commands_ask_it_without_a_network(
    client: MlflowClient, store: tuple[Path, str], bundles: dict[str, Path], tmp_path: Path
) -> None:
    samples = bundles["digits"] / "samples"
    entry = json.loads((samples / "expected.json").read_text())["samples"][0]
    image = base64.b64encode((samples / entry["file"]).read_bytes()).decode()
    asked = tmp_path / "asked.json"
    asked.write_text(json.dumps({"dataframe_split": {"columns": ["image"], "data": [[image]]}}))
    command = [sys.executable, "-m", "mlflow", "models", "predict", "-m", "models:/digits/1"]
    done = subprocess.run(
        [*command, "-i", str(asked), "-t", "json", "--env-manager", "local"],
        cwd=tmp_path,
        env={**os.environ, "MLFLOW_TRACKING_URI": store[1], "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", **NO_NETWORK},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout[done.stdout.index('{"predictions') :])["predictions"][0]
    assert said["label"] == entry["label"] and said["probability"] == pytest.approx(entry["probability"], abs=1e-4)


NO_NETWORK = {name: "http://127.0.0.1:9" for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")}
