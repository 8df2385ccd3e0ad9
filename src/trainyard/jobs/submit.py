"""`trainyard submit`: one job for one piece of work, sent once, watched from anywhere, and its results brought home."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

from trainyard.errors import BY_EXIT_CODE, InputError, Interrupted, MachineError, ServiceError, TrainyardError
from trainyard.jobs.follow import Line, Say, follow, headline
from trainyard.jobs.pack import Package, check_size, identity, pack, project_files, project_id
from trainyard.jobs.plan import Plan, check_remote, missing_deps, read_plan
from trainyard.jobs.results import from_log, merge
from trainyard.jobs.seal import PAD, SEALED, seal
from trainyard.jobs.server import Job, Server
from trainyard.jobs.spec import STOP_SECONDS, VARIABLE, JobSpec, job_id
from trainyard.terminal import Column, Rows

ENTRYPOINT = "exec python -m trainyard.jobs.driver"
STOP_LIMIT_SECONDS = STOP_SECONDS + 60.0
"""How long `stop` waits for a job to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to submit."""

    secrets: tuple[str, ...] = ()
    """Environment variables that the job gets, and nobody is shown."""
    shared: str | None = None
    """Folder on the cluster where this project, or its DVC cache, is visible."""
    again: bool = False
    """Run once more what has succeeded."""
    insecure: bool = False
    """Send code also to a cluster on a network that asks for no token."""


def submit(root: Path, targets: tuple[str, ...], line: Line, options: Options, show: Say) -> None:
    """Run stages on a cluster, or go on watching the job that does, and put what it made into dvc.lock.

    Raises:
        InputError: what can be known before, or what the stage found wrong.
        Interrupted: detached, stopped or lost; the same command continues.
        TrainyardError: as the stage ended, by its exit code.
    """
    secrets = _secrets(options.secrets)
    plan = read_plan(root, targets)
    files, left_out = project_files(root)
    if options.shared is None:
        check_remote(plan)
    if problems := missing_deps(plan, root, files):
        raise InputError("\n".join([f"{len(problems)} path(s) that the stages read would be missing in a job:", *problems]))
    check_size(root, files)
    work = identity(root, files, plan)
    line.server.check()
    if not options.insecure:
        line.server.refuse_open()
    job, attempt = find(line, work, again=options.again)
    if job is None:
        for text in left_out:
            line.say(text)
        job_spec = _spec(root, plan, work, attempt, options)
        _push(root, plan, options, line.say)
        send(line, job_spec, _packages(root, files), secrets)
    watch(root, job_id(work, attempt), line, show, from_start=job is None)


def find(line: Line, work: str, *, again: bool) -> tuple[Job | None, int]:
    """Return the job that does this work and its attempt, or None and the attempt that is to be made."""
    attempt, job = 1, None
    while (found := line.ask(partial(line.server.job, job_id(work, attempt)))) is not None:
        job, attempt = found, attempt + 1
    if job is None:
        return None, attempt
    if not job.over:
        line.say(f"{job.id}: is at work on this already; joining it")
        return job, attempt - 1
    if job.state == "SUCCEEDED" and not again:
        line.say(f"{job.id}: did this already; taking its results")
        return job, attempt - 1
    ended = {"SUCCEEDED": "succeeded", "STOPPED": "was stopped"}.get(job.state, f"failed: {headline(job, job.message)}")
    line.say(f"{job.id}: {ended}; starting attempt {attempt}, which continues from what is kept")
    return None, attempt


def send(line: Line, job_spec: JobSpec, packages: list[Package], secrets: Mapping[str, str]) -> None:
    """Upload the packages and start the job, unless somebody else just did."""
    for package in packages:
        line.ask(partial(line.server.bring, package.name, package.content))
    request = to_request(job_spec, packages, secrets)
    if line.ask(lambda: line.server.submit(request)):
        line.say(f"{job_spec.id}: sent to {line.server.url}")
    else:
        line.say(f"{job_spec.id}: was sent at the same moment by another command; joining it")


def to_request(job_spec: JobSpec, packages: list[Package], secrets: Mapping[str, str]) -> dict[str, Any]:
    """Return what Ray's job server is asked for. Secrets are in it, but not readable in Ray's logs."""
    sealed, pad = seal(secrets)
    runtime_env: dict[str, Any] = {
        "working_dir": packages[0].uri,
        "env_vars": {
            "DVC_NO_ANALYTICS": "1",
            # Of the process that stops the job; Ray's own is 3 s, too short to write a checkpoint.
            "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS),
            VARIABLE: job_spec.to_json(),
            SEALED: sealed,
        },
    }
    if len(packages) > 1:
        # The code, for the workers on every node.
        runtime_env["py_modules"] = [packages[1].uri]
    return {
        "entrypoint": ENTRYPOINT,
        "submission_id": job_spec.id,
        "runtime_env": runtime_env,
        "metadata": {
            "trainyard.targets": " ".join(job_spec.targets),
            "trainyard.project": job_spec.project,
            "trainyard.user": _user(),
            "trainyard.fetch": f"dvc {'checkout' if job_spec.shared else 'pull'} -d {' '.join(job_spec.targets)}",
            PAD: pad,
            "trainyard.commit": f"{job_spec.commit or 'none'}{'-dirty' if job_spec.dirty else ''}",
        },
    }


def watch(root: Path | None, name: str, line: Line, show: Say, *, from_start: bool) -> None:
    """Show a job to its end and, with `root`, put its results there.

    Raises:
        TrainyardError: as `submit` says.
    """
    attach = f"trainyard attach {name} --address {line.server.url}"
    try:
        job, log = follow(line, name, show, from_start=from_start)
    except KeyboardInterrupt:
        raise Interrupted(f"detached from {name}, which goes on; the same command again, or {attach}") from None
    except Interrupted as error:
        raise Interrupted(f"{error}; the same command again, or {attach}") from None
    if job.state == "STOPPED":
        raise Interrupted(f"{name}: was stopped; submit the same again to continue")
    if job.state == "FAILED":
        raise failure(job, log)
    if root is None:
        return
    new = merge(root, from_log(log))
    changed = f"dvc.lock has its results ({', '.join(new)})" if new else "dvc.lock has its results already"
    fetch = job.metadata.get("trainyard.fetch", f"dvc pull -d {job.targets}")
    line.say(f"{name}: done; {changed}; `{fetch}` brings the files")


def attach(root: Path, name: str, line: Line, show: Say) -> None:
    """Go on watching a job by its name, and put its results into this project.

    Raises:
        InputError: the job is of another project, or unknown.
        TrainyardError: as `submit` says.
    """
    line.server.check()
    job = known(line, name)
    if job.metadata.get("trainyard.project") != project_id(root):
        raise InputError(
            f"{name}: is a job of {job.metadata.get('trainyard.project') or 'another project'}; run this in its folder"
        )
    watch(root, name, line, show, from_start=False)


def known(line: Line, name: str) -> Job:
    """Return a job by its name.

    Raises:
        InputError: the server knows none of that name.
    """
    job = line.ask(lambda: line.server.job(name))
    if job is None:
        raise InputError(f"{name}: is no job at {line.server.url}; `trainyard jobs` lists them")
    return job


def stop(name: str, line: Line) -> None:
    """End a job with a notice that leaves it time for a checkpoint, and wait until it has.

    Raises:
        ServiceError: it does not end.
    """
    line.server.check()
    job = known(line, name)
    if job.over:
        line.say(f"{name}: has ended already ({job.state})")
        return
    line.ask(lambda: line.server.stop(name))
    line.say(f"{name}: told to end; it has {STOP_SECONDS} s to write a checkpoint, and is waited for")
    asked = line.clock()
    while not (job := known(line, name)).over:
        if line.clock() - asked > STOP_LIMIT_SECONDS:
            raise ServiceError(
                f"{name}: has not ended after {STOP_LIMIT_SECONDS:.0f} s; see the head's dashboard {line.server.url}"
            )
        line.sleep(0.5)
    line.say(f"{name}: {job.state.lower()}; submit the same again to continue")


def table(jobs: list[Job]) -> Rows:
    """Return the list of jobs for people."""
    rows = []
    for job in jobs:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job.started))
        rows.append((job.id, job.targets, job.state, since, job.metadata.get("trainyard.user", "")))
    columns = [Column(name=name, below=name not in ("ID", "STATE")) for name in ("ID", "TARGETS", "STATE", "SINCE", "WHO")]
    return Rows(columns, rows)


def failure(job: Job, log: str) -> TrainyardError:
    """Return what a failed job's end means to whoever sent it, with the exit code of the stage inside."""
    said = headline(job, log)
    if job.exit_code is None or job.exit_code < 0 or job.exit_code in (128 + SIGKILL, 128 + SIGTERM):
        return Interrupted(f"{job.id}: was killed, or lost with its node ({said}); the same command continues it")
    if job.exit_code == 127:
        return MachineError(
            f"{job.id}: the cluster's head cannot run it ({said}); put `python` into the PATH of `ray start` there"
        )
    if said.startswith("ModuleNotFoundError"):
        return MachineError(f"{job.id}: the cluster lacks a library ({said}); install requirements.lock there")
    return BY_EXIT_CODE.get(job.exit_code, TrainyardError)(f"{job.id}: {said}")


