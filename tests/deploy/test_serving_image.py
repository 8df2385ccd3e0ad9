"""The image for serving holds what a server imports, in the versions and with the hashes of the lock, and little else."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ALONE = """
import importlib.abc, re, sys
from importlib.metadata import packages_distributions
packages = set(sys.argv[1].split())
known = {module: {re.sub("[-_.]+", "-", name).lower() for name in names} for module, names in packages_distributions().items()}

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path, target=None):
        names = known.get(fullname.partition(".")[0])
        if names and not names & packages and "trainyard" not in names:
            raise ModuleNotFoundError(f"{fullname} is not in the image", name=fullname)

sys.meta_path.insert(0, Missing())
import trainyard.cli, trainyard.training.access
from trainyard.serving.options import Options
from trainyard.serving.predictions_file import PredictionsFile
from trainyard.serving.predictor import Predictor
from trainyard.serving.predict import predict
from trainyard.serving.server import Service
import pyarrow.parquet, tokenizers, rich.progress
Service({}, Options())
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"fastapi", "onnxruntime", "pyarrow", "torch", "mlflow"}))
"""
"""As where nothing else is installed than what is named."""


def packages(root: Path) -> set[str]:
    return set((root / "deploy" / "serving" / "packages.txt").read_text().split())


def test_a_server_and_a_prediction_need_nothing_else(root: Path) -> None:
    done = subprocess.run([sys.executable, "-c", ALONE, " ".join(packages(root))], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("fastapi onnxruntime pyarrow\n", "")
    fewer = subprocess.run([sys.executable, "-c", ALONE, " ".join(packages(root) - {"h11"})], capture_output=True, text=True)
    assert "h11 is not in the image" in fewer.stderr
    assert not packages(root) & {"torch", "ray", "mlflow", "onnx", "pytorch-lightning", "scikit-learn", "dvc", "matplotlib"}


def test_what_its_packages_need_is_in_the_image(root: Path) -> None:
    for name in packages(root):
        for line in requires(name) or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                assert canonicalize_name(needed.name) in packages(root), f"{name} needs {needed.name}"


def test_each_package_is_installed_as_it_is_locked(root: Path, tmp_path: Path) -> None:
    def part(names: Path) -> subprocess.CompletedProcess[str]:
        script = [sys.executable, root / "scripts" / "part_of_lock.py", root / "requirements.lock", names]
        return subprocess.run(script, capture_output=True, text=True)

    printed = part(root / "deploy" / "serving" / "packages.txt").stdout
    lock = (root / "requirements.lock").read_text()
    blocks = re.split(r"\n(?=\S)", printed.strip())
    assert {canonicalize_name(block.partition("==")[0]) for block in blocks} == packages(root)
    assert all(block in lock and "--hash=sha256:" in block for block in blocks)
    (tmp_path / "names").write_text("numpy\nnowhere\n")
    refused = part(tmp_path / "names")
    assert refused.returncode == 2 and "does not lock nowhere" in refused.stderr


def test_the_image_copies_what_is_there_and_runs_as_nobody_special(root: Path) -> None:
    text = (root / "deploy" / "serving" / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (.+)$", text, flags=re.MULTILINE):
        assert all((root / source).exists() for source in line.split()[:-1]), line
    assert re.findall(r"^USER (.+)$", text, flags=re.MULTILINE) == ["1000"]
    assert "--token-file" in text and "--require-hashes" in text
