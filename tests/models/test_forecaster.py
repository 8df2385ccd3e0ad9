from __future__ import annotations

import pytest
import torch

from trainyard.errors import InputError
from trainyard.models.build import build_network, in_raw_units
from trainyard.models.forecaster import Forecaster
from trainyard.models.lstm_config import LSTMConfig
from trainyard.models.spec import InputSpec

SPEC = InputSpec(
    kind="forecasting",
    classes=("a", "b"),
    mean=(10.0, -5.0, 100.0),
    std=(2.0, 0.5, 30.0),
    num_features=3,
    columns=("a", "b", "c"),
    context_length=8,
    horizon=4,
)


def config(residual: str = "last", targets: str = "together", autoregression: bool = True) -> LSTMConfig:
    return LSTMConfig(hidden_size=6, residual=residual, targets=targets, autoregression=autoregression)  # type: ignore[arg-type]


@pytest.mark.parametrize("residual", ["none", "last"])
@pytest.mark.parametrize("targets", ["together", "apart"])
@pytest.mark.parametrize("length", [1, 8, 13])
def test_a_forecast_has_all_steps_of_all_targets(residual: str, targets: str, length: int) -> None:
    network = build_network(config(residual, targets), SPEC)
    assert network(torch.randn(5, length, 3), torch.full((5,), length)).shape == (5, 4, 2)


def test_with_the_residual_training_starts_at_the_last_value() -> None:
    values = torch.randn(5, 8, 3)
    forecast = Forecaster(config(), SPEC)(values, torch.full((5,), 8))
    assert torch.equal(forecast, values[:, -1:, :2].expand(-1, 4, -1))


def learned(residual: str = "last", targets: str = "together") -> Forecaster:
    torch.manual_seed(0)
    network = Forecaster(config(residual, targets), SPEC).eval()
    for parameter in (network.network.head.weight, network.autoregression.weight):  # type: ignore[union-attr]
        torch.nn.init.normal_(parameter)
    return network


def test_with_the_residual_a_shift_of_the_level_shifts_the_forecast() -> None:
    values, lengths = torch.randn(5, 8, 3), torch.full((5,), 8)
    shift = torch.tensor([3.0, -2.0, 7.0])
    for residual, equal in (("last", True), ("none", False)):
        network = learned(residual)
        moved = network(values + shift, lengths) - network(values, lengths)
        assert torch.allclose(moved, shift[:2].expand(5, 4, 2), atol=1e-5) is equal


@pytest.mark.parametrize("targets", ["together", "apart"])
def test_padding_behind_a_context_changes_nothing(targets: str) -> None:
    values, lengths = torch.randn(3, 8, 3), torch.tensor([8, 5, 1])
    padded = torch.cat([values, torch.full((3, 4, 3), 99.0)], dim=1)
    network = learned(targets=targets)
    assert torch.allclose(network(values, lengths), network(padded, lengths), atol=1e-6)
    assert torch.allclose(network(values, lengths)[1:2], network(values[1:2, :5], lengths[1:2]), atol=1e-6)


def test_targets_apart_see_themselves_and_the_features() -> None:
    network, lengths = learned(targets="apart"), torch.full((1,), 8)
    values = torch.randn(1, 8, 3)
    before = network(values, lengths)
    for column, changed in ((0, [True, False]), (1, [False, True]), (2, [True, True])):
        other = values.clone()
        other[0, 3, column] += 1
        differs = (network(other, lengths) - before).abs().amax(dim=(0, 1)) > 1e-4
        assert differs.tolist() == changed
    swapped = network(values[:, :, [1, 0, 2]], lengths)
    assert torch.allclose(swapped, before[:, :, [1, 0]], atol=1e-6)


def test_the_autoregression_is_a_linear_map_from_the_end_of_the_context() -> None:
    network = learned("none")
    torch.nn.init.zeros_(network.network.head.weight)
    weights = network.autoregression.weight.detach()  # type: ignore[union-attr]
    values = torch.randn(2, 8, 3)
    forecast = network(values, torch.tensor([8, 5]))
    assert torch.allclose(forecast[0, :, 1], weights @ values[0, :, 1], atol=1e-5)
    assert torch.allclose(forecast[1, :, 0], weights[:, 3:] @ values[1, :5, 0], atol=1e-5)


def test_in_raw_units_means_the_scaler_on_both_sides() -> None:
    network, values, lengths = learned(), torch.randn(3, 8, 3), torch.full((3,), 8)
    mean, std = torch.tensor(SPEC.mean), torch.tensor(SPEC.std)
    raw = in_raw_units(network, SPEC)(values * std + mean, lengths)
    assert torch.allclose(raw, network(values, lengths) * std[:2] + mean[:2], atol=1e-3)


def test_texts_have_no_last_value() -> None:
    spec = InputSpec(kind="text_classification", classes=("a", "b"), vocabulary_size=9, max_length=4)
    with pytest.raises(InputError, match=r"residual: last adds the last step of a series.*text_classification"):
        build_network(config(), spec)


@pytest.mark.parametrize("change", [{"targets": "apart"}, {"autoregression": True}])
def test_what_is_for_series_is_refused_for_texts(change: dict[str, object]) -> None:
    spec = InputSpec(kind="text_classification", classes=("a", "b"), vocabulary_size=9, max_length=4)
    with pytest.raises(InputError, match="is for forecasting, the data are for text_classification; remove it"):
        build_network(LSTMConfig(hidden_size=6, **change), spec)  # type: ignore[arg-type]
