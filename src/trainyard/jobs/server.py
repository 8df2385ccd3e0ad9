"""Ray's job server over HTTP: a time limit on every request, and one headline for each way in which it fails.

Ray's own client has no time limits and takes seconds to import; the server's requests are few and documented.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any
from urllib.parse import quote, urlsplit

import requests
from requests.utils import get_environ_proxies

from trainyard.errors import InputError, IntegrityError, ServiceError
from trainyard.training.access import MODE, TOKEN, TOKEN_PATH, host_of, is_loopback, read_token

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
UPLOAD_SECONDS = 600.0
"""For a package, which may be large and the line slow."""
RUNNING = ("PENDING", "RUNNING")
"""States of a job that has not ended."""


class LostError(Exception):
    """The server could not be asked just now; it may be again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as the server knows it."""

    id: str
    state: str
    """PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED."""
    message: str = ""
    exit_code: int | None = None
    """Of its command, where that ended by itself."""
    started: float = 0.0
    """Seconds since 1970."""
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state not in RUNNING

    @property
    def targets(self) -> str:
        """The stages that it was submitted for."""
        return self.metadata.get("trainyard.targets", "")


def choose_address(option: str | None, setting: str | None) -> str:
    """Return the job server's URL from `--address`, RAY_API_SERVER_ADDRESS, RAY_ADDRESS or `cluster.submit_address`.

    Raises:
        InputError: none of them says one, or it is no http address.
    """
    ray_address = os.environ.get("RAY_ADDRESS", "")
    address = (
        option
        or os.environ.get("RAY_API_SERVER_ADDRESS")
        or (ray_address if ray_address.startswith(("http://", "https://")) else None)
        or setting
    )
    if not address:
        raise InputError(
            "no address of a cluster; give --address http://HEAD:8265, or set cluster.submit_address in params.yaml "
            "or RAY_API_SERVER_ADDRESS"
        )
    url = address if "://" in address else f"http://{address}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise InputError(f"address {address}: is no http address of a Ray head; such as http://head:8265")
    if parts.password:
        raise InputError(
            "the address holds a password, which would be shown in logs; put a token in RAY_AUTH_TOKEN_PATH instead"
        )
    return url.rstrip("/")


def find_token() -> str | None:
    """Return the token that Ray's own programs would send, or None.

    ~/.ray/auth_token only where RAY_AUTH_MODE is `token`: it must not go to any address that one types.

    Raises:
        MachineError: a token is asked for and there is none.
        IntegrityError: others can read it, and this user may not change that.
    """
    mode = os.environ.get(MODE, "").lower()
    named = bool(os.environ.get(TOKEN) or os.environ.get(TOKEN_PATH))
    return read_token() if mode == "token" or (not mode and named) else None


class Server:
    """The job server of one cluster."""

    def __init__(self, url: str, token: str | None = None, read_seconds: float = READ_SECONDS) -> None:
        self.url = url
        self._token = token
        self._read_seconds = read_seconds
        self._session = requests.Session()
        # Nothing of this machine's: a password for the host in ~/.netrc would go out in the place of the token.
        self._session.trust_env = False
        if not is_loopback(host_of(url)):
            self._session.proxies = dict(get_environ_proxies(url))
        if token:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def check(self) -> str:
        """Return the cluster's version of Ray.

        Raises:
            ServiceError: nothing answers, or its Ray is older than this one.
            InputError: it is no Ray head, or the token is missing or wrong.
        """
        try:
            response = self._ask("GET", "/api/version")
            found = response.json()["ray_version"] if response.status_code == 200 else None
        except LostError as error:
            raise ServiceError(f"{self.url}: {error}; start the cluster, or mend --address") from None
        except (ValueError, KeyError, TypeError):
            found = None
        if not isinstance(found, str):
            raise InputError(f"{self.url}: answers, but is no Ray head's dashboard; its port is 8265 unless set otherwise")
        ours = version("ray")
        if _release(found) < _release(ours):
            raise ServiceError(f"{self.url}: runs Ray {found}, this project needs {ours}; install ray=={ours} on the cluster")
        return found

    def refuse_open(self) -> None:
        """Raise IntegrityError where the cluster is on a network and runs programs for anybody there."""
        if self._token is None and not is_loopback(host_of(self.url)):
            raise IntegrityError(
                f"{self.url}: is on a network and asks for no token, so whoever reaches it can run any program there. Start "
                f"it with {MODE}=token, and set it and {TOKEN_PATH} here too, or accept the risk with cluster.insecure: true"
            )

    def job(self, job_id: str) -> Job | None:
        """Return a job, or None where the server knows no such one."""
        response = self._ask("GET", f"/api/jobs/{quote(job_id, safe='')}")
        if response.status_code == 404:
            return None
        return _job(_json(self._good(response)))

    def jobs(self) -> list[Job]:
        """Return all jobs that `trainyard submit` sent, the oldest first."""
        found = [_job(values) for values in _json(self._good(self._ask("GET", "/api/jobs/")))]
        return sorted((job for job in found if job.targets), key=lambda job: job.started)

    def log(self, job_id: str) -> str:
        """Return what a job has written until now."""
        response = self._good(self._ask("GET", f"/api/jobs/{quote(job_id, safe='')}/logs"))
        return str(_json(response).get("logs") or "")

    def submit(self, request: dict[str, Any]) -> bool:
        """Start a job; False where one of that `submission_id` is there already."""
        response = self._ask("POST", "/api/jobs/", json=request)
        if response.status_code == 400 and "already exists" in response.text:
            return False
        self._good(response)
        return True

    def stop(self, job_id: str) -> bool:
        """Ask a job to end; False where it had ended."""
        return bool(_json(self._good(self._ask("POST", f"/api/jobs/{quote(job_id, safe='')}/stop"))).get("stopped"))

    def bring(self, name: str, content: bytes) -> bool:
        """Upload a package under a name made of its hash, unless the cluster has it; return whether it was sent."""
        path = f"/api/packages/gcs/{name}"
        if self._ask("GET", path).status_code == 200:
            return False
        self._good(self._ask("PUT", path, data=content, seconds=UPLOAD_SECONDS))
        return True

    def _ask(self, method: str, path: str, seconds: float | None = None, **content: Any) -> requests.Response:
        try:
            response = self._session.request(
                method,
                self.url + path,
                timeout=(CONNECT_SECONDS, seconds or self._read_seconds),
                allow_redirects=False,
                **content,
            )
        except requests.RequestException as error:
            raise LostError(_reason(error)) from None
        if response.status_code in (401, 403):
            raise InputError(f"{self.url}: {_refusal(response.status_code, self._token)}")
        if response.status_code >= 500:
            raise LostError(f"answers with error {response.status_code} ({_last_line(response.text)})")
        return response

    def _good(self, response: requests.Response) -> requests.Response:
        if response.status_code == 404:
            raise InputError(f"{self.url}: {_last_line(response.text)}; `trainyard jobs` lists those that it knows")
        if response.status_code != 200:
            raise ServiceError(
                f"{self.url}: refused the request with {response.status_code} ({_last_line(response.text)}); "
                "see whether that is the Ray head and its version"
            )
        return response


def _refusal(status: int, token: str | None) -> str:
    if token is None:
        return "wants a token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to a file with the cluster's token"
    return f"refuses the token ({status}); copy the cluster's own to RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token"


def _json(response: requests.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        # A reply that was cut on its way.
        raise LostError("sent half an answer") from None


def _job(values: dict[str, Any]) -> Job:
    return Job(
        id=str(values.get("submission_id") or values.get("job_id") or ""),
        state=str(values["status"]),
        message=str(values.get("message") or ""),
        exit_code=values.get("driver_exit_code"),
        started=float(values.get("start_time") or 0) / 1000,
        metadata={str(name): str(value) for name, value in (values.get("metadata") or {}).items()},
    )


def _release(text: str) -> tuple[int, ...]:
    """Return (major, minor): what two ends of a cluster must share."""
    return tuple(int(number) for number in text.split(".")[:2] if number.isdigit())


def _reason(error: BaseException) -> str:
    """Return what the system said, without the names of the classes around it."""
    if isinstance(error, requests.Timeout):
        return "does not answer in time"
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror and not isinstance(seen, requests.RequestException):
            return f"does not answer ({seen.strerror})"
        inner = getattr(seen, "reason", None) or (seen.args[0] if seen.args else None)
        seen = inner if isinstance(inner, BaseException) else seen.__cause__ or seen.__context__
    return "does not answer (the connection was cut)"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no reason given"
