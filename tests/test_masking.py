from __future__ import annotations

from pathlib import Path

import pytest

from trainyard.masking import holds_secret, mask
from trainyard.params import Params, ParamsError

SECRETS = {
    "https://ann:hunter2pass@host/x": "https://***@host/x",
    "postgresql://u:p@ss:w@db:5432/runs": "postgresql://***@db:5432/runs",
    "https://ghtoken@github.com/o/r": "https://***@github.com/o/r",
    "s3://b/k?X-Amz-Signature=abcdef&x=1": "s3://b/k?X-Amz-Signature=***&x=1",
    "http://h/?access_token=qwerty1": "http://h/?access_token=***",
    "authorization: Bearer 0123456789abcdef": "authorization: Bearer ***",
    "host=db password=hunter2 user=ann": "host=db password=*** user=ann",
    '{"api_key": "hunter22"}': '{"api_key": "***"}',
    "remote:\n  password: hunter2\n": "remote:\n  password: ***\n",
    "key AKIAIOSFODNN7EXAMPLE used": "key *** used",
    "ghp_" + "a1" * 18: "***",
    "hf_" + "aB" * 17: "***",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2ln": "***",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nrest": "***\nrest",
}


@pytest.mark.parametrize(("text", "shown"), SECRETS.items())
def test_a_secret_is_masked_and_what_stands_around_it_is_not(text: str, shown: str) -> None:
    assert mask(text, {}) == shown


@pytest.mark.parametrize(
    "name", ["RAY_AUTH_TOKEN", "MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY", "MY_SECRET", "DB_PASS", "apikey"]
)
def test_the_value_of_a_variable_whose_name_says_secret_is_masked(name: str) -> None:
    assert mask("found s3cr3t-value here", {name: "s3cr3t-value"}) == "found *** here"


def test_a_secret_that_is_part_of_another_leaves_nothing_of_it() -> None:
    assert mask("abcdefgh-ijkl", {"A_TOKEN": "abcdefgh", "B_TOKEN": "abcdefgh-ijkl"}) == "***"


@pytest.mark.parametrize(
    "text",
    [
        "cnn · train · epoch 3/30 · loss 0.1234 · val loss 0.2 · 1,234 samples/s · 0:12 left",
        "recipes.lstm.data.tokenizer: bpe; max_tokens: 64; token_dropout: 0.2",
        "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH names the file",
        "it asks for a password: set one",
        "sqlite:////home/me/project/mlflow.db",
        "http://127.0.0.1:5000/#/experiments/1?sort=loss",
        "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "author ann@example.org wrote http://example.org/mail",
    ],
)
def test_what_is_no_secret_is_left_as_it_is(text: str) -> None:
    assert mask(text, {"SHORT_KEY": "0", "HOME": "/home/me", "RAY_AUTH_TOKEN_PATH": "mlflow.db"}) == text
    assert not holds_secret(text)


def test_params_with_a_secret_are_refused_by_line_and_key_without_showing_it(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(
        "recipes: {}\ntracking:\n  uri: http://ann:hunter2@mlflow:5000\nnotes:\n  - fine\n  - ghp_" + "a1" * 18 + "\n"
    )
    with pytest.raises(ParamsError, match=r"line 3: tracking.uri: holds a password or token") as refused:
        Params(path)
    assert "line 6: notes.1: " in str(refused.value)
    assert "hunter2" not in str(refused.value) and "ghp_" not in str(refused.value)
