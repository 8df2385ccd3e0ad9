"""Which arithmetic is chosen for which hardware, and that it is told with its reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trainyard.data.raw import Kind
from trainyard.errors import MachineError
from trainyard.tasks.train_config import TrainConfig
from trainyard.training.arithmetic import Machine, choose

TRAIN = TrainConfig(epochs=1, batch_size=8, optimizer="adam", learning_rate=1e-3)
OLD = Machine(device="cpu", bf16=False, tf32=False, threads=4)
NEW = Machine(device="cpu", bf16=True, tf32=False, threads=1)
TURING = Machine(device="cuda", bf16=False, tf32=False, threads=4)
AMPERE = Machine(device="cuda", bf16=True, tf32=True, threads=4)


@pytest.mark.parametrize(
    ("machine", "precision"), [(OLD, "32-true"), (NEW, "bf16-mixed"), (TURING, "32-true"), (AMPERE, "bf16-mixed")]
)
def test_bf16_is_taken_where_it_is_in_hardware(machine: Machine, precision: str) -> None:
    chosen = choose(TRAIN, "image_classification", machine)
    assert chosen.precision == precision
    assert ("natively" in str(chosen)) == machine.bf16


@pytest.mark.parametrize("machine", [OLD, NEW, TURING, AMPERE])
def test_fp32_and_deterministic_is_exact_everywhere(machine: Machine) -> None:
    chosen = choose(replace(TRAIN, precision="fp32", deterministic=True), "image_classification", machine)
    assert (chosen.precision, chosen.tf32, chosen.autotune) == ("32-true", False, False)
    assert str(chosen).startswith("fp32, as the recipe says")


@pytest.mark.parametrize("machine", [OLD, NEW, TURING])
def test_tf32_is_not_told_of_where_there_is_none(machine: Machine) -> None:
    chosen = choose(TRAIN, "segmentation", machine)
    assert not chosen.tf32
    assert "TF32" not in str(chosen)


def test_tf32_is_taken_beside_bf16_alone() -> None:
    assert "the rest in TF32" in str(choose(TRAIN, "segmentation", AMPERE))
    assert "no TF32" in str(choose(replace(TRAIN, precision="fp32"), "segmentation", AMPERE))


@pytest.mark.parametrize(
    ("kind", "deterministic", "autotune"),
    [
        ("image_classification", False, True),
        ("segmentation", False, True),
        ("forecasting", False, True),
        ("text_classification", False, False),
        ("image_classification", True, False),
    ],
)
def test_cudnn_tries_its_algorithms_where_shapes_repeat_and_bits_need_not(
    kind: Kind, deterministic: bool, autotune: bool
) -> None:
    assert choose(replace(TRAIN, deterministic=deterministic), kind, AMPERE).autotune == autotune
    assert not choose(replace(TRAIN, deterministic=deterministic), kind, NEW).autotune


def test_a_network_is_compiled_where_it_may_pay_and_bits_need_not_be_the_same() -> None:
    free = replace(TRAIN, deterministic=False)
    assert choose(free, "segmentation", AMPERE).compiled == "if it pays"
    assert choose(free, "segmentation", replace(AMPERE, compiler=False)).compiled == "no"
    assert choose(free, "text_classification", AMPERE).compiled == "no"
    assert choose(TRAIN, "segmentation", AMPERE).compiled == "no"
    assert choose(replace(free, compile="never"), "segmentation", AMPERE).compiled == "no"
    assert choose(replace(TRAIN, compile="always"), "segmentation", AMPERE).compiled == "yes"


def test_a_network_that_must_be_compiled_needs_a_compiler() -> None:
    with pytest.raises(MachineError, match=r"train.compile: always needs a C\+\+ compiler, found none of c\+\+.*; use auto"):
        choose(replace(TRAIN, compile="always"), "segmentation", replace(AMPERE, compiler=False))


@pytest.mark.parametrize("kind", ["text_classification", "forecasting"])
def test_channels_last_is_for_images(kind: Kind) -> None:
    assert not choose(TRAIN, kind, NEW).channels_last
    assert choose(TRAIN, "segmentation", NEW).channels_last


def test_what_was_chosen_is_one_line_with_the_threads() -> None:
    line = str(choose(TRAIN, "image_classification", OLD))
    assert "\n" not in line
    assert line.endswith("4 threads")
    assert str(choose(TRAIN, "image_classification", NEW)).endswith("1 thread")
