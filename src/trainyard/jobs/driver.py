"""What a job does on the cluster: a project of the code it brought, data by DVC, `dvc repro`, results to the remote."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from trainyard.errors import BY_EXIT_CODE, IntegrityError, Interrupted, ServiceError, TrainyardError
from trainyard.file_lock import hold
from trainyard.jobs.results import collect, to_lines
from trainyard.jobs.seal import unseal
from trainyard.jobs.spec import JobSpec
from trainyard.jobs.workplace import configure, environment, make_project, tidy
from trainyard.masking import MASK, mask
from trainyard.repair import repair, wait_for_others
from trainyard.stage import machine_error

PLACE = Path(".trainyard", "jobs")
"""In the home folder of whoever runs Ray on the head. What is here outlives jobs, and Ray's restarts."""
TAIL = 50
"""Lines of a command's output that are looked through for its error."""
NOISE = ("WARNING: No file hash info found", "Use `dvc push` to send")
"""Lines of dvc's that are no news here: what is not made yet is made now, and what is made is pushed."""
KILLED = (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGKILL, 128 + signal.SIGTERM)


def main() -> None:
    """Run the job that this process was started for; leave with the exit code of the stage inside."""
    job_spec = JobSpec.from_environment(os.environ)
    os.environ.update(unseal(os.environ))
    driver = Driver(job_spec, Path.cwd(), Path.home() / PLACE / job_spec.project)
    signal.signal(signal.SIGTERM, driver.notice)
    try:
        driver.run()
    except TrainyardError as error:
        driver.say(f"ERROR: {error}")
        sys.exit(error.exit_code)
    except OSError as error:
        problem = machine_error(error)
        driver.say(f"ERROR: {problem}")
        sys.exit(problem.exit_code)


