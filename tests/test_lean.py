"""What an import is told to do without is not imported, and is there for everyone else."""

from __future__ import annotations

import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path

import pytest

from trainyard.lean import without


def imported(code: str, names: tuple[str, ...]) -> list[str]:
    """Run code in a process of its own; return which of the packages it imported."""
    look = f"{code}\nimport sys\nprint(*(name for name in {names!r} if name in sys.modules))"
    return subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True).stdout.split()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a package that nothing has imported."""
    name = f"heavy_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_a_package_is_not_there_within_the_block_and_is_again_after_it(package: str) -> None:
    with without(package), pytest.raises(ModuleNotFoundError, match=f"{package} is left out of this import"):
        import_module(package)
    assert import_module(package).__name__ == package


def test_another_thread_imports_it_meanwhile(package: str) -> None:
    found: list[object] = []
    with without(package):
        thread = threading.Thread(target=lambda: found.append(import_module(package)))
        thread.start()
        thread.join()
    assert found == [sys.modules[package]]


def test_a_package_that_is_loaded_stays() -> None:
    with without("json"):
        import json.decoder

        assert json.decoder is sys.modules["json.decoder"]


def test_training_does_without_what_lightning_would_bring_along() -> None:
    heavy = ("scipy", "matplotlib", "omegaconf", "pandas", "sklearn")
    code = "from trainyard.lean import load_lightning; load_lightning(); import trainyard.training.fit"
    assert imported(code, (*heavy, "pytorch_lightning", "torchmetrics")) == ["pytorch_lightning", "torchmetrics"]
    # Whoever wants them in the same process has them.
    assert imported(f"{code}; import scipy.signal, matplotlib.pyplot", heavy) == ["scipy", "matplotlib"]


def test_a_worker_imports_nothing_for_tables_and_plots() -> None:
    code = "from trainyard.training import spare; spare.load()"
    needed = ("trainyard.training.fit", "ray.train.lightning", "trainyard.training.pulse")
    assert imported(code, (*needed, "scipy", "matplotlib", "omegaconf", "sklearn", "mlflow", "onnx")) == list(needed)


def test_a_baseline_does_without_pandas() -> None:
    code = (
        "from trainyard.lean import without\n"
        "with without('pandas'):\n    import sklearn.exceptions\n"
        "import sklearn.linear_model, sklearn.ensemble, sklearn.feature_extraction.text"
    )
    assert imported(code, ("sklearn", "pandas", "pyarrow")) == ["sklearn"]
