"""What trainyard.scale predicts, beside what others have published; the tables and figures of docs/performance.md.

    python benchmarks/scale.py
    python benchmarks/scale.py --figures docs

Nothing is measured here, and no constant is fitted to what is compared with it but where a row says so.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from trainyard.scale.failures import simulate
from trainyard.scale.interval import Saving, availability, best, daly, expected_seconds, young
from trainyard.scale.plan import plan
from trainyard.scale.reduction import Link, double_tree, halving_doubling, ring
from trainyard.scale.step import Cluster, Workload, step

GIGABIT = 1e9 / 8
MINUTE, HOUR = 60.0, 3600.0
IMAGENET = 1_281_167
"""Training images."""
JITTER = 0.02
"""A guess: what a spread of 2 % between GPUs would cost; the second of the two predictions."""
NVLINK = Link(bytes_per_second=20e9, latency_seconds=5e-6)
PCIE = Link(bytes_per_second=10e9, latency_seconds=5e-6)


@dataclass(frozen=True)
class Comparison:
    """One published value beside two predictions."""

    source: str
    what: str
    gpus: int
    published: float
    calm: float
    """Predicted, where no GPU is slower than another."""
    uneven: float
    """Predicted with JITTER."""
    form: str = "{:.0%}"


def comparisons() -> Iterator[Comparison]:
    """Yield all rows of the table."""
    yield from goyal()
    yield from horovod()
    yield from tencent()
    yield akiba()


def goyal() -> Iterator[Comparison]:
    """ResNet-50 on 8 to 352 P100 (arXiv:1706.02677): 50 Gbit/s Ethernet, 100 MB of gradients, backward pass 120 ms.

    The step on 8 GPUs is from the 29 hours that 90 epochs take there (arXiv:1807.11205, section 1).
    """
    base = 29 * HOUR / 90 / (IMAGENET / 256)
    work = Workload(sample_seconds=base / 32, gradient_bytes=100e6, global_batch=256, backward_share=0.120 / base)
    server = Cluster(nodes=1, gpus_per_node=8, network=Link(bytes_per_second=50 * GIGABIT, latency_seconds=30e-6), local=NVLINK)

    def seconds(servers: int, jitter: float) -> float:
        found = step(replace(work, global_batch=256 * servers), replace(server, nodes=servers, jitter=jitter)).seconds
        # The 29 hours hold what one server waits for already.
        return base * found / step(work, replace(server, jitter=jitter)).seconds

    name = "ResNet-50, Goyal et al. 2017"
    for servers, published in ((32, 0.9), (44, 1 / 1.12)):
        yield Comparison(
            name, "efficiency from 8 GPUs", 8 * servers, published, *(base / seconds(servers, jitter) for jitter in (0, JITTER))
        )
    epochs = [IMAGENET / (256 * 44) * seconds(44, jitter) for jitter in (0, JITTER)]
    yield Comparison(name, "seconds of an epoch", 352, 30, *epochs, form="{:.1f}")


def horovod() -> Iterator[Comparison]:
    """128 and 512 P100, 4 a server, 25 Gbit/s RoCE (arXiv:1802.05799; docs/benchmarks of Horovod 0.11 and later).

    One P100 alone: TensorFlow's own benchmarks of 2017, batches of 64 synthetic images; ResNet-101 from the 1656.82 images/s of
    16 GPUs in Horovod's page. 64 MB are summed together, Horovod's default.
    """
    for network, rate, parameters, head, published in (
        ("Inception V3", 142, 23.8e6, 2.05e6, (0.90, 0.90)),
        ("ResNet-101", 1656.82 / 16, 44.5e6, 2.05e6, (0.90, 0.90)),
        ("VGG-16", 154, 138.36e6, 123.64e6, (0.79, 0.68)),
    ):
        for servers, value in zip((32, 128), published, strict=True):
            work = Workload(
                sample_seconds=1 / rate,
                gradient_bytes=4 * parameters,
                global_batch=64 * 4 * servers,
                bucket_bytes=64 * 2**20,
                early_share=head / parameters,
            )
            roce = Link(bytes_per_second=25 * GIGABIT, latency_seconds=10e-6)
            cluster = Cluster(nodes=servers, gpus_per_node=4, network=roce, local=PCIE, between=ring)
            predicted = [64 / rate / step(work, replace(cluster, jitter=jitter)).seconds for jitter in (0, JITTER)]
            yield Comparison(f"{network}, Horovod 2018", "efficiency from 1 GPU", 4 * servers, value, *predicted)


def tencent() -> Iterator[Comparison]:
    """ResNet-50 on 1024 and 2048 P40, 100 Gbit/s RoCE, half precision (arXiv:1807.11205, and the authors' account of it).

    One GPU's rate is from the 6.6 minutes of 90 epochs on 2048 GPUs at the 97 % that they give; 8 GPUs a server are assumed.
    """
    rate = IMAGENET * 90 / (6.6 * MINUTE) / 2048 / 0.97
    for gpus, published in ((1024, 0.99), (2048, 0.97)):
        work = Workload(sample_seconds=1 / rate, gradient_bytes=50e6, global_batch=32 * gpus)
        roce = Link(bytes_per_second=100 * GIGABIT, latency_seconds=10e-6)
        cluster = Cluster(nodes=gpus // 8, gpus_per_node=8, network=roce, local=NVLINK, between=ring)
        predicted = [32 / rate / step(work, replace(cluster, jitter=jitter)).seconds for jitter in (0, JITTER)]
        yield Comparison("ResNet-50, Jia et al. 2018", "efficiency from 1 GPU", gpus, published, *predicted)


def akiba() -> Comparison:
    """ResNet-50 on 1024 P100 in 15 minutes, InfiniBand FDR, half precision, nothing overlapped (arXiv:1711.04325).

    One P100's rate is the one of `goyal`, of another framework; 8 GPUs a server are assumed.
    """
    work = Workload(
        sample_seconds=29 * HOUR / 90 / (IMAGENET / 256) / 32, gradient_bytes=50e6, global_batch=32768, overlapped=False
    )
    fdr = Link(bytes_per_second=56 * GIGABIT, latency_seconds=10e-6)
    cluster = Cluster(nodes=128, gpus_per_node=8, network=fdr, local=NVLINK, between=ring)
    predicted = [32768 / step(work, replace(cluster, jitter=jitter)).seconds for jitter in (0, JITTER)]
    published = IMAGENET * 90 / (15 * MINUTE)
    return Comparison("ResNet-50, Akiba et al. 2017", "images a second", 1024, published, *predicted, form="{:,.0f}")


@dataclass(frozen=True)
class Series:
    """Published sequences a second of BERT-large on DGX A100 of 8 GPUs: one global batch on more and more nodes."""

    name: str
    global_batch: int
    micro_batch: int
    gradient_bytes: float
    published: dict[int, float]
    """By nodes: one alone, some to fit the fixed seconds of a step to, and the most."""


PARAMETERS = 336e6
BERT = (
    Series("PyTorch, mixed, 128 tokens", 79872, 312, 2 * PARAMETERS, {1: 3803.82, 8: 29711.11, 32: 110280.73}),
    Series("PyTorch, mixed, 512 tokens", 30720, 40, 2 * PARAMETERS, {1: 749.73, 8: 5870.83, 32: 22506.23}),
    Series("PyTorch, TF32, 128 tokens", 90112, 176, 4 * PARAMETERS, {1: 2062.98, 8: 16134.02, 32: 59569.77}),
    Series("TensorFlow, mixed, 128 tokens", 65536, 64, 2 * PARAMETERS, {1: 2871.89, 16: 41144, 32: 77479.87}),
    Series("TensorFlow, TF32, 128 tokens", 65536, 64, 4 * PARAMETERS, {1: 1889.71, 16: 28605.62, 32: 53585.82}),
)


def bert(series: Series) -> tuple[float, float, float]:
    """Return the published efficiency of the most nodes from one, that predicted from one node alone, and with a fitted step.

    Gradients are taken to be summed once after the last micro-batch, beside nothing.
    """
    one, some, most = series.published
    hdr = Link(bytes_per_second=8 * 200 * GIGABIT, latency_seconds=10e-6)
    cluster = Cluster(nodes=1, gpus_per_node=8, network=hdr, local=Link(bytes_per_second=200e9, latency_seconds=5e-6))
    work = Workload(
        sample_seconds=0.0,
        gradient_bytes=series.gradient_bytes,
        global_batch=series.global_batch,
        micro_batch=series.micro_batch,
        overlapped=False,
    )

    def seconds(nodes: int) -> float:
        return series.global_batch / series.published[nodes]

    def samples(nodes: int) -> int:
        return math.ceil(series.global_batch / (8 * nodes))

    def summed(nodes: int) -> float:
        return step(work, replace(cluster, nodes=nodes)).exposed

    def predicted(each: float, fixed: float) -> float:
        found = step(replace(work, sample_seconds=each, step_seconds=fixed), replace(cluster, nodes=most)).seconds
        return seconds(one) / found / most

    whole, part = seconds(one) - summed(one), seconds(some) - summed(some)
    each = (whole - part) / (samples(one) - samples(some))
    fitted = predicted(each, whole - each * samples(one))
    return seconds(one) / seconds(most) / most, predicted(whole / samples(one), 0.0), fitted


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print(f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print()


def show_comparisons() -> None:
    rows, errors = [], []
    for row in comparisons():
        error = row.calm / row.published - 1
        errors.append(abs(error))
        texts = [row.form.format(value) for value in (row.published, row.calm, row.uneven)]
        rows.append([row.source, f"{row.gpus:,}", row.what, *texts, f"{error:+.0%}"])
    table(["what", "GPUs", "", "published", "predicted", f"with {JITTER:.0%} jitter", "error"], rows)
    print(f"mean absolute error {sum(errors) / len(errors):.1%}, most {max(errors):.1%}\n")
    rows = []
    for series in BERT:
        published, bare, fitted = bert(series)
        some = list(series.published)[1]
        texts = [f"{published:.1%}", f"{bare:.1%}", f"{fitted:.1%} ({some})", f"{fitted / published - 1:+.1%}"]
        rows.append([series.name, *texts])
    table(["BERT-large, 8 to 256 A100", "published", "from 1 node", "with a fixed part (from row)", "error"], rows)


def show_intervals() -> None:
    rows = []
    for failures, published in ((24 * HOUR, "117"), (6 * HOUR, "57"), (15 * MINUTE, "9.1")):
        stall = 5 * MINUTE
        values = (young(stall, failures), daly(stall, failures), best(stall, failures))
        rows.append([f"{failures / HOUR:g} h", published, *(f"{value / MINUTE:.1f}" for value in values)])
    table(["between failures", "Daly 2006, Figs. 3-5", "Young", "Daly", "exact"], rows)
    rows = []
    for name, costs in (
        ("waits 300 s", Saving(stall=300.0, restart=600.0)),
        ("waits 30 s, 270 s beside", Saving(stall=30.0, write=270.0, restart=600.0)),
    ):
        for failures in (24 * HOUR, 6 * HOUR, HOUR):
            interval = max(best(costs.stall, failures), costs.write)
            runs = [simulate(500 * HOUR, interval, costs, failures, Random(run)) for run in range(200)]
            found, expected = sum(runs) / len(runs), expected_seconds(500 * HOUR, interval, costs, failures)
            share = availability(interval, costs, failures)
            rows.append(
                [
                    name,
                    f"{failures / HOUR:g} h",
                    f"{interval / MINUTE:.1f} min",
                    f"{share:.1%}",
                    f"{500 * HOUR / found:.1%}",
                    f"{found / expected - 1:+.2%}",
                ]
            )
    table(["a checkpoint", "between failures", "best interval", "work, formula", "work, simulated", "difference in time"], rows)


def show_llama() -> None:
    failures = 54 * 24 * HOUR / 419
    rows = []
    for stall in (5.0, 30.0, 120.0):
        shares = []
        for restart in (2, 5, 10, 20):
            costs = Saving(stall=stall, restart=restart * MINUTE)
            shares.append(f"{availability(best(stall, failures), costs, failures):.1%}")
        rows.append([f"{stall:g} s", f"{best(stall, failures) / MINUTE:.1f} min", *shares])
    print(f"16,384 GPUs, a failure every {failures / HOUR:.2f} h:")
    table(["a checkpoint stalls", "best interval", *(f"restart {restart} min" for restart in (2, 5, 10, 20))], rows)


EXAMPLE = Workload(sample_seconds=1 / 138, gradient_bytes=102.2e6, global_batch=8192)
EXAMPLE_CLUSTER = Cluster(
    nodes=1, gpus_per_node=8, network=Link(bytes_per_second=50 * GIGABIT, latency_seconds=30e-6), local=NVLINK
)
EXAMPLE_COSTS = Saving(stall=1.0, write=10.0, restart=60.0)
NODE_DAYS = 100.0


def show_plans() -> None:
    rows = []
    for nodes in (1, 2, 4, 8, 16, 32, 64, 128):
        found = plan(EXAMPLE, replace(EXAMPLE_CLUSTER, nodes=nodes), EXAMPLE_COSTS, NODE_DAYS)
        rows.append(
            [
                f"{found.gpus:,}",
                f"{1000 * found.step.seconds:.0f}",
                f"{1000 * found.step.exposed:.0f}",
                f"{found.samples_per_second:,.0f}",
                f"{found.efficiency:.0%}",
                f"{found.checkpoint_seconds / MINUTE:.0f} min",
                f"{found.availability:.2%}",
                f"{found.goodput:,.0f}",
            ]
        )
    table(["GPUs", "step, ms", "of it exposed", "images/s", "efficiency", "interval", "work", "goodput"], rows)


def draw(folder: Path) -> None:
    """Write both figures as SVG."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot, rc_context

    with rc_context({"svg.hashsalt": "trainyard", "svg.fonttype": "none", "font.size": 9}):
        for name, plot in (("scaling", draw_scaling), ("intervals", draw_intervals)):
            figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
            plot(axes)
            for axis in axes:
                axis.spines[["top", "right"]].set_visible(False)
                axis.grid(alpha=0.25, linewidth=0.5)
                axis.legend(frameon=False, fontsize=8)
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
            pyplot.close(figure)


def draw_scaling(axes) -> None:  # type: ignore[no-untyped-def]
    nodes = [2**power for power in range(11)]
    for name, between in (("ring", ring), ("halving and doubling", halving_doubling), ("double tree", double_tree)):
        for size, style in ((25e6, "-"), (1e6, ":")):
            costs = [1000 * between(number, size, EXAMPLE_CLUSTER.network) for number in nodes[1:]]
            axes[0].plot(nodes[1:], costs, style, color=COLOURS[name], label=f"{name}, {size / 1e6:.0f} MB")
    axes[0].set(xscale="log", yscale="log", xlabel="nodes", ylabel="ms to sum, 50 Gbit/s, 30 µs")
    rows = [row for row in comparisons() if row.form == "{:.0%}"]
    for row in rows:
        label = row.source.split(",")[0]
        shown = label if label not in axes[1].get_legend_handles_labels()[1] else None
        axes[1].plot([row.published] * 2, [row.uneven, row.calm], "-", color="0.6", linewidth=1)
        axes[1].plot(row.published, row.calm, "o", color=MODELS[label], markersize=5, label=shown)
    axes[1].axline((0.7, 0.7), (1, 1), color="0.5", linewidth=0.8)
    axes[1].set(xlabel="published efficiency", ylabel="predicted; line: down to 2 % jitter")


COLOURS = {"ring": "#c44e52", "halving and doubling": "#4c72b0", "double tree": "#55a868"}
MODELS = {"ResNet-50": "#4c72b0", "Inception V3": "#55a868", "ResNet-101": "#dd8452", "VGG-16": "#c44e52"}


def draw_intervals(axes) -> None:  # type: ignore[no-untyped-def]
    waiting, beside = Saving(stall=300.0, restart=600.0), Saving(stall=30.0, write=270.0, restart=600.0)
    failures = 6 * HOUR
    for costs, label, colour in ((waiting, "waits 300 s", "#c44e52"), (beside, "waits 30 s, writes 270 s beside", "#4c72b0")):
        intervals = [MINUTE * 5 * 1.15**power for power in range(30)]
        axes[0].plot(
            [each / MINUTE for each in intervals],
            [availability(each, costs, failures) for each in intervals],
            color=colour,
            label=label,
        )
        for each in intervals[::3]:
            runs = [simulate(500 * HOUR, each, costs, failures, Random(run)) for run in range(40)]
            axes[0].plot(each / MINUTE, 500 * HOUR * len(runs) / sum(runs), ".", color=colour)
        chosen = max(best(costs.stall, failures), costs.write)
        axes[0].axvline(chosen / MINUTE, color=colour, linewidth=0.8, linestyle="--")
    axes[0].set(xscale="log", xlabel="minutes between checkpoints", ylabel="share of time that is work")
    axes[0].set_title("a failure every 6 h; dots: simulated, dashes: best", fontsize=9)
    nodes = [2**power for power in range(11)]
    for days in (30, 100, 365):
        plans = [plan(EXAMPLE, replace(EXAMPLE_CLUSTER, nodes=number), EXAMPLE_COSTS, days) for number in nodes]
        axes[1].plot(nodes, [found.availability for found in plans], label=f"a node fails every {days} days")
    axes[1].set(xscale="log", xlabel="nodes", ylabel="share of time that is work")
    axes[1].set_title("stall 1 s, write 10 s, restart 60 s", fontsize=9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figures", type=Path, help="a folder to draw scaling.svg and intervals.svg into")
    arguments = parser.parse_args()
    show_comparisons()
    show_intervals()
    show_llama()
    show_plans()
    if arguments.figures:
        draw(arguments.figures)


if __name__ == "__main__":
    main()
