"""Replicas on a private Ray answer as the single server does, grow in number under load, and leave nothing behind.

In their order: the last of these tests ends what the others ask.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.on_ray.serving import Crowd, Replicas
from tests.ray_head import processes, wait_for
from tests.serving.test_predictor import changed, raws
from tests.serving.test_serve import BAD, bomb
from trainyard.serving.answers import Label
from trainyard.serving.predictor import Predictor

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(1500)]
MARK = "TRAINYARD_REPLICAS_TEST"


@pytest.fixture(scope="module")
def temporary() -> Iterator[Path]:
    """Where the command's Ray has its folder; of a short name, for the sockets in it."""
    folder = Path(tempfile.mkdtemp(prefix="tyr-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def texts(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the model for texts, for another one to take its place."""
    return Path(shutil.copytree(models["reviews"], tmp_path_factory.mktemp("texts") / "reviews"))


@pytest.fixture(scope="module")
def served(
    models: dict[str, Path], texts: Path, temporary: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replicas]:
    """Two models on a Ray of the command's own."""
    scaling = ("--min-replicas", "1", "--max-replicas", "2", "--target-load", "2", "--drain", "3")
    arguments = (str(models["photos"]), str(texts), "--address", "local", *scaling)
    with Replicas(tmp_path_factory.mktemp("served") / "log", arguments, {"TMPDIR": str(temporary)}, MARK) as replicas:
        yield replicas


def test_good_requests_get_the_answers_of_the_predictor(served: Replicas, models: dict[str, Path]) -> None:
    files = [raw for raw in raws(models["photos"])[1] if isinstance(raw, bytes)][:5]
    reply = served.post("photos", files=[("images", ("x", content)) for content in files])
    assert reply.status_code == 200, reply.text
    answers = Predictor.load(models["photos"], threads=1).predict(files)
    for found, answer in zip(reply.json()["predictions"], answers, strict=True):
        assert isinstance(answer, Label) and found["label"] == answer.label
        assert np.allclose(found["probabilities"], answer.probabilities, atol=1e-5)
    assert served.get("/health").json() == {"status": "ok"} and served.get("/ready").json() == {"status": "ready"}
    assert {"/models/photos/predict", "/models/reviews/predict"} <= set(served.get("/openapi.json").json()["paths"])


def test_bad_requests_are_refused_as_by_the_single_server(served: Replicas) -> None:
    for model, options, status, field in BAD:
        if model != "load":
            reply = served.post(model, **options)
            assert (reply.status_code, reply.json()["error"]["field"]) == (status, field), reply.text
    reply = served.post("photos", files=[("images", ("x", bomb()))])
    assert reply.status_code == 422 and "400000000 pixels" in reply.json()["error"]["found"]
    assert served.post("reviews", data=bytes(33 * 2**20), headers={"content-type": "application/json"}).status_code == 413
    reply = served.get("/models", headers={"host": "evil.example"})
    assert (reply.status_code, reply.json()["error"]["field"]) == (421, "host")
    assert served.get("/nothing").json()["error"]["field"] == "path"
    assert served.get("/ready").status_code == 200


def test_under_load_another_replica_begins_to_answer(served: Replicas) -> None:
    with Crowd(served.url) as crowd:
        served.wait_for("2 replicas answer")
        wait_for(lambda: len(crowd.replicas) == 2, "answers of a second replica")
    assert crowd.broken == [] and set(crowd.statuses) == {200}


def test_a_model_that_is_exported_anew_takes_its_place_in_every_replica(served: Replicas, texts: Path, tmp_path: Path) -> None:
    other = changed(texts, tmp_path, {"fingerprint": "fingerprint1"})
    with Crowd(served.url) as crowd:
        wait_for(lambda: len(crowd.replicas) == 2, "answers of both replicas")
        os.replace(shutil.copyfile(other / "model.onnx", texts / "new"), texts / "model.onnx")
        wait_for(lambda: set(crowd.fingerprints[-50:]) == {"fingerprint1"}, "answers of the new model alone")
    assert crowd.broken == [] and set(crowd.statuses) == {200}
    assert set(crowd.fingerprints) == {"fingerprint0", "fingerprint1"}


def test_at_the_end_what_was_asked_is_answered_and_nothing_is_left(served: Replicas, temporary: Path) -> None:
    with Crowd(served.url) as crowd:
        wait_for(lambda: crowd.statuses[200] > 20, "answers")
        served.process.terminate()
        # For as long as --drain says, whoever asks whether it is ready is told not to come any more.
        wait_for(lambda: served.get("/ready").status_code == 503, "the notice")
        asked = crowd.statuses[200]
        wait_for(lambda: crowd.statuses[200] > asked, "answers after the notice")
        # From then on there is no such path, and at last nobody who says so.
        wait_for(lambda: crowd.broken or crowd.statuses[404], "the end of the replicas")
    assert set(crowd.statuses) <= {200, 404}
    assert served.process.wait(240) == 0, served.said
    assert served.said.splitlines()[-1] == "ended, with everything answered that was asked"
    assert "raylet" not in served.said and "Traceback" not in served.said
    wait_for(lambda: not processes(str(served.log), MARK), "the end of all processes")
    assert list(temporary.iterdir()) == []
