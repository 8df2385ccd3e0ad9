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

NODE_QUESTION_SECONDS = 60.0
"""Longest that nodes may take to start a process and answer a question; one that takes longer counts as one that says no."""

PREFLIGHT_SECONDS = 15.0
"""How long nodes may take to say what they have, while a training's own processes start: one that takes longer is told of, and
not waited for."""

CLOCK_LOOKS = 3
"""How often a node is asked for its time; the quickest answer counts."""

CLOCK_SECONDS = 5.0
"""How long it may take to answer."""

NODE_POLL_SECONDS = 1.0
"""How often the driver looks at the list of nodes, and whether the head answers."""

BUSY_SECONDS = 15.0
"""How long workers may wait for room on a cluster before that is said: more than they need to start where there is room."""

HEAD_SECONDS = 20.0
"""How long the head may be away before a run ends. After 60 s Ray would end the whole process, without a word."""

START_TRIES = 3
"""How often a private Ray is started that was not there within Ray's own 30 s."""

KILLED_SECONDS = 10.0
"""How long processes that were killed may take to be gone, which one that waits for a disk is late with."""

FENCE_SECONDS = 1.0
"""How often a worker looks whether a later attempt has taken over: one small file is read."""

FENCE_REMOTE_SECONDS = 10.0
"""The same where that file lies in an object store, which takes some hundredths of a second to answer."""

RELAY_SECONDS = 1.0
"""How often rank 0 puts new records into the storage, where there is one, and the driver looks for them: two requests."""

RENEW_SECONDS = 5.0
"""How often a driver renews its note in the place of the checkpoints: who asks for the place hears of it within that."""

LEASE_SECONDS = 60.0
"""For how long nothing must be heard of a driver elsewhere before its place is taken over: the longest that a store may take to
answer it."""

LEASE_POLL_SECONDS = 0.5
"""How often a driver that waits for another one's word looks for it."""

SETTLE_SECONDS = 2.0
"""After which a driver that wrote its note to an object store, or over a dead one's, looks whose stands there: by then another
one that had not seen it has written its own."""

CONNECT_SECONDS = 5.0
"""How long a cluster's address may take to accept a connection; Ray itself would try for half a minute."""

OBJECT_STORE_BYTES = 80 * 2**20
"""Memory of the private Ray for objects; training sends none through it, and 75 MiB are the least that Ray takes."""

LOAD_SECONDS = 5.0
"""Between two samples of the load of a worker and its machine, each of which takes a millisecond."""

LISTEN_SECONDS = 0.25
"""How often a worker looks whether it is to stop. A notice of 2 s leaves room for this, Ray's answer, and a checkpoint."""

BEAT_SECONDS = 1.0
"""How often a worker says where it is. One message of 300 bytes to Ray's head."""

BOARD_SECONDS = 5.0
"""How long Ray's head may take to answer such a message."""

SILENCE_SECONDS = 20.0
"""A worker that says nothing for so long is stopped, or holds the interpreter's lock: 20 missed messages. A machine that is
so loaded that a thread does not run for 20 s trains nothing either."""

LEAST_SECONDS = 20.0
"""The least that a phase of a step may take before it counts as a hang, so that one is found within 30 s."""

HANG_FACTOR = 10.0
"""How many times the longest so far a phase may take: other work on the machine makes a step two or three times as long."""

NEW_PHASE_SECONDS = 600.0
"""How long a phase may take that the process has not been through before: the first step and the first validation compile,
fill caches, and start libraries. Ray's default for anything."""

FETCH_SECONDS = 600.0
"""How long a node that fetches data or weights may go without a piece more; all of it may take as long as it needs."""

SAVING_SECONDS = 600.0
"""How long a checkpoint may take: large ones go to slow stores."""

RAY_WORKER_HANG_SECONDS = 60.0
"""When Ray itself gives up a worker whose main thread does not answer, for the case that our own watch is away."""

LAG_STEPS = 50
"""Steps over which a worker's own time is taken."""

LAG_FACTOR = 2.0
"""A worker that needs so many times the others' time is told of. Equal machines differ by a tenth."""

LAG_SECONDS = 10.0
"""For so long it must need it without a break before it is told of: a single slow step is no straggler."""

SPARE_AFTER_SECONDS = 5.0
"""When a spare process is started: not while the training itself starts."""

SPARE_WORTH_SECONDS = 20.0
"""A training with less than this to go needs no spare: the start takes processors from it."""

SPARE_KEPT_SECONDS = 7 * 24 * 3600
"""For how long Ray keeps the process although nothing runs in it; it ends with the launch in any case."""

SPARE_MEMORY_BYTES = 2 * 2**30
"""Memory that must be free for a spare process, which takes 0.3 GB, most of it shared."""

SPARE_REQUEST_SECONDS = 30.0
"""How long the node's Ray may take to say that it starts one."""

GANG_END_SECONDS = 30.0
"""How long the workers' process group may take to end; then its processes are ended as they are."""

ACCUSED_SECONDS = 10.0
"""How long a worker that was ended for a hang may take to be replaced, before another one is suspected."""

NOTICE_SECONDS = 25.0
"""After SIGTERM, how long the workers may take to save before they are ended, at least. Clouds and schedulers give 30 s
before they take the machine; where it is less, what is saved by then counts, and workers save at once."""
