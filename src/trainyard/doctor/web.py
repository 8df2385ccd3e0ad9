"""Short questions to web servers: are you there, what time is it, and do you ask who I am?"""

from __future__ import annotations

import base64
import os
import urllib.error
import urllib.request
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from urllib.parse import unquote, urlsplit

ANSWER_SECONDS = 5.0
SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: credentials are for the host that was named."""

    def redirect_request(self, *_: object) -> None:
        return None


def ask(url: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Return the status of a GET and the server's date.

    Raises:
        OSError: no answer within 5 s, or none in HTTP.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise OSError(f"{url}: no address of a web server")
    # Not through a proxy of the environment: it would answer for the server.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay)
    try:
        with opener.open(urllib.request.Request(url, headers=headers or {}), timeout=ANSWER_SECONDS) as reply:
            return reply.status, reply.headers.get("Date", "")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers.get("Date", "")
    except HTTPException as error:
        raise OSError(f"no answer in HTTP ({type(error).__name__})") from None


def asks_for_password(server: str) -> bool | None:
    """Return whether an MLflow server shows its experiments to somebody with a password alone; None without an answer."""
    try:
        status, _ = ask(f"{server}{SEARCH}")
    except OSError:
        return None
    return True if status in (401, 403) else False if status == 200 else None


def credentials(server: str) -> tuple[str, dict[str, str]]:
    """Return a tracking server's address without a password, and the header that MLflow would send to it."""
    parts = urlsplit(server)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return bare, {"Authorization": f"Bearer {token}"}
    user = os.environ.get("MLFLOW_TRACKING_USERNAME") or unquote(parts.username or "")
    password = os.environ.get("MLFLOW_TRACKING_PASSWORD") or unquote(parts.password or "")
    if not user:
        return bare, {}
    return bare, {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def seconds_since(date: str, now: float) -> float | None:
    """Return how many seconds `now` is after a header's date; None where it is none."""
    try:
        return now - parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return None
