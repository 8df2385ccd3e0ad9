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

ELASTIC_START_SECONDS = 10.0
"""The same where the number of workers may change: a node that was just lost stays on Ray's list until its health checks
have failed, so the first count can be wrong, and each wrong one costs this long."""

RESIZE_SECONDS = 10.0
"""How often Ray looks whether more workers could train. To grow costs a restart from the newest checkpoint."""

NODE_ANSWER_SECONDS = 2.0
"""How long a node may take to accept a connection, before an elastic training does without it."""

NODE_POLL_SECONDS = 1.0
"""How often the driver looks at the list of nodes, and whether the head answers."""

HEAD_SECONDS = 20.0
"""How long the head may be away before a run ends. After 60 s Ray would end the whole process, without a word."""

CONNECT_SECONDS = 5.0
"""How long a cluster's address may take to accept a connection; Ray itself would try for half a minute."""

OBJECT_STORE_BYTES = 80 * 2**20
"""Memory of the private Ray for objects; training sends none through it, and 75 MiB are the least that Ray takes."""
