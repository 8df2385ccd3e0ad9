"""Every time limit of tracking, with its reason."""

from __future__ import annotations

REQUEST_SECONDS = 30
"""One request. Longer than a slow server needs, because nothing but the poster waits for it."""
REQUEST_RETRIES = 0
"""MLflow's own retries are blind: a run whose creation was stored, but whose answer was lost, would be made twice."""
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 1.0, 15.0
"""Between two attempts at a store that is away; doubled from the first to the last."""
ENDING_RETRY_SECONDS = 1.0
"""The same, once a stage waits for the end."""
AWAY_SECONDS = 10.0
"""A stage that is over waits this long for a store that does not answer, and longer for one that does."""
STOPPED_SECONDS = 3.0
"""A stage that was stopped or failed waits this long at most."""
POLL_SECONDS = 0.1
"""Between two looks at a journal."""
ADOPT_SECONDS = 2.0
"""Between two looks for journals whose stages are gone."""
SQLITE_BYTES = 4 * 2**20
"""What must be free where the local database is to be made; it has 0.9 MB when it is new."""
