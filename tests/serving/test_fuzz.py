"""Requests made from the server's own schema, good ones and bad ones, and bodies of real requests with bytes changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.fuzz_rest import fuzz

from tests.serving.servers import Server


@pytest.mark.filterwarnings("ignore")
def test_no_request_made_from_the_schema_or_by_changing_bytes_ends_with_an_error_of_the_server(models: dict[str, Path]) -> None:
    with Server(models) as server:
        found = fuzz(server.url, generated=16, mutated=300, seed=0)
        code, _, err = server.end()
    assert found.failures == []
    assert found.statuses[200] > 30 and found.statuses[422] > 50 and found.statuses[400] > 5, found.statuses
    assert (code, err) == (0, "")
