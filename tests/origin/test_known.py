from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

from trainyard.origin.known import folder_md5


def test_a_folder_has_the_hash_that_dvc_gives_it(tmp_path: Path) -> None:
    folder = tmp_path / "src" / "tasks"
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "deep").mkdir()
    (folder / "build.py").write_text("one")
    (folder / "deep" / "draws.py").write_text("two")
    (folder / "__pycache__" / "build.cpython-311.pyc").write_bytes(b"three")
    (tmp_path / ".dvcignore").write_text("# not looked into\n__pycache__\n*.tmp\n")
    for command in (["init", "-q", "--no-scm"], ["add", "-q", "src/tasks"]):
        # `init` writes a .dvcignore of its own where there is none.
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=tmp_path, check=True, capture_output=True)
    (known,) = YAML(typ="safe").load(tmp_path / "src" / "tasks.dvc")["outs"]
    assert known["nfiles"] == 2
    assert folder_md5(folder, tmp_path) == known["md5"]
    (folder / "later.tmp").write_text("four")
    assert folder_md5(folder, tmp_path) == known["md5"]
    (folder / "later.py").write_text("four")
    assert folder_md5(folder, tmp_path) != known["md5"]
