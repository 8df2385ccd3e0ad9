from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainyard.data.batches import ScoringBatches, TrainBatches, gather
from trainyard.data.packed import SPLITS, Split, open_split, write_arrays
from trainyard.data.raw import RawDataset
from trainyard.data.series_csv import SeriesCSVConfig, load
from trainyard.data.series_windows import PackedSeries, borders, pack
from trainyard.errors import InputError


def config(**changes: Any) -> SeriesCSVConfig:
    values = {"path": "s.csv", "time": "t", "targets": ("a",), "features": ("b",), "context_length": 5, "horizon": 3}
    return SeriesCSVConfig(source="series_csv", **{**values, **changes})


def raw_of(*series: np.ndarray[Any, Any]) -> RawDataset:
    arrays = {"values": np.concatenate(series), "offsets": np.cumsum([0, *map(len, series)])}
    return RawDataset(kind="forecasting", classes=("a",), arrays=arrays, about="")


def series(length: int, start: float = 0.0) -> np.ndarray[Any, Any]:
    """Return columns that say where they are: the step, and ten times it."""
    steps = start + np.arange(length, dtype=np.float64)
    return np.stack([steps, 10 * steps], axis=1)


def split_of(packed: PackedSeries, name: Any) -> Split:
    return Split("forecasting", name, packed.arrays[name])


