"""How long a training on a cluster stands still when a whole node is lost: from its end to the next step that is new.

    python benchmarks/lost_node.py --losses 10

Three hosts are made on this machine, as tests/cluster does (network namespaces; needs root), with the health checks of the
files in deploy/. Two workers train on them, and again and again a host that has one of them dies with all its processes, or
has its link cut without a word. The third host stands in for it, and it joins again afterwards.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from small_digits import DATA  # noqa: E402
from tests.cluster.clusters import Cluster, Training  # noqa: E402
from tests.cluster.hosts import Bench, lacking, wait_for  # noqa: E402

from trainyard.data.prepare import prepare  # noqa: E402
from trainyard.training.hardware import processors  # noqa: E402

HEALTH = {
    "RAY_health_check_initial_delay_ms": "5000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1500",
    "RAY_health_check_failure_threshold": "4",
}
WARM_SECONDS = 15.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--losses", type=int, default=10, help="of each kind")
    parser.add_argument("--kinds", nargs="+", default=["killed", "cut"], choices=["killed", "cut"])
    arguments = parser.parse_args()
    if (reason := lacking()) is not None:
        sys.exit(reason)
    bench = Bench()
    try:
        prepare("digits", DATA, bench.store / "packed")
        cluster = Cluster(bench, processors={"head": 1, "north": 1, "south": 1}, health=HEALTH)
        for kind in arguments.kinds:
            seconds = sorted(measure(cluster, kind, arguments.losses))
            late = seconds[min(len(seconds) - 1, round(0.95 * len(seconds)))]
            print(
                f"{kind}: {len(seconds)} nodes: median {statistics.median(seconds):.1f} s, 95th percentile {late:.1f} s, "
                f"most {seconds[-1]:.1f} s; {processors()} processors, {platform.machine()}, load {os.getloadavg()[0]:.1f}",
                flush=True,
            )
    finally:
        bench.close()


def measure(cluster: Cluster, kind: str, losses: int) -> list[float]:
    """Return the seconds of standstill of each loss, all within one training."""
    training = Training(cluster, kind, epochs=1_000_000, workers=2, max_restarts=losses + 1)
    training.start()
    found = []
    try:
        for number in range(losses):
            pass_step(training, newest_step(training))
            time.sleep(WARM_SECONDS)
            host, start = cluster.host_of_a_worker(), time.monotonic()
            host.cut() if kind == "cut" else host.kill()
            # A step that was on its way when the host ended may be recorded still.
            time.sleep(1.0)
            pass_step(training, newest_step(training))
            found.append(time.monotonic() - start)
            print(f"{kind} {number + 1:3d}  {found[-1]:6.1f} s", flush=True)
            host.kill()
            cluster.restore()
    finally:
        cluster.end_drivers()
        wait_for(lambda: not training.runs(), "the driver's end")
    return found


def newest_step(training: Training) -> int:
    return max((record.step for record in training.records), default=0)


def pass_step(training: Training, step: int) -> None:
    """Wait until a training has come further than a step."""

    def there() -> bool:
        if not training.runs():
            raise RuntimeError(training.said)
        return newest_step(training) > step

    wait_for(there, lambda: f"a step after {step}; the driver said {training.said}")


if __name__ == "__main__":
    main()
