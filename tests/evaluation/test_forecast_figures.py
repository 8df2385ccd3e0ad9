from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from trainyard.data.packed import Split
from trainyard.evaluation.figures import BLUE, ORANGE
from trainyard.evaluation.forecast_baselines import naive
from trainyard.evaluation.forecast_figures import error_by_step, forecast_samples
from trainyard.evaluation.forecasts import Errors, Forecast, errors_of
from trainyard.evaluation.intervals import Intervals


def hourly(horizon: int) -> Split:
    arrays = {
        "values": np.sin(np.arange(80) / 4).astype(np.float32)[:, None],
        "starts": np.arange(30),
        "window": np.array([24, horizon, 1]),
        "mean": np.zeros(1),
        "std": np.ones(1),
    }
    return Split("forecasting", "test", arrays)


def forecasts(horizon: int) -> tuple[Forecast, Forecast]:
    last = naive(horizon, 1)
    return lambda context: last(context) + np.float32(0.3), last


def pixels_of(path: Path, colour: str, tolerance: int = 40) -> int:
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    return int((np.abs(pixels - np.array(to_rgb(colour)) * 255).max(axis=2) < tolerance).sum())


@pytest.mark.parametrize("horizon", [1, 2, 12])
def test_forecasts_of_any_horizon_are_seen_beside_the_baseline_and_their_interval(tmp_path: Path, horizon: int) -> None:
    model, baseline = forecasts(horizon)
    half = Intervals(half=np.full((horizon, 1), 0.4), share=0.9, windows=30)
    counted = []
    for intervals in (None, half):
        path = forecast_samples(hourly(horizon), model, baseline, intervals, ["load"], 3, tmp_path / "a.png")
        # More than what the legend shows of them.
        assert min(pixels_of(path, BLUE), pixels_of(path, ORANGE)) > 120 + 100
        counted.append(pixels_of(path, "#d8e3f5", 8))
    assert counted[1] > counted[0] + 1000


def test_no_line_of_the_errors_by_step_runs_through_the_legend(tmp_path: Path) -> None:
    model, baseline = forecasts(12)
    drawn = error_by_step(
        errors_of(model, hourly(12), 8), {"naive": errors_of(baseline, hourly(12), 8)}, "", tmp_path / "a.png"
    )
    with Image.open(drawn) as image:
        above = np.asarray(image.convert("RGB"))[:45]
    assert (np.abs(above.astype(int) - np.array(to_rgb(BLUE)) * 255).max(axis=2) < 40).sum() > 20


def test_baselines_of_a_single_step_differ_in_their_points(tmp_path: Path) -> None:
    found: list[Errors] = [errors_of(forecast, hourly(1), 8) for forecast in forecasts(1)]
    charts = []
    for order in (("naive", "linear"), ("linear", "naive")):
        baselines = {name: found[name == "naive"] for name in order}
        with Image.open(error_by_step(found[0], baselines, "", tmp_path / "a.png")) as image:
            charts.append(np.asarray(image.convert("L"))[60:, : image.width // 2])
    assert not np.array_equal(*charts)
