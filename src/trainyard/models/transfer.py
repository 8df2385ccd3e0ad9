"""Beginning with weights that were trained before, on other data: transfer learning.

A file of ours fits a network of ours by name. A ResNet's weights under torchvision's names (which timm's ResNets share)
are renamed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from trainyard.data.packed import check_stated
from trainyard.errors import InputError, IntegrityError
from trainyard.models.build import ModelConfig, build_network
from trainyard.models.spec import InputSpec

LEAST_SHARE = 0.5
"""Of the network's numbers that the file must bring; below it, the file is most likely another network's."""
SHOWN = 5
COUNTER = "num_batches_tracked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """What a file of weights has for a network."""

    names: Mapping[str, str]
    """By name of a tensor of the network, its name in the file."""
    new: tuple[str, ...]
    """Tensors of the network that the file has not, or has in another shape: they begin as if there were no file."""
    misfits: tuple[str, ...]
    """Why they are new, a line each."""

    def __str__(self) -> str:
        new = [name for name in self.new if not name.endswith(COUNTER)]
        shown = ", ".join(new[:SHOWN]) + (f" and {len(new) - SHOWN} more" if len(new) > SHOWN else "")
        return f"{len(self.names)} tensors taken over, {f'new: {shown}' if new else 'none is new'}"


def plan_transfer(path: Path, sha256: str | None, config: ModelConfig, spec: InputSpec, *, freeze: bool = False) -> Transfer:
    """Compare a file with the network that is to begin with it, without reading its weights into memory.

    Args:
        path: the safetensors file.
        sha256: of it, as the recipe states it.
        config: of the network.
        spec: of its data.
        freeze: what the file has is not to be trained.

    Raises:
        InputError: no such file, no hash stated, too little of it fits, or nothing would be left to train.
        IntegrityError: it is another file than the recipe states, or no safetensors.
    """
    if not path.is_file():
        raise InputError(f"train.start_from.weights: {path}: no such file; put it there, or correct the path")
    check_stated(path, path, sha256, "train.start_from")
    with torch.device("meta"):
        network = build_network(config, spec)
    transfer = _match(network, path)
    wanted = {name: tensor.numel() for name, tensor in network.state_dict().items()}
    share = sum(wanted[name] for name in transfer.names) / sum(wanted.values())
    if share < LEAST_SHARE:
        lines = "".join(f"\n  {line}" for line in transfer.misfits[:SHOWN])
        raise InputError(
            f"train.start_from.weights: {path} has {share:.0%} of the network's weights, expected at least {LEAST_SHARE:.0%}; "
            f"make `model:` the network that the file was trained as{lines}"
        )
    if freeze and not transfer.new:
        raise InputError(f"train.start_from.freeze: {path} has every layer of the network, so none is left to train; remove it")
    return transfer


def take_over(network: nn.Module, path: Path, *, freeze: bool) -> None:
    """Copy into a network what a file has for it.

    Args:
        network: of `build_network`.
        path: a safetensors file that `plan_transfer` found to fit.
        freeze: train only what the file had not. Normalisation layers then keep the statistics of the file.
    """
    transfer = _match(network, path)
    with safe_open(path, framework="pt") as file:
        weights = {name: file.get_tensor(found) for name, found in transfer.names.items()}
    network.load_state_dict(weights, strict=False)
    if not freeze:
        return
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and name not in weights)
    for module in network.modules():
        own = list(module.parameters(recurse=False))
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def _match(network: nn.Module, path: Path) -> Transfer:
    try:
        with safe_open(path, framework="pt") as file:
            offered = {name: tuple(file.get_slice(name).get_shape()) for name in list(file.keys())}
    except (SafetensorError, OSError) as error:
        raise IntegrityError(
            f"{path}: is not a safetensors file ({error}); other formats of weights can run code and are not read: "
            "convert them with safetensors.torch.save_file"
        ) from None
    renamed = {_own_name(name): name for name in offered}
    names: dict[str, str] = {}
    misfits: dict[str, str] = {}
    wanted: Mapping[str, Tensor] = network.state_dict()
    for name, tensor in wanted.items():
        source = renamed.get(name)
        if source is None:
            misfits[name] = f"{name} {tuple(tensor.shape)}: is not in the file"
        elif offered[source] != tuple(tensor.shape):
            misfits[name] = f"{name} {tuple(tensor.shape)}: is {offered[source]} in the file"
        else:
            names[name] = source
    return Transfer(names=names, new=tuple(misfits), misfits=tuple(misfits.values()))


def _own_name(name: str) -> str:
    """Return what a tensor under torchvision's names for a ResNet is called here; other names stay."""
    outer = re.sub(r"^conv1\.", "stem.0.", name)
    outer = re.sub(r"^bn1\.", "stem.1.", outer)
    outer = re.sub(r"^fc\.", "head.", outer)
    if inner := re.match(r"layer(\d)\.(\d+)\.(conv|bn|downsample\.)(\d)\.(.+)$", name):
        stage, block, part, number, rest = inner.groups()
        # An activation stands between a convolution with its normalisation and the next.
        layer = {
            "conv": f"residual.{3 * (int(number) - 1)}",
            "bn": f"residual.{3 * (int(number) - 1) + 1}",
            "downsample.": f"shortcut.{number}",
        }[part]
        outer = f"blocks.{int(stage) - 1}.{block}.{layer}.{rest}"
    return outer if outer == name else f"network.{outer}"
