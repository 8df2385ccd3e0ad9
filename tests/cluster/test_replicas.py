"""Replicas on several hosts: those that see neither the code nor the models answer too, and each host listens for itself."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

import trainyard
from tests.cluster.clusters import SOURCES, Cluster
from tests.cluster.hosts import Bench, wait_for
from tests.serving.made import make_model

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(1800)]
TOKEN = "f8Zk2-qLw9-xx1T-0000"
ASK = """
import json, sys, time, requests
session = requests.Session()
session.trust_env = False
url, token = sys.argv[1:]
for _ in range(600):
    # What listens on a host starts once there is a replica.
    try:
        if session.get(f"{url}/ready", timeout=120).status_code == 200:
            break
    except requests.ConnectionError:
        pass
    time.sleep(0.5)
found = []
for _ in range(40):
    heads = {"Authorization": f"Bearer {token}"}
    reply = session.post(f"{url}/models/reviews/predict", json={"texts": ["a fine day"]}, headers=heads, timeout=120)
    found.append((reply.status_code, reply.headers.get("x-replica"), reply.json().get("fingerprint")))
refused = session.get(f"{url}/models", timeout=120).status_code
print(json.dumps([found, refused]))
"""


def test_hosts_that_see_neither_code_nor_models_answer_too(bench: Bench, root: Path) -> None:
    place = bench.folder / "head-only"
    place.mkdir()
    model = make_model(place, "reviews")
    sources = {Path(trainyard.__file__).parents[1], root / "src"}
    cluster = Cluster(bench, processors={"head": 1, "north": 1}, hidden=(*sources, place))
    north = cluster.hosts["north"]
    with pytest.raises(AssertionError):
        north.run("cat", str(model / "model.onnx"))
    token = bench.folder / "asked for"
    token.write_text(TOKEN)
    token.chmod(0o600)
    log = bench.folder / "serve.log"
    asked = ("serve", str(model), "--address", cluster.address, "--min-replicas", "2", "--max-replicas", "2")
    serving = cluster.head.start(
        *("env", f"--chdir={bench.folder}", sys.executable, "-m", "trainyard.cli", *asked),
        *("--host", "0.0.0.0", "--token-file", str(token), "--drain", "0"),
        log=log,
        environment={**cluster.environment, "PYTHONPATH": str(SOURCES)},
    )
    wait_for(lambda: "2 replicas answer" in log.read_text() or serving.poll() is not None, lambda: log.read_text())
    assert serving.poll() is None, log.read_text()
    replicas: set[str] = set()
    for host in (cluster.head, north):
        said = host.run(sys.executable, "-c", ASK, "http://127.0.0.1:8000", TOKEN, environment=cluster.environment)
        found, refused = json.loads(said.splitlines()[-1])
        assert {(status, fingerprint) for status, _, fingerprint in found} == {(200, "fingerprint0")} and refused == 401
        replicas |= {replica for _, replica, _ in found}
    assert len(replicas) == 2
    assert [len(host.processes("ServeReplica")) for host in (cluster.head, north)] == [1, 1]
    # Not what brought it into the host.
    [driver] = [one for one in cluster.head.processes("trainyard.cli serve") if one.cmdline()[0] == sys.executable]
    driver.send_signal(signal.SIGINT)
    wait_for(lambda: serving.poll() is not None, lambda: log.read_text())
    assert serving.returncode == 0 and "ended, with everything answered" in log.read_text(), log.read_text()
    wait_for(lambda: not (cluster.head.processes("Serve") or north.processes("Serve")), "the end of what worked for Serve")
