"""Trainings on several hosts, of which one is lost, cut off or comes back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.metadata import distribution, version
from pathlib import Path

import pytest

from tests.cluster.clusters import EPOCHS, SOURCES, Cluster, Training
from tests.s3 import S3Server

pytestmark = [pytest.mark.cluster, pytest.mark.faults, pytest.mark.timeout(1800)]


def test_workers_on_two_hosts_train_as_on_one(cluster: Cluster, undisturbed: Training) -> None:
    """Only the head has the project, and each host's own name means 127.0.1.1 to it."""
    training = cluster.train("two-hosts", until=1)
    assert sorted(len(pids) for pids in cluster.workers().values()) == [0, 1, 1]
    training.end()
    training.assert_same_end(undisturbed)


def test_a_host_that_dies_is_replaced_and_the_end_is_bit_identical(cluster: Cluster, undisturbed: Training) -> None:
    training = cluster.train("killed")
    host = training.catch_host()
    host.kill()
    said = training.end()
    assert f"node {host.name} ({host.address}) has left the cluster" in said
    assert "continues after epoch" in said
    training.assert_same_end(undisturbed)


def test_a_driver_with_only_an_object_store_in_common_gets_each_point_once(cluster: Cluster, undisturbed: Training) -> None:
    """Each host, and the driver, sees a folder of its own where the others have theirs."""
    with S3Server(cluster.head.address, cluster.head.enter()) as server:
        make = f"import urllib.request as web; web.urlopen(web.Request('{server.url}/bucket', method='PUT'))"
        cluster.head.run(sys.executable, "-c", make)
        training = Training(cluster, "apart", epochs=EPOCHS, workers=2, storage="s3://bucket/runs")
        training.keep_apart()
        keys = server.environment()
        training.environment |= {**keys, "TRAINYARD_HANDED_ON": ",".join(keys)}
        training.start()
        training.reach(2)
        training.catch_host().kill()
        said = training.end()
    assert "continues after epoch" in said
    assert [record.epoch for record in training.records if record.kind == "epoch"] == list(range(EPOCHS))
    steps = [record.step for record in training.records if record.kind == "progress" and not record.note]
    assert steps == sorted(set(steps))
    assert training.history == undisturbed.history
    assert [path.parent.name for path in training.folder.glob("*/spool.jsonl")] == ["driver"]


@pytest.mark.long
def test_what_a_node_lacks_is_known_before_anything_is_trained(cluster: Cluster) -> None:
    """South sees an empty folder where the data are, and has another version of a library."""
    project, south, empty = cluster.bench.store / "project", cluster.hosts["south"], cluster.bench.store / "empty"
    shutil.copytree(cluster.bench.store / "packed", project / "data" / "prepared" / "cnn")
    (project / "params.yaml").write_text(f"recipes: {{}}\ncluster: {{address: '{cluster.address}', workers: 3}}\n")
    empty.mkdir()
    (metadata,) = (path for path in distribution("safetensors").files or () if path.name == "METADATA")
    there = Path(str(metadata.locate()))
    other = empty / "METADATA"
    other.write_text(there.read_text().replace(f"Version: {version('safetensors')}", "Version: 0.0.1"))
    south.bind(other, there)
    south.bind(empty, project / "data")
    command = (sys.executable, "-m", "trainyard.cli", "doctor")
    environment = {**cluster.head.environment, **cluster.environment, "PYTHONPATH": str(SOURCES), "COLUMNS": "160"}
    enter = [*cluster.head.enter(), "env", f"--chdir={project}"]
    try:
        page = subprocess.run([*enter, *command], env=environment, capture_output=True, text=True, timeout=600)
        told = subprocess.run([*enter, *command, "--json"], env=environment, capture_output=True, text=True, timeout=600)
        training = Training(cluster, "lacking", epochs=2, workers=3)
        training.start()
        said = training.end(code=3)
    finally:
        for place in (there, project / "data"):
            south.run("umount", str(place))
    report = json.loads(told.stdout)
    assert (page.returncode, told.returncode, report["exit_code"]) == (3, 3, 3), page.stdout + page.stderr + told.stderr
    found = {(line["about"].split()[1], line["status"]): line for line in report["chapters"]["Nodes"]}
    assert found["head", "ok"] and found["north", "ok"]
    wrong = [line for line in report["chapters"]["Nodes"] if line["status"] == "problem"]
    assert {line["about"] for line in wrong} == {f"node south ({south.address})"}
    assert any("has safetensors 0.0.1 (here: " in line["found"] for line in wrong)
    assert any("does not see the packed data of cnn" in line["found"] and "cluster.storage" in line["fix"] for line in wrong)
    nodes = {node["node"]["name"]: node for node in report["nodes"]}
    assert {name: node["facts"]["data"]["cnn"] for name, node in nodes.items()} == {
        "head": "same",
        "north": "same",
        "south": "missing",
    }
    assert all(node["facts"]["address"] == cluster.hosts[name].address for name, node in nodes.items())
    assert all(abs(node["clock"][0]) <= node["clock"][1] + 0.01 and node["free_processors"] == 1 for node in nodes.values())
    assert all(text in page.stdout for text in ("north", "eth0", "safetensors 0.0.1", "1 of 1", "cnn: missing"))
    # A training of three workers has no room without that node, and says so instead of training.
    assert "south" in said and "safetensors 0.0.1" in said and not training.records


def test_trainings_side_by_side_share_all_nodes(cluster: Cluster) -> None:
    code = (
        "from trainyard.repro import room_for; from trainyard.training.cluster_config import ClusterConfig;"
        f"made = [ClusterConfig(workers=workers, address='{cluster.address}') for workers in (1, 2)];"
        "print([room_for(config, 5, None).together for config in made])"
    )
    environment = {**cluster.environment, "PYTHONPATH": str(SOURCES)}
    assert cluster.head.run(sys.executable, "-W", "ignore", "-c", code, environment=environment).split("\n")[-2] == "[3, 1]"


@pytest.mark.long
def test_a_host_that_is_cut_off_is_done_without(cluster: Cluster, undisturbed: Training) -> None:
    """Nothing tells of a cut link: connections stay open, and no more bytes come."""
    training = Training(cluster, "cut-off", epochs=EPOCHS, workers=[1, 2])
    cluster.hosts["south"].kill()
    training.start()
    training.reach(2)
    host = training.catch_host()
    host.cut()
    host.thaw()
    said = training.end()
    assert f"node {host.name} ({host.address}) has left the cluster" in said
    training.assert_same_losses(undisturbed)
