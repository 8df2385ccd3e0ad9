"""Every interval, timeout and time of grace of a distributed training, and why it is what it is. Imports nothing.

A fault is noticed by the quickest of several watchers. From quick to slow: a lost process by the connection that breaks
with it, a hung one by its missing heartbeat, a lost node by Ray's health checks, and everything else by the process group.
"""

from __future__ import annotations

FOLLOW_SECONDS = 0.2
"""How often the driver looks at what the workers wrote: what a person sees as at once."""

WORKER_POLL_SECONDS = 0.25
"""How often Ray's controller asks each worker for its state, which is when it notices a lost one. Ray's own 2 s would be
most of a restart, and would hold back an epoch of less than that; each question costs a worker 1 ms."""

WORKER_START_SECONDS = 60.0
"""How long Ray waits for the resources of a group of workers, before it tries again. Its default."""

CONNECT_SECONDS = 5.0
"""How long a cluster's address may take to accept a connection; Ray itself would try for half a minute."""

OBJECT_STORE_BYTES = 80 * 2**20
"""Memory of the private Ray for objects; training sends none through it, and 75 MiB are the least that Ray takes."""
