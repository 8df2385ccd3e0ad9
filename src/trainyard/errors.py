"""Every error that a user can meet, by who can mend it; the class decides the exit code.

TrainyardError                 shown as one headline, without a traceback
  InputError        exit 2     the user's parameters or data
  MachineError      exit 3     this machine: disk, port, memory, library
  ServiceError      exit 4     a service elsewhere: the tracking server, a store
  IntegrityError    exit 5     refused, because a file is not what it claims to be
  Rejected          exit 6     a model that is not good enough
  Interrupted       exit 75    stopped half-way; the same command continues
    BeginAgain                 a new process of the same command continues by itself, a few times
"""


class TrainyardError(Exception):
    """`<where>: <what was found>; <what to do>`."""

    exit_code = 1


class InputError(TrainyardError):
    """The user's own parameters or data are wrong."""

    exit_code = 2


class MachineError(TrainyardError):
    """This machine cannot do it: disk, port, memory, processors, library."""

    exit_code = 3


class ServiceError(TrainyardError):
    """A service that was asked for does not answer."""

    exit_code = 4


class IntegrityError(TrainyardError):
    """A file does not match the hash that it was written with, or could run code."""

    exit_code = 5


class Rejected(TrainyardError):
    """A model is not as good as its recipe asks for."""

    exit_code = 6


class Interrupted(TrainyardError):
    """Work stopped half-way and continues when the same command runs again."""

    exit_code = 75


class BeginAgain(Interrupted):
    """Work stopped half-way for what a new process would not have: the stage begins again by itself."""

    def __init__(self, what: str, most: int) -> None:
        """Keep what happened, and how often at most a stage may begin again."""
        super().__init__(f"{what}; run the same command again to continue from the newest checkpoint")
        self.what = what
        self.most = most


BY_EXIT_CODE: dict[int, type[TrainyardError]] = {
    kind.exit_code: kind for kind in (InputError, MachineError, ServiceError, IntegrityError, Interrupted)
}


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, at most 200 characters, or its kind where it says nothing."""
    said = str(error).strip()
    return said.splitlines()[0][:200] if said else type(error).__name__


def last_line(error: BaseException) -> str:
    """Return the last line of what an error says, which for errors from other processes is their cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
