from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path

import pytest

from tests.jobs.conftest import git
from trainyard.errors import InputError
from trainyard.jobs import pack as packing
from trainyard.jobs.pack import LINKS, check_size, identity, pack, project_files, project_id
from trainyard.jobs.plan import check_remote, missing_deps, read_plan


def contents(root: Path, within: str = "") -> dict[str, bytes]:
    package = pack(root, project_files(root)[0], within)
    with zipfile.ZipFile(io.BytesIO(package.content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def work(root: Path, *targets: str) -> str:
    return identity(root, project_files(root)[0], read_plan(root, targets or ("make",)))


def test_what_lies_on_the_disk_is_brought_committed_or_not(small: Path) -> None:
    (small / "code" / "make.py").write_text("changed")
    (small / "code" / "new.py").write_text("new")
    (small / "notes.log").write_text("ignored")
    (small / ".gitignore").write_text("/raw\n/made.txt\n*.log\n")
    (small / "params.yaml").unlink()
    brought = contents(small)
    assert brought["code/make.py"] == b"changed"
    assert brought["code/new.py"] == b"new"
    assert {"dvc.yaml", ".dvc/config", "raw.dvc"} <= set(brought)
    assert not {"notes.log", "raw", "params.yaml"} & set(brought)


def test_files_that_may_hold_secrets_stay_here_and_are_named(small: Path) -> None:
    (small / ".dvc" / ".gitignore").write_text("/tmp\n")
    for name in (".dvc/config.local", ".env", "deploy.pem", "keys/id_rsa", "credentials"):
        (small / name).parent.mkdir(exist_ok=True)
        (small / name).write_text("CANARY")
    git(small, "add", "-f", ".env")
    _, left_out = project_files(small)
    assert sorted(line.split(":")[0] for line in left_out) == [
        ".dvc/config.local", ".env", "credentials", "deploy.pem", "keys/id_rsa",
    ]  # fmt: skip
    assert b"CANARY" not in b"".join(contents(small).values())


def test_the_same_files_make_the_same_package_whenever_they_were_written(small: Path) -> None:
    first = pack(small, project_files(small)[0])
    os.utime(small / "code" / "make.py", (1, 1))
    assert pack(small, project_files(small)[0]).name == first.name
    assert first.uri == f"gcs://{first.name}"


def test_code_can_be_packed_as_the_workers_import_it(small: Path) -> None:
    (small / "src" / "mine").mkdir(parents=True)
    (small / "src" / "mine" / "__init__.py").write_text("")
    assert list(contents(small, "src")) == ["mine/__init__.py"]


def test_programs_stay_programs_and_links_within_the_project_stay_links(small: Path, tmp_path: Path) -> None:
    (small / "run.sh").write_text("#!/bin/sh\n")
    (small / "run.sh").chmod(0o755)
    (small / "again.sh").symlink_to("run.sh")
    (small / "out").symlink_to(tmp_path)
    files, left_out = project_files(small)
    assert left_out == ["out: a link out of the project, which stays here"]
    with zipfile.ZipFile(io.BytesIO(pack(small, files).content)) as archive:
        assert archive.getinfo("run.sh").external_attr >> 16 & 0o100
        assert json.loads(archive.read(LINKS)) == {"again.sh": "run.sh"}


def test_too_large_a_project_is_refused_with_its_largest_files(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (small / "weights.bin").write_bytes(os.urandom(2**20))
    monkeypatch.setattr(packing, "MAX_PACKED_BYTES", 2**20)
    with pytest.raises(InputError, match=r"(?s)a job takes at most 1 MiB along; track large ones.*weights\.bin: 1\.0 MiB"):
        pack(small, project_files(small)[0])
    monkeypatch.setattr(packing, "MAX_BYTES", 2**20)
    with pytest.raises(InputError, match=r"(?s)1 MiB of files.*\n  weights\.bin"):
        check_size(small, project_files(small)[0])


def test_a_folder_outside_git_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is in no git repository"):
        project_files(tmp_path)


def test_the_same_work_has_the_same_name_and_other_work_another(small: Path) -> None:
    name = work(small)
    assert work(small) == name
    assert work(small, "tell") != name
    for path, text in (("params.yaml", "size: 4\n"), ("code/make.py", "pass\n"), ("raw.dvc", None)):
        before = (small / path).read_text()
        (small / path).write_text(before.replace("28", "29") if text is None else text)
        assert work(small) != name, path
        (small / path).write_text(before)
    assert work(small) == name


def test_what_changes_no_result_does_not_change_the_name(small: Path) -> None:
    name = work(small)
    (small / "README.md").write_text("read me")
    (small / "report.json").write_text("{}")  # an output that git keeps
    (small / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    (small / "tests").mkdir()
    (small / "tests" / "test_make.py").write_text("pass")
    git(small, "add", ".")
    git(small, "commit", "-q", "-m", "more")
    assert work(small) == name


def test_clones_share_the_cluster_s_folder(small: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", str(small), "elsewhere/small")
    assert project_id(tmp_path / "elsewhere" / "small") == project_id(small)
    assert project_id(small).startswith("small-")


def test_a_plan_holds_all_that_the_targets_build_on(small: Path) -> None:
    plan = read_plan(small, ("tell",))
    assert plan.stages == {"make", "tell"}
    assert plan.deps == {"code/make.py", "raw", "params.yaml"}
    assert plan.kept == ("report.json",)
    assert plan.data == {"raw": "raw.dvc"}
    assert plan.remote == {"name": "store", "url": str(small.parent / "store")}
    assert not missing_deps(plan, small, project_files(small)[0])


def with_recipe(root: Path) -> None:
    """Give a project a recipe whose word vectors and first weights dvc.yaml does not list, as it lists no recipe's."""
    recipe = {
        "data": {"path": "raw", "vectors": {"path": "./words.vec"}},
        "train": {"start_from": {"weights": "first.safetensors"}},
    }
    (root / "params.yaml").write_text(
        json.dumps({"size": 3, "recipes": {"texts": recipe, "others": {"data": {"path": "raw"}}}})
    )
    stages = "  {0}:\n    foreach: ${{recipes}}\n    do: {{cmd: ls, deps: ['{1}'], outs: ['{0}-${{key}}']}}\n"
    with (root / "dvc.yaml").open("a") as file:
        file.write(stages.format("prepare", "raw") + stages.format("train", "prepare-${key}"))
    for name in ("words.vec", "first.safetensors"):
        (root / name).write_text("large")
    (root / ".gitignore").write_text("/raw\n/made.txt\n/told.txt\n/words.vec\n/first.safetensors\n")


def test_files_that_a_recipe_names_are_brought_with_its_data(small: Path) -> None:
    with_recipe(small)
    plan = read_plan(small, ("train@texts",))
    assert missing_deps(plan, small, project_files(small)[0]) == [
        f"  {name}: is neither in git nor tracked by DVC, so a job would not have it; dvc add {name}"
        for name in ("first.safetensors", "words.vec")
    ]
    (small / "words.vec.dvc").write_text(
        "outs:\n- md5: 2c4ebf0a2b0d7f3a7a31e4b1b7ad9d5c\n  size: 5\n  hash: md5\n  path: words.vec\n"
    )
    plan = read_plan(small, ("train@texts",))
    assert plan.data == {"raw": "raw.dvc", "words.vec": "words.vec.dvc"}
    assert "words.vec" not in read_plan(small, ("train@others",)).data


def test_files_outside_of_the_project_are_left_to_the_cluster(small: Path) -> None:
    with_recipe(small)
    text = (small / "params.yaml").read_text()
    (small / "params.yaml").write_text(text.replace("./words.vec", "/shared/words.vec").replace("first.s", "../first.s"))
    assert not missing_deps(read_plan(small, ("train@texts",)), small, project_files(small)[0])


def test_a_stage_that_is_not_there_is_named_with_the_nearest(small: Path) -> None:
    with pytest.raises(InputError, match=r"dvc\.yaml: has no stage 'mak'; it has make, tell; did you mean 'make'"):
        read_plan(small, ("mak",))


def test_a_broken_dvc_yaml_is_the_user_s(small: Path) -> None:
    (small / "dvc.yaml").write_text("stages: [\n")
    with pytest.raises(InputError, match="dvc: "):
        read_plan(small, ("make",))


def test_data_that_a_job_would_not_have_are_all_named(small: Path) -> None:
    (small / "raw.dvc").unlink()
    (small / "code" / "make.py").unlink()
    assert missing_deps(read_plan(small, ("make",)), small, project_files(small)[0]) == [
        "  code/make.py: no such file or folder; `dvc pull` or bring it",
        "  raw: is neither in git nor tracked by DVC, so a job would not have it; dvc add raw",
    ]


def test_a_project_without_a_remote_is_told_how_to_have_one(small: Path) -> None:
    (small / ".dvc" / "config").write_text("")
    with pytest.raises(InputError, match=r"names no default remote.*dvc remote add -d NAME URL, or submit with --shared"):
        check_remote(read_plan(small, ("make",)))


def test_a_committed_password_is_refused_and_a_private_one_stays(small: Path) -> None:
    (small / ".dvc" / "config").write_text("[core]\n    remote = store\n['remote \"store\"']\n    url = s3://bucket\n")
    (small / ".dvc" / "config.local").write_text(
        "['remote \"store\"']\n    secret_access_key = CANARY\n    endpointurl = http://s3\n"
    )
    plan = read_plan(small, ("make",))
    assert plan.remote is not None
    assert plan.remote["endpointurl"] == "http://s3"
    assert "CANARY" not in str(plan)
    with (small / ".dvc" / "config").open("a") as file:
        file.write("    secret_access_key = CANARY\n")
    with pytest.raises(InputError, match="remote 'store' has secret_access_key, which would go to the cluster") as error:
        read_plan(small, ("make",))
    assert "CANARY" not in str(error.value)