class Driver:
    """One job at work."""

    def __init__(self, job_spec: JobSpec, submitted: Path, place: Path) -> None:
        self.spec = job_spec
        self.submitted = submitted
        self.place = place
        self.work = place / "work" / job_spec.identity
        self._told_to_end = False
        self._secrets = [value for name in job_spec.masked if (value := os.environ.get(name))]

    def notice(self, signum: int, frame: FrameType | None) -> None:
        """Take note that the job is to end; Ray tells the stage as well, and that one needs the time."""
        self._told_to_end = True

    def run(self) -> None:
        """Do the whole of it.

        Raises:
            TrainyardError: as the stage inside ended, or what is wrong around it.
        """
        self.place.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._alone():
            tidy(self.work)
            make_project(self.submitted, self.work)
            configure(self.work, self.spec, self.place)
            self._repair()
            self._go_on()
            self._bring_data()
            self._reproduce()
            self._hand_over()
        # Its outputs are in the cache and on the remote.
        shutil.rmtree(self.work, ignore_errors=True)

    def say(self, text: str) -> None:
        """Write one line to the job's log."""
        sys.stdout.write(f"job · {self._masked(text)}\n")
        sys.stdout.flush()

    def _repair(self) -> None:
        """Put right what an attempt that was killed may have left of DVC's."""
        wait_for_others(self.work, self.say)
        try:
            done = repair(self.work)
        except IntegrityError:
            # Of dvc.lock alone. What was made since is in the cache, and DVC finds it there by what it was made from.
            (self.work / "dvc.lock").unlink()
            if (whole := self.submitted / "dvc.lock").exists():
                shutil.copy(whole, self.work)
            done = ["dvc.lock: was damaged; put back as it was submitted", *repair(self.work)]
        for line in done:
            self.say(line)

    def _bring_data(self) -> None:
        if self.spec.remote is not None:
            self._reach_remote(self.spec.remote)
            self.say(f"takes what there is of {' '.join(self.spec.targets)} from DVC remote '{self.spec.remote['name']}'")
            code, said = self._dvc("pull", "--with-deps", "--allow-missing", *self.spec.targets, *self.spec.data)
        else:
            code, said = self._dvc("checkout", "--with-deps", "--allow-missing", *self.spec.targets, *self.spec.data)
        self._go_on()
        missing = [name for name in self.spec.data if not (self.work / name).exists()]
        if code or missing:
            where = f"DVC remote '{self.spec.remote['name']}'" if self.spec.remote else f"the cache in {self.spec.shared}"
            what = f"does not have {', '.join(missing)}" if missing else _error_line(said)
            raise ServiceError(f"{where}: {what}; `dvc push` them, and name the credentials' variables with --env")

    def _reach_remote(self, remote: dict[str, str]) -> None:
        """Raise ServiceError at once where results could not be handed over in the end."""
        from dvc.repo import Repo

        name = f".trainyard-{self.spec.id}"
        try:
            with Repo(str(self.work)) as repo:
                store = repo.cloud.get_remote_odb(remote["name"])
                path = store.fs.join(store.path, name)
                if store.fs.protocol == "local" and not Path(remote["url"]).is_dir():
                    raise FileNotFoundError(f"no folder {remote['url']} on the cluster's head")
                store.fs.makedirs(store.path, exist_ok=True)
                store.fs.pipe(path, b"")
                store.fs.remove(path)
        except Exception as error:  # each kind of store has errors of its own
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise ServiceError(
                f"DVC remote '{remote['name']}': cannot be written to from the cluster ({self._masked(reason)}); use one "
                "that both reach, name its credentials' variables with --env, or submit with --shared PATH"
            ) from None

    def _reproduce(self) -> None:
        code, said = self._dvc("repro", *self.spec.targets, keep_through_notice=True)
        if code:
            raise stage_error(code, said)
        self._go_on()

    def _hand_over(self) -> None:
        if self.spec.remote is not None:
            code, said = self._dvc("push", "--with-deps", *self.spec.targets)
            self._go_on()
            if code:
                raise ServiceError(
                    f"DVC remote '{self.spec.remote['name']}': {_error_line(said)}; the results are kept on the head: mend "
                    "it, then the same command hands them over"
                )
        results = collect(self.work, self.submitted, self.spec.stages, self.spec.kept)
        sys.stdout.write("".join(f"{line}\n" for line in to_lines(results)))
        sys.stdout.flush()

    def _dvc(self, *arguments: str, keep_through_notice: bool = False) -> tuple[int, list[str]]:
        """Run a dvc command and show what it writes; return its exit code and the last lines."""
        # Ray's notice goes to every process. DVC would die of it, and the stage, which it is meant for, with DVC;
        # a stage sets its own handler again.
        ignore = (lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN)) if keep_through_notice else None
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=self.work,
            env=environment(self.spec, self.place, os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            preexec_fn=ignore,
        )
        last: deque[str] = deque(maxlen=TAIL)
        for text in map(self._masked, process.stdout or ()):
            last.append(text.rstrip("\n"))
            if not text.startswith(NOISE):
                sys.stdout.write(text)
                sys.stdout.flush()
        return process.wait(), list(last)

    def _masked(self, text: str) -> str:
        """Return a line without secrets: those that were handed over, and those that can be told."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return mask(text)

    def _go_on(self) -> None:
        if self._told_to_end:
            raise Interrupted("was told to end; submit the same again to continue")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold this piece of work, which an attempt that is just dying may still have in hand."""
        self.work.parent.mkdir(parents=True, exist_ok=True)
        lock = self.work.with_suffix(".lock")
        lock.touch()
        with hold(lock, lambda _: self.say("waits for an earlier attempt to end")):
            yield


def stage_error(code: int, said: list[str]) -> TrainyardError:
    """Return how a stage ended, from what `dvc repro` wrote: DVC's own exit code is always the same."""
    exits = [int(found) for text in said if (match := re.search(r"exited with (-?\d+)", text)) for found in match.groups()]
    own = [text for text in said if "ERROR: " in text and not text.startswith("ERROR: failed to reproduce")]
    line = _error_line(own or said)
    if not exits:
        return TrainyardError(line)
    if exits[-1] in KILLED:
        return Interrupted("a stage was killed, by whoever runs the head or for want of memory; the same command continues")
    if exits[-1] in (130, -signal.SIGINT):
        return Interrupted(line)
    return BY_EXIT_CODE.get(exits[-1], TrainyardError)(line)


def _error_line(said: list[str]) -> str:
    lines = [text.strip() for text in said if text.strip()]
    errors = [text.split("ERROR: ", 1)[1] for text in lines if "ERROR: " in text]
    return (errors or lines or ["no reason given"])[-1]


if __name__ == "__main__":
    main()
