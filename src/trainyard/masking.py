"""Secrets taken out of text before it goes anywhere: to the screen, a log, a report, or the tracking server.

The last line of defence. The first is that secrets stand in the environment, in a file of their owner's or in a
keyring, and never in params.yaml, which is committed: `Params` refuses those that it can tell.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

MASK = "***"
SHORTEST = 6
"""Characters. What is shorter guards nothing, and would be found in every other word."""

SECRET_NAME = re.compile(r"(?:TOKEN|PASSWORD|PASSWD|PASSPHRASE|SECRET|KEY|CREDENTIALS?|_PAT|_PASS|_PWD|_AUTH)$", re.IGNORECASE)
"""Of environment variables that hold a secret. `..._PATH` and `..._FILE` name where one lies, and may be shown."""

IN_URI = re.compile(r"(?<=://)[^\s/?#'\"]+@")
"""`user:password@` or `token@`, up to the last `@` before the path: a password may hold one unescaped."""
IN_QUERY = re.compile(
    r"([?&;](?:[\w-]*(?:token|password|passwd|secret|signature|api_?key|access_?key|credential)|sig|pwd|auth)=)[^&#\s'\"]+",
    re.IGNORECASE,
)
SETTING = r"(?:password|passwd|passphrase|secret|api[_-]?key|access[_-]?token)"
IN_ASSIGNMENT = re.compile(
    # password=x, "password": "x", and a line of YAML; prose may say "a password: ..."
    rf"((?<![\w-]){SETTING}(?:\s*=|['\"]\s*[=:])\s*['\"]?|^\s*(?:- )?{SETTING}:\s+['\"]?)[^\s'\",;]{{3,}}",
    re.IGNORECASE | re.MULTILINE,
)
IN_HEADER = re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE)
SHAPES = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}"  # GitHub
    r"|\bglpat-[\w-]{16,}"  # GitLab
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"  # AWS
    r"|\bhf_[A-Za-z0-9]{20,}"  # Hugging Face
    r"|\bsk-[\w-]{20,}"  # OpenAI, Anthropic
    r"|\bxox[abprs]-[\w-]{10,}"  # Slack
    r"|\bAIza[\w-]{30,}"  # Google
    r"|\bdapi[0-9a-f]{32}\b"  # Databricks
    r"|\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*",  # JSON web tokens
    re.DOTALL,
)


def mask(text: str, environment: Mapping[str, str] | None = None) -> str:
    """Return a text without the secrets in it that can be told from their place, their shape, or the environment."""
    for value in _values(os.environ if environment is None else environment):
        text = text.replace(value, MASK)
    text = SHAPES.sub(MASK, text)
    text = IN_URI.sub(f"{MASK}@", text)
    text = IN_QUERY.sub(rf"\1{MASK}", text)
    text = IN_HEADER.sub(rf"\1 {MASK}", text)
    return IN_ASSIGNMENT.sub(rf"\1{MASK}", text)


def holds_secret(text: str) -> bool:
    """Return whether a text that is to be committed holds a password in an address, or a token of a known shape."""
    return any(pattern.search(text) for pattern in (IN_URI, IN_QUERY, SHAPES))


def _values(environment: Mapping[str, str]) -> list[str]:
    """Return the secrets among environment variables, the longest first: one may be a part of another."""
    found = {value for name, value in environment.items() if SECRET_NAME.search(name) and len(value) >= SHORTEST}
    return sorted(found, key=len, reverse=True)


def headline_of(error: Exception) -> str:
    """Return the first line of what an error says, or its kind where it says nothing: masked, at most 300 characters."""
    return mask((str(error).splitlines() or [type(error).__name__])[0])[:300]