def connect(address: str, token: str | None, say: Callable[[str], None], patience_seconds: float) -> Line:
    """Return the line to a cluster."""
    return Line(Server(address, token), say, patience_seconds)


def _secrets(names: tuple[str, ...]) -> dict[str, str]:
    wrong = [name for name in names if "=" in name]
    if wrong:
        raise InputError(
            f"--env {wrong[0].split('=')[0]}=...: a value would be seen in `ps`; export it, and give its name only"
        )
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise InputError(f"--env {', '.join(missing)}: not set here; export it first")
    return {name: os.environ[name] for name in names}


def _spec(root: Path, plan: Plan, work: str, attempt: int, options: Options) -> JobSpec:
    from trainyard.provenance import git_tags

    tags = git_tags(root)
    return JobSpec(
        identity=work,
        attempt=attempt,
        project=project_id(root),
        targets=plan.targets,
        stages=tuple(sorted(plan.stages)),
        kept=plan.kept,
        data=tuple(sorted(plan.data)),
        remote=None if options.shared else plan.remote,
        shared=options.shared,
        commit=tags.get("mlflow.source.git.commit"),
        dirty=tags.get("git.dirty") == "true",
        masked=options.secrets,
    )


def _packages(root: Path, files: list[str]) -> list[Package]:
    packages = [pack(root, files)]
    if any(name.startswith("src/") and name.endswith(".py") for name in files):
        packages.append(pack(root, files, "src"))
    return packages


def _push(root: Path, plan: Plan, options: Options, say: Say) -> None:
    """Bring the data that the stages read to the remote, which does nothing where it has them."""
    if not plan.data or options.shared:
        return
    say(f"bringing {', '.join(sorted(plan.data))} to DVC's remote, where it has them not")
    command = [sys.executable, "-m", "dvc", "push", *sorted(set(plan.data.values()))]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        said = [text.strip() for text in done.stdout.splitlines() if "ERROR: " in text]
        raise ServiceError(f"dvc push: {said[-1] if said else 'failed'}; mend that, then the same command again")


def _user() -> str:
    try:
        return f"{getpass.getuser()}@{os.uname().nodename}"
    except (KeyError, OSError):
        return f"{os.getuid()}@{os.uname().nodename}"
