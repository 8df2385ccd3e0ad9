import pytest

from trainyard.progress import TrainProgress
from trainyard.tasks.primary import PRIMARY, merit
from trainyard.training.spool import Record


def test_a_lower_error_and_a_higher_score_are_better() -> None:
    assert merit("mse", 0.1) > merit("mse", 0.2)
    assert all(merit(name, 0.2) > merit(name, 0.1) for name in PRIMARY.values() if name != "mse")


@pytest.mark.parametrize(("primary", "best"), [("mse", 0.2), ("accuracy", 0.9)])
def test_progress_shows_the_best_so_far(primary: str, best: float, capsys: pytest.CaptureFixture[str]) -> None:
    progress = TrainProgress("r", 4, primary)
    for epoch, score in enumerate([0.9, float("nan"), 0.2, 0.4]):
        values = {f"val/{primary}": score, "train/loss": 1.0, "val/loss": 1.0, "throughput/samples_per_s": 1.0}
        progress.show(Record(kind="epoch", epoch=epoch, step=1, seconds=1.0, left_seconds=0.0, values=values, resumed=False))
    assert f"val {primary} 0.4000 (best {best:.4f})" in capsys.readouterr().out
