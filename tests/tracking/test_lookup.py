"""A run is found by whatever it is called, and only where that is one run."""

from __future__ import annotations

import pytest
from mlflow.tracking import MlflowClient

from trainyard.errors import InputError, ServiceError
from trainyard.tracking.lookup import Lookup, runs_called


@pytest.fixture
def store(uri: str) -> tuple[MlflowClient, dict[str, str]]:
    """A run of its own name, key and fingerprint; seven of one name, the last of them of a sweep; and one that was deleted."""
    client = MlflowClient(uri)
    place = client.create_experiment("cnn")
    tags = {"trainyard.run_key": "k1", "trainyard.fingerprint": "cnn-aaaaaa0000000000"}
    ids = {"one": client.create_run(place, start_time=1, run_name="cnn-seed0-aaaaaa", tags=tags).info.run_id}
    for number in range(7):
        tags = {"trainyard.study": "sweep trial"} if number == 6 else {}
        ids[f"twin{number}"] = client.create_run(place, start_time=1000 + number, run_name="twin", tags=tags).info.run_id
    ids["gone"] = client.create_run(place, run_name="gone").info.run_id
    client.delete_run(ids["gone"])
    return client, ids


def test_a_run_is_found_by_its_id_key_fingerprint_and_name(uri: str, store: tuple[MlflowClient, dict[str, str]]) -> None:
    lookup, ids = Lookup(uri), store[1]
    for name in (ids["one"], "k1", "cnn-aaaaaa0000000000", "cnn-seed0-aaaaaa"):
        found = lookup.run(name)
        assert found is not None and found.run_id == ids["one"], name
    assert lookup.run("nowhere") is None and lookup.run("it's") is None
    assert lookup.run("0" * 32) is None


def test_a_deleted_run_is_found_by_nothing(uri: str, store: tuple[MlflowClient, dict[str, str]]) -> None:
    assert Lookup(uri).run("gone") is None
    assert Lookup(uri).run(store[1]["gone"]) is None


def test_where_several_runs_have_a_name_the_newest_are_listed_with_what_tells_them_apart(
    uri: str, store: tuple[MlflowClient, dict[str, str]]
) -> None:
    client, ids = store
    with pytest.raises(InputError) as raised:
        Lookup(uri).run("twin")
    headline, *listed, rest = str(raised.value).splitlines()
    assert headline.startswith("twin: MLflow at sqlite:///") and headline.endswith(
        "has 7 runs called twin; name one by its id:"
    )
    assert [line.split()[0] for line in listed] == [ids[f"twin{number}"] for number in (6, 5, 4, 3, 2)]
    assert listed[0].endswith("RUNNING  twin (sweep trial)") and listed[1].endswith("RUNNING  twin")
    assert rest == "  and 2 older ones"
    assert len(runs_called(client, "twin")) == 7


def test_a_store_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServiceError, match=r"MLflow at http://127\.0\.0\.1:9: .*start it"):
        Lookup("http://127.0.0.1:9").run("twin")
