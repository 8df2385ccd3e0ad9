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


def config(residual: str = "last") -> LSTMConfig:
    return LSTMConfig(hidden_size=6, residual=residual)  # type: ignore[arg-type]


@pytest.mark.parametrize("residual", ["none", "last"])
@pytest.mark.parametrize("length", [1, 8, 13])
def test_a_forecast_has_all_steps_of_all_targets(residual: str, length: int) -> None:
    network = build_network(config(residual), SPEC)
    assert network(torch.randn(5, length, 3), torch.full((5,), length)).shape == (5, 4, 2)


def test_with_the_residual_training_starts_at_the_last_value() -> None:
    values = torch.randn(5, 8, 3)
    forecast = Forecaster(config(), 3, 2, 4)(values, torch.full((5,), 8))
    assert torch.equal(forecast, values[:, -1:, :2].expand(-1, 4, -1))


def learned(residual: str = "last") -> Forecaster:
    torch.manual_seed(0)
    network = Forecaster(config(residual), 3, 2, 4).eval()
    torch.nn.init.normal_(network.network.head.weight)
    return network


def test_with_the_residual_a_shift_of_the_level_shifts_the_forecast() -> None:
    values, lengths = torch.randn(5, 8, 3), torch.full((5,), 8)
    shift = torch.tensor([3.0, -2.0, 7.0])
    for residual, equal in (("last", True), ("none", False)):
        network = learned(residual)
        moved = network(values + shift, lengths) - network(values, lengths)
        assert torch.allclose(moved, shift[:2].expand(5, 4, 2), atol=1e-5) is equal


def test_padding_behind_a_context_changes_nothing() -> None:
    values, lengths = torch.randn(3, 8, 3), torch.tensor([8, 5, 1])
    padded = torch.cat([values, torch.full((3, 4, 3), 99.0)], dim=1)
    network = learned()
    assert torch.allclose(network(values, lengths), network(padded, lengths), atol=1e-6)
    assert torch.allclose(network(values, lengths)[1:2], network(values[1:2, :5], lengths[1:2]), atol=1e-6)


def test_in_raw_units_means_the_scaler_on_both_sides() -> None:
    network, values, lengths = learned(), torch.randn(3, 8, 3), torch.full((3,), 8)
    mean, std = torch.tensor(SPEC.mean), torch.tensor(SPEC.std)
    raw = in_raw_units(network, SPEC)(values * std + mean, lengths)
    assert torch.allclose(raw, network(values, lengths) * std[:2] + mean[:2], atol=1e-3)


def test_texts_have_no_last_value() -> None:
    spec = InputSpec(kind="text_classification", classes=("a", "b"), vocabulary_size=9, max_length=4)
    with pytest.raises(InputError, match=r"residual: last adds the last step of a series.*text_classification"):
        build_network(config(), spec)
