"""Beginning with weights that were trained before."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from trainyard.errors import InputError, IntegrityError
from trainyard.models.build import build_network
from trainyard.models.cnn_config import RESNET_BLOCKS, CNNConfig
from trainyard.models.spec import InputSpec
from trainyard.models.transfer import plan_transfer, take_over

CONFIG = CNNConfig(widths=(8, 16))


def spec(classes: int = 3) -> InputSpec:
    names = tuple(f"class {number}" for number in range(classes))
    return InputSpec(
        kind="image_classification", classes=names, channels=3, height=32, width=32, mean=(0.5,) * 3, std=(0.2,) * 3
    )


def network_of(seed: int, config: CNNConfig = CONFIG, classes: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return build_network(config, spec(classes))


def saved(path: Path, network: nn.Module) -> str:
    save_file(network.state_dict(), path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def torchvision_names(architecture: str) -> Iterator[str]:
    """The names in a ResNet's state_dict, in torchvision's order, which is that of the layers."""

    def batch_norm(name: str) -> list[str]:
        return [f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]

    bottleneck = architecture == "resnet50"
    yield from ("conv1.weight", *batch_norm("bn1"))
    for stage, count in enumerate(RESNET_BLOCKS[architecture], start=1):
        for block in range(count):
            at = f"layer{stage}.{block}"
            for number in range(1, 4 if bottleneck else 3):
                yield from (f"{at}.conv{number}.weight", *batch_norm(f"{at}.bn{number}"))
            if block == 0 and (stage > 1 or bottleneck):
                yield from (f"{at}.downsample.0.weight", *batch_norm(f"{at}.downsample.1"))
    yield from ("fc.weight", "fc.bias")


def test_a_network_begins_as_the_file_left_it_but_for_a_head_of_other_classes(tmp_path: Path) -> None:
    source = network_of(0, classes=10)
    sha256 = saved(tmp_path / "w.safetensors", source)
    transfer = plan_transfer(tmp_path / "w.safetensors", sha256, CONFIG, spec(3))
    assert transfer.new == ("network.head.weight", "network.head.bias")
    assert transfer.misfits[0] == "network.head.weight (3, 16): is (10, 16) in the file"

    network = network_of(1, classes=3)
    head = network.get_parameter("network.head.weight").clone()
    take_over(network, tmp_path / "w.safetensors", freeze=False)
    assert torch.equal(network.get_parameter("network.head.weight"), head)
    for name in transfer.names:
        assert torch.equal(network.state_dict()[name], source.state_dict()[name]), name
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_a_resnet_is_read_under_the_names_torchvision_gives_its_layers(architecture: Any, tmp_path: Path) -> None:
    config = CNNConfig(architecture=architecture)
    source = network_of(0, config)
    names = list(torchvision_names(architecture))
    assert len(names) == len(source.state_dict())
    path = tmp_path / "resnet.safetensors"
    save_file(dict(zip(names, source.state_dict().values(), strict=True)), path)
    transfer = plan_transfer(path, hashlib.sha256(path.read_bytes()).hexdigest(), config, spec())
    assert transfer.new == ()
    assert list(transfer.names.values()) == names
    network = network_of(1, config)
    take_over(network, path, freeze=False)
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(network.eval()(images), source.eval()(images))


def test_frozen_layers_are_all_but_the_new_ones_and_keep_their_statistics(tmp_path: Path) -> None:
    saved(tmp_path / "w.safetensors", network_of(0, classes=10))
    network = network_of(1, classes=3)
    take_over(network, tmp_path / "w.safetensors", freeze=True)
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    assert trained == ["network.head.weight", "network.head.bias"]
    before = {name: buffer.clone() for name, buffer in network.named_buffers() if "running" in name}
    network(torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8))
    assert before and all(torch.equal(network.get_buffer(name), buffer) for name, buffer in before.items())


def test_a_hash_that_is_not_stated_is_told(tmp_path: Path) -> None:
    sha256 = saved(tmp_path / "w.safetensors", network_of(0))
    with pytest.raises(InputError, match=rf"train\.start_from\.sha256: is missing.*write sha256: {sha256}"):
        plan_transfer(tmp_path / "w.safetensors", None, CONFIG, spec())


def test_another_file_than_the_recipe_states_is_refused(tmp_path: Path) -> None:
    sha256 = saved(tmp_path / "w.safetensors", network_of(0))
    changed = saved(tmp_path / "w.safetensors", network_of(1))
    with pytest.raises(IntegrityError, match=f"has sha256 {changed}, train.start_from.sha256 says {sha256}") as caught:
        plan_transfer(tmp_path / "w.safetensors", sha256, CONFIG, spec())
    assert caught.value.exit_code == 5


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.safetensors: no such file"):
        plan_transfer(tmp_path / "no.safetensors", None, CONFIG, spec())


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (Path.touch, (self.marker,))


def test_a_pickled_file_is_refused_and_nothing_in_it_runs(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(pickle.dumps({"network.head.weight": Payload(tmp_path / "marker")}))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(IntegrityError, match=r"is not a safetensors file .*can run code"):
        plan_transfer(path, sha256, CONFIG, spec())
    assert not (tmp_path / "marker").exists()
    pickle.loads(path.read_bytes())
    assert (tmp_path / "marker").exists(), "the file would have done nothing anyway"


def test_the_weights_of_another_network_are_refused_with_what_does_not_fit(tmp_path: Path) -> None:
    sha256 = saved(tmp_path / "w.safetensors", network_of(0, CNNConfig(widths=(8, 24))))
    with pytest.raises(InputError, match=r"has \d+% of the network's weights, expected at least 50%") as caught:
        plan_transfer(tmp_path / "w.safetensors", sha256, CONFIG, spec())
    assert "\n  network.blocks.1.0.weight (16, 8, 3, 3): is (24, 8, 3, 3) in the file" in str(caught.value)
