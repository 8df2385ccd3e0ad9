"""All examinations side by side, in less than 10 s whatever does not answer."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from trainyard.doctor import listeners, machine, nodes, project, services
from trainyard.doctor.finding import Finding, warning
from trainyard.dvc_cache import cache_folder
from trainyard.errors import InputError, TrainyardError
from trainyard.tracking.address import tracking_uri
from trainyard.training.access import host_of
from trainyard.training.cluster_config import ClusterConfig, TrackingConfig

LIMIT_SECONDS = 9.0
Examination = Callable[[], list[Finding]]
Report = dict[str, list[Finding]]
"""Findings by chapter."""


def examine(root: Path, cluster: ClusterConfig, tracking: TrackingConfig, address: str) -> Report:
    """Look at everything, and return what was found; `address` goes before that of params.yaml and RAY_ADDRESS."""
    address = address_of(cluster, address)
    remote = address != "local"
    uri = tracking_uri(root, tracking)
    places = {
        "project": root,
        "scratch": root / ".trainyard",
        "DVC cache": _cache(root),
        "temporary files": Path(tempfile.gettempdir()),
    }
    chapters: dict[str, list[Examination]] = {
        "Who can reach what": [
            listeners.examine_listeners,
            services.examine_tokens,
            lambda: project.examine_settings(root),
        ],
        "Services": [
            lambda: services.examine_tracking(uri),
            lambda: services.examine_remotes(root),
            *([lambda: services.examine_cluster(address, cluster.insecure)] if remote else []),
        ],
        "Machine": [
            lambda: machine.examine_libraries(root),
            machine.examine_processors_and_memory,
            machine.examine_gpus,
            lambda: machine.examine_disks(places),
            lambda: machine.examine_clock([root / "dvc.lock", root / "params.yaml", root / ".git" / "index"]),
            lambda: machine.examine_names(host_of(address) if remote else None),
        ],
        "Project": [
            lambda: project.examine_git(root),
            lambda: project.examine_lock_file(root),
            lambda: project.examine_locks(root),
            lambda: project.examine_leftovers(listeners.programs()),
        ],
    }
    return _side_by_side(chapters)


def examine_nodes_of(
    root: Path, cluster: ClusterConfig, tracking: TrackingConfig, address: str, report: Report
) -> nodes.Nodes | None:
    """Ask the nodes of a cluster, and add a chapter on them to the report; None without a cluster that lets this user in."""
    address = address_of(cluster, address)
    refused = any(finding.about == "cluster" and finding.status == "problem" for finding in report["Services"])
    if address == "local" or refused:
        return None
    found = nodes.examine_nodes(nodes.question(root, cluster, tracking_uri(root, tracking), address), cluster, address)
    report["Nodes"] = found.findings
    return found


def _cache(root: Path) -> Path:
    try:
        return cache_folder(root)
    except InputError:  # which is a finding of its own
        return root / ".dvc" / "cache"


def address_of(cluster: ClusterConfig, address: str) -> str:
    """Return where trainings run: as asked for, else RAY_ADDRESS, else as params.yaml says."""
    return address or os.environ.get("RAY_ADDRESS") or cluster.address


def exit_code(report: Report) -> int:
    """Return that of the worst problem: security before a service before the machine; 0 without one."""
    return max((finding.code for findings in report.values() for finding in findings), default=0)


def _side_by_side(chapters: dict[str, list[Examination]]) -> Report:
    results: dict[tuple[str, int], list[Finding]] = {}
    threads = {
        # Daemons: what hangs must not hold the program.
        (chapter, position): threading.Thread(target=_run, args=(work, results, (chapter, position)), daemon=True)
        for chapter, all_of_them in chapters.items()
        for position, work in enumerate(all_of_them)
    }
    for thread in threads.values():
        thread.start()
    end = time.monotonic() + LIMIT_SECONDS
    for thread in threads.values():
        thread.join(max(0.0, end - time.monotonic()))
    report: Report = {}
    for chapter, position in threads:
        late = [warning("examination", f"number {position + 1} took longer than {LIMIT_SECONDS:.0f} s", "run it again")]
        report.setdefault(chapter, []).extend(results.get((chapter, position), late))
    return report


def _run(work: Examination, results: dict[tuple[str, int], list[Finding]], place: tuple[str, int]) -> None:
    try:
        results[place] = work()
    except (OSError, TrainyardError, ValueError) as error:
        results[place] = [warning("examination", f"could not be made ({error})", "report it, if it stays so")]
