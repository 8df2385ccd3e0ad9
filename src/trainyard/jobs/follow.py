"""Watching a job from far away: its log as it grows, through lost connections, to its end."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from trainyard.errors import Interrupted
from trainyard.jobs.results import MARK
from trainyard.jobs.server import Job, LostError, Server

POLL_SECONDS = 1.0
DUTY = 20
"""A long log is read less often: at most one second in so many is spent on it."""
FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 30.0
PATIENCE_SECONDS = 600.0
"""How long a lost connection is tried again."""
SHOWN_LINES = 20
"""Of what was written before one came."""
NOISE = re.compile(r"\S+ \S+\tINFO job_manager\.py|Running entrypoint for job ")
"""Lines that Ray puts before a job's own."""

Answer = TypeVar("Answer")
Say = Callable[[str], None]


@dataclass
class Line:
    """The connection to a server: each question is asked again while it is lost, for a bounded time."""

    server: Server
    say: Say
    """Tells a person what happens with the connection."""
    patience_seconds: float = PATIENCE_SECONDS
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def ask(self, question: Callable[[], Answer]) -> Answer:
        """Return what `question` returns, once the server can be reached.

        Raises:
            Interrupted: it could not for `patience_seconds`.
        """
        wait, lost_at = FIRST_WAIT_SECONDS, None
        while True:
            try:
                answer = question()
            except LostError as error:
                now = self.clock()
                if lost_at is None:
                    lost_at = now
                    self.say(
                        f"{self.server.url}: {error}; trying again for {self.patience_seconds:,.0f} s, jobs go on meanwhile"
                    )
                if now - lost_at >= self.patience_seconds:
                    raise Interrupted(
                        f"{self.server.url}: {error}, for {now - lost_at:,.0f} s; see whether the head is up and can be reached"
                    ) from None
                self.sleep(min(wait, max(0.0, self.patience_seconds - (now - lost_at))))
                wait = min(2 * wait, LONGEST_WAIT_SECONDS)
            else:
                if lost_at is not None:
                    self.say(f"{self.server.url}: answers again, after {self.clock() - lost_at:,.0f} s")
                return answer


def follow(line: Line, job_id: str, show: Say, *, from_start: bool) -> tuple[Job, str]:
    """Show a job's log until it ends; return the job and its whole log.

    Args:
        line: To the cluster.
        job_id: Of a job that was submitted.
        show: Writes a line of the log.
        from_start: Whether to show what is old as well, or only the last of it.

    Raises:
        Interrupted: the connection stayed lost, or the cluster was started anew and knows the job no more.
    """
    printer = Printer(show, from_start)
    waiting = False
    while True:
        # The state first: what is read after a job's end is all there is.
        job = line.ask(lambda: line.server.job(job_id))
        if job is None:
            raise Interrupted(
                f"{line.server.url}: no longer knows {job_id}, so the cluster was started anew meanwhile; what was done is kept"
            )
        if job.state == "PENDING" and not waiting:
            waiting = True
            line.say(f"{job_id}: waits for the cluster to begin it; Ctrl-C leaves it there")
        asked = line.clock()
        log = line.ask(lambda: line.server.log(job_id))
        took = line.clock() - asked
        printer.show(log, whole=job.over)
        if job.over:
            return job, log
        line.sleep(max(POLL_SECONDS, DUTY * took))


class Printer:
    """Shows what is new in a log that is read again and again."""

    def __init__(self, show: Say, from_start: bool) -> None:
        self._show = show
        self._from_start = from_start
        self._shown = 0
        """Characters."""

    def show(self, log: str, *, whole: bool) -> None:
        """Show the new lines; one that is not ended yet waits, unless the log is whole."""
        end = len(log) if whole else log.rfind("\n") + 1
        # A log that is shorter than before is one that could not be read just now.
        if end <= self._shown:
            return
        lines = [text for text in log[self._shown : end].splitlines() if not text.startswith(MARK) and not NOISE.match(text)]
        if self._shown == 0 and not self._from_start and len(lines) > SHOWN_LINES:
            self._show(f"... {len(lines) - SHOWN_LINES:,} earlier lines")
            lines = lines[-SHOWN_LINES:]
        for text in lines:
            self._show(text)
        self._shown = end


def headline(job: Job, log: str) -> str:
    """Return why a job failed, as its stage or its own program said."""
    said = [text.split("ERROR: ", 1)[1].strip() for text in log.splitlines() if "ERROR: " in text]
    # DVC's own words about the stage come after the stage's, and say less.
    said = [text for text in said if text and not text.startswith("failed to reproduce")]
    if said:
        return said[-1]
    lines = [text.strip() for text in job.message.splitlines() if text.strip()]
    return lines[-1][:300] if lines else "it gave no reason"
