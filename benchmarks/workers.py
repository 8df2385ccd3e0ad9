"""One worker and two on this machine, and what trainyard.scale predicts for two from one.

    python benchmarks/workers.py --repeats 5

One worker at the whole global batch and at half of it gives the seconds of a sample and those of a step; two processes that sum
buffers of two sizes over Gloo give the link. From these the plan for two workers is made, and then two are measured. All take
turns; medians. The machine should do nothing else.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch.distributed
import torch.multiprocessing
from checkpoint_cost import DATA, RECIPE, pack

from trainyard.data.packed import read_card
from trainyard.models.build import build_network
from trainyard.models.spec import InputSpec
from trainyard.scale.reduction import Link, ring
from trainyard.scale.step import Cluster, Workload, step
from trainyard.training.cluster_config import ClusterConfig
from trainyard.training.hardware import processors
from trainyard.training.job import FitJob
from trainyard.training.launch import started

SMALL, LARGE = 2**12, 2**24
"""Bytes of the buffers that are summed."""
SUMS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--samples", type=int, default=50_000, help="of an epoch")
    parser.add_argument("--batch", type=int, default=256, help="the global batch")
    arguments = parser.parse_args()
    batch = arguments.batch
    cases = {"one worker": (1, batch), "one worker, half the batch": (1, batch // 2), "two workers": (2, batch)}
    rates: dict[str, list[float]] = {name: [] for name in cases}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = pack(folder / "packed", arguments.samples)
        link = measure_link(folder / "meeting")
        print(f"Gloo: {link.bytes_per_second / 1e9:.2f} GB/s, {1e6 * link.latency_seconds:.0f} µs a message")
        for repeat in range(arguments.repeats):
            for case, (workers, size) in cases.items():
                rates[case].append(rate(data, folder / f"{repeat}-{workers}-{size}", workers, size))
                print(f"{case}: {rates[case][-1]:,.0f} samples/s", flush=True)
        parameters = sum(tensor.numel() for tensor in network(data).parameters())
    median = {case: statistics.median(found) for case, found in rates.items()}
    whole, half = batch / median["one worker"], batch // 2 / median["one worker, half the batch"]
    sample = (whole - half) / (batch - batch // 2)
    work = Workload(
        sample_seconds=sample, step_seconds=max(0.0, whole - batch * sample), gradient_bytes=4 * parameters, global_batch=batch
    )
    found = step(work, Cluster(nodes=1, gpus_per_node=2, network=link, local=link, between=ring))
    predicted = batch / found.seconds
    print(f"| | samples/s | efficiency |\n|---|---|---|\n| one worker | {median['one worker']:,.0f} | |")
    for case, value in (("two workers", median["two workers"]), ("two workers, predicted", predicted)):
        print(f"| {case} | {value:,.0f} | {value / median['one worker'] / 2:.1%} |")
    print(
        f"error {predicted / median['two workers'] - 1:+.1%}; {parameters:,} parameters, batch {batch}, step "
        f"{1000 * found.seconds:.1f} ms of which {1000 * found.exposed:.2f} ms exposed; "
        f"{processors()} processors, load {os.getloadavg()[0]:.1f}"
    )


def network(data: Path) -> torch.nn.Module:
    return build_network(RECIPE.model, InputSpec.from_card(read_card(data)))


def rate(data: Path, scratch: Path, workers: int, batch: int) -> float:
    """Train one epoch on a private Ray and return samples a second, without its start."""
    scratch.mkdir()
    recipe = dataclasses.replace(RECIPE, data=DATA, train=dataclasses.replace(RECIPE.train, batch_size=batch))
    job = FitJob(recipe=recipe, data_dir=data, scratch_dir=scratch, fingerprint="f", checkpoint_seconds=None)
    with started(job, ClusterConfig(workers=workers)) as launch:
        launch.ready()
        return launch.wait(lambda: None).history[0]["throughput/samples_per_s"]


def measure_link(meeting: Path) -> Link:
    """Sum a small and a large buffer over two processes, and return the link that explains both."""
    with torch.multiprocessing.Manager() as manager:
        seconds = manager.dict()
        torch.multiprocessing.spawn(_sum, (meeting, seconds), nprocs=2)
        small, large = seconds[SMALL], seconds[LARGE]
    # A ring of two: two messages of half the bytes.
    rate = (LARGE - SMALL) / (large - small)
    return Link(bytes_per_second=rate, latency_seconds=max(0.0, small - SMALL / rate) / 2)


def _sum(rank: int, meeting: Path, seconds) -> None:  # type: ignore[no-untyped-def]
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    for size in (SMALL, LARGE):
        values = torch.zeros(size // 4)
        torch.distributed.all_reduce(values)
        taken = []
        for _ in range(SUMS):
            torch.distributed.barrier()
            began = time.perf_counter()
            torch.distributed.all_reduce(values)
            taken.append(time.perf_counter() - began)
        if rank == 0:
            seconds[size] = statistics.median(taken)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