def raw_windows(packed: PackedSeries, name: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the steps seen (N, context) and forecast (N, horizon) in the split's windows."""
    split = split_of(packed, name)
    batch = gather(split, np.arange(len(split)))
    mean, std = split.arrays["mean"][0], split.arrays["std"][0]
    steps = [np.rint(values[:, :, 0].numpy() * std + mean).astype(int) for values in (batch.inputs[0], batch.targets)]
    return steps[0], steps[1]


def test_targets_of_a_split_are_its_own_and_only_contexts_reach_back() -> None:
    packed = pack(raw_of(series(100)), config(val_fraction=0.1, test_fraction=0.2))
    for name, first, end in (("train", 0, 70), ("val", 70, 80), ("test", 80, 100)):
        seen, forecast = raw_windows(packed, name)
        assert forecast.min() == (first or 5) and forecast.max() == end - 1
        assert seen.min() == max(0, first - 5)
        assert (np.diff(np.concatenate([seen, forecast], axis=1), axis=1) == 1).all()
    assert packed.samples == {"train": 63, "val": 8, "test": 18}


def test_windows_do_not_cross_series() -> None:
    packed = pack(raw_of(series(60), series(80, start=1000)), config(val_fraction=0.1, test_fraction=0.2))
    for name in SPLITS:
        seen, forecast = raw_windows(packed, name)
        steps = np.concatenate([seen, forecast], axis=1)
        assert (np.diff(steps, axis=1) == 1).all()
        assert (steps[:, 0] < 100).any() and (steps[:, 0] >= 1000).any()


def test_the_stride_is_the_way_between_windows() -> None:
    seen, _ = raw_windows(pack(raw_of(series(100)), config(stride=4)), "train")
    assert seen[:3, 0].tolist() == [0, 4, 8]


def test_counts_of_steps_cut_a_series_where_they_say() -> None:
    chosen = config(train_steps=50, val_steps=20, test_steps=10)
    assert borders(100, chosen) == (0, 50, 70, 80)
    assert raw_windows(pack(raw_of(series(100)), chosen), "test")[1].max() == 79


def test_the_scaler_is_that_of_the_training_steps() -> None:
    packed = pack(raw_of(series(100)), config(val_fraction=0.1, test_fraction=0.2))
    assert packed.normalisation["mean"] == pytest.approx([34.5, 345.0])
    training = packed.arrays["train"]["values"]
    assert training.mean(axis=0) == pytest.approx([0, 0], abs=1e-6) and training.std(axis=0) == pytest.approx([1, 1])


def test_a_constant_column_is_not_divided_by_nothing() -> None:
    values = series(100)
    values[:, 1] = 0.1
    assert np.abs(pack(raw_of(values), config()).arrays["test"]["values"][:, 1]).max() < 1e-6


def test_a_column_of_small_numbers_is_scaled_like_others() -> None:
    plain, small = (pack(raw_of(series(100) * unit), config()).arrays["train"]["values"] for unit in (1, 2.0**-40))
    assert np.array_equal(plain, small)


def test_changing_the_future_changes_no_bit_of_what_comes_before(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(100, 2)).round(3)
    values[rng.random((100, 2)) < 0.1] = np.nan
    # Where a straight line would be drawn from the next split.
    values[[68, 69, 78, 79]] = np.nan
    chosen = config(missing="interpolate", val_fraction=0.1, test_fraction=0.2)

    def packed_files(changed_from: int, folder: Path) -> dict[str, bytes]:
        changed = values.copy()
        changed[changed_from:] = 1000 + rng.normal(size=(100 - changed_from, 2))
        lines = [f"{2000 + step},{a},{b}".replace("nan", "") for step, (a, b) in enumerate(changed)]
        folder.mkdir()
        (folder / "s.csv").write_text("\n".join(["t,a,b", *lines]) + "\n")
        packed = pack(load(chosen, folder, folder), chosen)
        for name in SPLITS:
            write_arrays(folder, name, packed.arrays[name])
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.npy")}

    whole = packed_files(100, tmp_path / "whole")
    for number, (start, kept) in enumerate(((80, ("train", "val")), (70, ("train",)))):
        other = packed_files(start, tmp_path / str(number))
        for name in kept:
            files = [file for file in whole if file.startswith(name)]
            assert len(files) == 5
            assert all(whole[file] == other[file] for file in files)
        assert whole["test/values.npy"] != other["test/values.npy"]


def test_no_context_holds_a_line_drawn_from_its_targets() -> None:
    values = series(100)
    values[20:22] = np.nan
    seen, forecast = raw_windows(pack(raw_of(values), config(missing="interpolate")), "train")
    assert not np.isin(seen[:, -1], [20, 21]).any()
    assert (forecast == 20).any() and (seen[:, 0] == 20).any()
    assert np.array_equal(np.unique(seen), np.arange(seen.max() + 1))


def test_numbers_missing_at_every_end_of_a_context_leave_no_window() -> None:
    values = series(100)
    values[79:, 1] = np.nan
    with pytest.raises(InputError, match="split test: has no window whose context ends with a number"):
        pack(raw_of(values), config(missing="interpolate", val_fraction=0.1, test_fraction=0.2))


def test_a_batch_is_what_a_loop_over_windows_gives(tmp_path: Path) -> None:
    packed = pack(raw_of(series(100)), config())
    described = {"train": write_arrays(tmp_path, "train", packed.arrays["train"])}
    card: Any = type("Card", (), {"kind": "forecasting", "arrays": described})
    split = open_split(tmp_path, "train", card)
    indices = np.array([7, 0, 3])
    batch = gather(split, indices, 0.5)
    values = packed.arrays["train"]["values"]
    for position, start in enumerate(packed.arrays["train"]["starts"][indices]):
        assert np.array_equal(batch.inputs[0][position], values[start : start + 5])
        assert np.array_equal(batch.targets[position], values[start + 5 : start + 8, :1])
    assert batch.inputs[1].tolist() == [5, 5, 5] and batch.inputs[1].dtype == torch.int64
    assert batch.inputs[0].dtype == batch.targets.dtype == torch.float32
    assert batch.weight == 0.5


def test_every_window_is_seen_once_an_epoch_by_all_workers_together() -> None:
    split = split_of(pack(raw_of(series(100)), config()), "train")
    firsts = [
        float(value)
        for rank in range(2)
        for batch in TrainBatches(split, batch_size=8, seed=0, rank=rank, world_size=2)
        for value in batch.inputs[0][: len(batch.targets) if batch.weight else 0, 0, 0]
    ]
    assert len(firsts) == len(set(firsts)) == len(split)
    assert sum(len(batch.targets) for batch in ScoringBatches(split, batch_size=7)) == len(split)
