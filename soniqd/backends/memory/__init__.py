"""The memory backend: the protocol's meaning in plain Python.

For tests and for trying things out: one process, nothing survives it. It is also the yardstick of the other backends,
so it is written for reading: a dict for each place a job can be in (hot, finished, dead), and a heap for each pair of
queue and task name, whose entries are the claimable jobs by (priority, seq). A heap's entry may be stale (the job was
cancelled or deleted); it is dropped when it comes to the top.

All methods run on the event loop without awaiting in between, so each is atomic. Wake-ups go straight to the
subscribers' boxes. The clock can be injected: every "now" of the backend comes from it.
"""

from soniqd.backends.memory.backend import MemoryBackend

__all__ = ["MemoryBackend"]
