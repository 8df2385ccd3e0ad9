"""What an LSTM computes: the equations, what packing gives, nothing from padding, and the same in ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from trainyard.models.dropout import SequenceDropout, WeightDroppedLSTM
from trainyard.models.lstm import LSTM, NGrams
from trainyard.models.lstm_config import LSTMConfig

POOLINGS = ("last", "mean", "max", "mean_max", "attention")


KINDS: tuple[dict[str, Any], ...] = (
    *({"pooling": pooling} for pooling in POOLINGS),
    {"ngrams": (1, 2, 3, 4), "embedding_size": 8},
    {"recurrent_dropout": 0.5},
)
"""Of networks, for what must hold for all."""


def small(**keys: Any) -> LSTMConfig:
    shape: dict[str, Any] = {"embedding_size": 5, "hidden_size": 6, "num_layers": 2, **keys}
    return LSTMConfig(**shape)


def batch(*lengths: int, time: int) -> tuple[Tensor, Tensor]:
    """Return zero-padded tokens (N, time) and lengths (N,)."""
    tokens = torch.randint(1, 11, (len(lengths), time))
    for row, length in enumerate(lengths):
        tokens[row, length:] = 0
    return tokens, torch.tensor(lengths)


@pytest.mark.parametrize("time", [1, 4, 17])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_lstm_gives_logits_for_texts_of_any_length(pooling: Any, bidirectional: bool, time: int) -> None:
    network = LSTM(small(pooling=pooling, bidirectional=bidirectional), num_outputs=3, vocabulary_size=11)
    assert network(*batch(time, 1, time, time=time)).shape == (3, 3)


def test_lstm_takes_features_and_gives_states() -> None:
    network = LSTM(small(bidirectional=False), num_outputs=2, num_features=7)
    states = network.states(torch.randn(3, 9, 7), torch.tensor([9, 2, 5]))
    assert states.shape == (3, 9, 6)
    assert not states[1, 2:].any()


@pytest.mark.parametrize("sizes", [{}, {"vocabulary_size": 3, "num_features": 3}])
def test_lstm_refuses_neither_or_both_kinds_of_input(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"LSTM: found vocabulary_size=.* give one of them"):
        LSTM(small(), num_outputs=2, **sizes)


def test_lstm_has_the_parameters_its_shape_implies() -> None:
    network = LSTM(small(pooling="mean_max"), num_outputs=3, vocabulary_size=11)
    first, second = 4 * 6 * (5 + 6 + 2), 4 * 6 * (12 + 6 + 2)
    assert sum(p.numel() for p in network.parameters()) == 11 * 5 + 2 * first + 2 * second + 24 * 3 + 3 == 1_714


def test_lstm_follows_the_equations() -> None:
    """Of Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000, step by step."""
    torch.manual_seed(0)
    network = LSTM(small(num_layers=1, bidirectional=False), num_outputs=2, num_features=4).double()
    layer = network.forward_layers[0]
    w_i, w_f, w_g, w_o = layer.get_parameter("weight_ih_l0").detach().chunk(4)
    u_i, u_f, u_g, u_o = layer.get_parameter("weight_hh_l0").detach().chunk(4)
    b_i, b_f, b_g, b_o = (layer.get_parameter("bias_ih_l0") + layer.get_parameter("bias_hh_l0")).detach().chunk(4)
    series = torch.randn(1, 8, 4, dtype=torch.double)
    hidden, cell = torch.zeros(6, dtype=torch.double), torch.zeros(6, dtype=torch.double)
    for step, found in zip(series[0], network.states(series, torch.tensor([8]))[0], strict=True):
        input_gate = torch.sigmoid(w_i @ step + u_i @ hidden + b_i)
        forget_gate = torch.sigmoid(w_f @ step + u_f @ hidden + b_f)
        candidate = torch.tanh(w_g @ step + u_g @ hidden + b_g)
        output_gate = torch.sigmoid(w_o @ step + u_o @ hidden + b_o)
        cell = forget_gate * cell + input_gate * candidate
        hidden = output_gate * torch.tanh(cell)
        torch.testing.assert_close(found, hidden, atol=1e-12, rtol=0)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_lstm_equals_packing(bidirectional: bool) -> None:
    torch.manual_seed(0)
    network = LSTM(small(bidirectional=bidirectional), num_outputs=3, vocabulary_size=11)
    packed = nn.LSTM(5, 6, num_layers=2, batch_first=True, bidirectional=bidirectional)
    for index in range(2):
        directions = {"": network.forward_layers[index]}
        if bidirectional:
            directions["_reverse"] = network.backward_layers[index]
        for suffix, layer in directions.items():
            for name, weight in layer.named_parameters():
                packed.get_parameter(f"{name.removesuffix('0')}{index}{suffix}").data.copy_(weight)
    tokens, lengths = batch(4, 9, 1, 12, time=12)
    sequence = pack_padded_sequence(network.embedding(tokens), lengths, batch_first=True, enforce_sorted=False)
    outputs, (hidden, _) = packed(sequence)
    expected, _ = pad_packed_sequence(outputs, batch_first=True)
    states = network.states(tokens, lengths)
    torch.testing.assert_close(states, expected, atol=1e-6, rtol=0)
    last = torch.cat((hidden[-2], hidden[-1]), dim=1) if bidirectional else hidden[-1]
    torch.testing.assert_close(network(tokens, lengths), network.head(last), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_padding_changes_no_logit(kind: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = LSTM(small(**kind), num_outputs=3, vocabulary_size=11).eval()
    tokens, lengths = batch(4, 7, 1, time=7)
    logits = network(tokens, lengths)
    junk = torch.cat((tokens, torch.randint(11, (3, 5))), dim=1)  # what stands after a length must not matter
    junk[0, 4:] = 9
    torch.testing.assert_close(network(junk, lengths), logits, atol=1e-6, rtol=0)
    alone = network(tokens[:1, :4], lengths[:1])
    torch.testing.assert_close(alone, logits[:1], atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_padding_gets_no_gradient(kind: dict[str, Any]) -> None:
    network = LSTM(small(**kind), num_outputs=3, num_features=4)
    series = torch.randn(2, 8, 4, requires_grad=True)
    network(series, torch.tensor([8, 3])).sum().backward()
    assert series.grad is not None
    assert series.grad[1, :3].any()
    assert not series.grad[1, 3:].any()


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_an_empty_text_gives_finite_logits_and_gradients(kind: dict[str, Any]) -> None:
    network = LSTM(small(**kind), num_outputs=3, vocabulary_size=11)
    logits = network(*batch(0, 3, time=3))
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


def test_ngrams_are_convolutions_around_each_step() -> None:
    torch.manual_seed(0)
    ngrams = NGrams(3, 4, (2, 3))
    series = torch.randn(1, 6, 3)
    found = ngrams(series)[0]
    padded = torch.cat((torch.zeros(1, 3), series[0], torch.zeros(1, 3)))
    for step in range(6):
        around = padded[step : step + 3]  # the steps before, at, and after this one
        pair, triple = (layer.get_parameter("weight") for layer in ngrams.layers)
        expected = torch.cat(((pair * around[1:].T).sum(dim=(1, 2)), (triple * around.T).sum(dim=(1, 2)))).relu()
        torch.testing.assert_close(found[step], expected)


def test_ngrams_that_do_not_share_the_channels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"ngrams: \[2, 3\] .* embedding_size: 5 evenly"):
        small(ngrams=(2, 3))


def test_lstm_learns_one_batch_by_heart() -> None:
    torch.manual_seed(0)
    tokens, lengths = batch(*(range(3, 19)), time=18)
    labels = torch.arange(16) % 3
    network = LSTM(LSTMConfig(embedding_size=16, hidden_size=16), num_outputs=3, vocabulary_size=11)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-2)
    for _ in range(80):
        optimizer.zero_grad()
        loss = cross_entropy(network(tokens, lengths), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss.item() < 0.05


def test_lstm_of_the_same_seed_is_the_same() -> None:
    tokens, lengths = batch(4, 6, time=6)
    logits = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        logits.append(LSTM(small(dropout=0.5), num_outputs=4, vocabulary_size=11)(tokens, lengths))
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[0], logits[2])


def test_recurrent_weights_are_left_out_while_training_alone() -> None:
    torch.manual_seed(0)
    plain, dropped = (LSTM(small(recurrent_dropout=share), num_outputs=3, num_features=4) for share in (0.0, 0.5))
    dropped.load_state_dict(plain.state_dict())
    series, lengths = torch.randn(2, 6, 4), torch.tensor([6, 4])
    torch.testing.assert_close(dropped.eval()(series, lengths), plain.eval()(series, lengths))
    first, second = (dropped.train()(series, lengths) for _ in range(2))
    assert not torch.allclose(first, second)
    # Of one step nothing is passed on, so there is nothing to leave out.
    torch.testing.assert_close(dropped(series[:, :1], torch.ones_like(lengths)), plain(series[:, :1], torch.ones_like(lengths)))


def test_left_out_recurrent_weights_are_those_that_get_no_gradient() -> None:
    torch.manual_seed(0)
    layer = WeightDroppedLSTM(3, 8, 0.5)
    kept = torch.rand(32, 8) < 0.5
    layer.weight_dropout = Masked(kept)
    outputs, _ = layer(torch.randn(4, 7, 3))
    outputs.square().sum().backward()
    gradient = layer.get_parameter("weight_hh_l0").grad
    assert gradient is not None
    assert torch.equal(gradient != 0, kept)
    # The others work as in a layer that has no more than them.
    thinned = nn.LSTM(3, 8, batch_first=True)
    thinned.load_state_dict({**layer.state_dict(), "weight_hh_l0": layer.get_parameter("weight_hh_l0").detach() * kept})
    series = torch.randn(4, 7, 3)
    torch.testing.assert_close(layer(series)[0], thinned(series)[0])


class Masked(nn.Module):
    """Leaves out given weights, without scaling the others."""

    def __init__(self, kept: Tensor) -> None:
        super().__init__()
        self.kept = kept

    def forward(self, weights: Tensor) -> Tensor:
        return weights * self.kept


def test_variational_dropout_leaves_out_the_same_at_all_steps() -> None:
    torch.manual_seed(0)
    features = SequenceDropout(0.5)(torch.ones(3, 7, 20))
    assert torch.equal(features, features[:, :1].expand(-1, 7, -1))
    assert sorted(features.unique().tolist()) == [0, 2]
    assert not torch.equal(features[0], features[1])
    network = LSTM(small(variational_dropout=True, embedding_dropout=0.5, dropout=0.5), num_outputs=3, vocabulary_size=11)
    assert isinstance(network.embedding_dropout, SequenceDropout) and isinstance(network.dropout, SequenceDropout)


def test_variational_dropout_without_anything_to_drop_is_refused() -> None:
    with pytest.raises(ValueError, match=r"variational_dropout: true has nothing to drop .* set embedding_dropout"):
        LSTMConfig(variational_dropout=True, dropout=0.5)
    assert small(variational_dropout=True, dropout=0.5).num_layers == 2


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")  # torch's own
@pytest.mark.parametrize(
    "kind",
    [
        {"pooling": "last", "bidirectional": False},
        {"pooling": "attention", "recurrent_dropout": 0.5},
        {"pooling": "mean_max", "ngrams": (2, 3), "embedding_size": 6},
    ],
    ids=str,
)
def test_lstm_exports_to_onnx_with_free_batch_and_time(kind: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = small(**kind)
    network = LSTM(config, num_outputs=3, vocabulary_size=11).eval()
    # torch 2.13 caches the unrolled kernel of a process's first export, which freezes the time of the next.
    torch.ops.aten.lstm.input._dispatch_cache.clear()
    program = torch.onnx.export(
        network,
        batch(9, 4, 2, time=9),
        dynamo=True,
        verbose=False,
        dynamic_shapes=({0: "batch", 1: "time"}, {0: "batch"}),
    )
    assert program is not None
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    for tokens, lengths in (batch(1, 13, 4, 12, 0, time=13), batch(3, time=4)):
        found = session.run(None, dict(zip(names, (tokens.numpy(), lengths.numpy()), strict=True)))[0]
        expected = network(tokens, lengths).detach()
        torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-5, rtol=0)
