"""Where memory goes, process by process and stage by stage: ``python -m tests.bench.memory [--workers N]``.

The first table is an idle daemon on PostgreSQL: what each process counts for when shared pages are divided among those
that share them (PSS), and what is its own. The second one shows what a worker's own pages are: new ones, and copies of
the fork server's, by how much of such a page differs from the original. A copy that differs in one word is a reference
count that was written, one that differs in nothing a count that has gone up and down again.

The third one forks a worker step by step, once from a process as it is after its imports, once from one that was
prepared for sharing (soniqd.forkserver.sharing), and shows what is its own after each step.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import struct
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import uvloop

from soniqd import Soniq
from soniqd.backends.factory import create_backend
from soniqd.control.identity import current_identity
from soniqd.forkserver.sharing import prepare_sharing
from soniqd.model import WorkerId, WorkerRecord
from soniqd.worker import Worker, WorkerOptions
from tests.bench.tables import markdown
from tests.support.daemon import Daemon
from tests.support.postgres import PostgresServer
from tests.support.proc_files import private_mib

TARGET_PSS_MIB = 80
TARGET_PRIVATE_MIB = 5
SETTLED_S = 5.0
PAGE = os.sysconf("SC_PAGE_SIZE")
PRESENT, SWAPPED, FILE, EXCLUSIVE = 1 << 63, 1 << 62, 1 << 61, 1 << 56
"""Of /proc/PID/pagemap, see pagemap in the kernel's documentation."""

JOBS = """
from soniqd import Soniq

app = Soniq()


@app.job(name="noop")
async def noop():
    pass
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure where memory goes.")
    parser.add_argument("--workers", type=int, default=4, help="workers of the daemon; default: 4")
    arguments = parser.parse_args()
    server = PostgresServer()
    server.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(measure_daemon(Path(folder), server.url(server.create_database()), arguments.workers))
        url = server.url(server.create_database())
        asyncio.run(set_up(url))
        stages(url)
    finally:
        server.close()


async def measure_daemon(folder: Path, url: str, workers: int) -> None:
    groups = [{"processes": workers, "concurrency": 10}]
    async with Daemon(folder, jobs=JOBS, database_url=url, workers=groups) as daemon:
        await asyncio.sleep(SETTLED_S)
        names = {daemon.pid: "master"} | {process.pid: process.command for process in daemon.processes()}
        pss = {pid: pss_mib(pid) for pid in names}
        rows = [(name, f"{pss[pid]:.1f}", f"{private_mib(pid):.1f}") for pid, name in names.items()]
        print(f"Python {sys.version.split()[0]}, an idle daemon, MiB (targets: {TARGET_PSS_MIB} PSS together,")
        print(f"{TARGET_PRIVATE_MIB} private a worker)\n")
        print(markdown(("process", "PSS", "private"), [*rows, ("together", f"{sum(pss.values()):.1f}", "")]), "\n")
        [fork_server] = [pid for pid, name in names.items() if "fork server" in name]
        worker = await daemon.pid_of("default/1")
        found = Counter(own_pages(worker, fork_server))
        kinds = [(kind, f"{count * PAGE / 1024:.0f}") for kind, count in found.most_common()]
        print(markdown(("pages of one worker's own", "KiB"), kinds), "\n")


def pss_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    [pss] = [line.split()[1] for line in lines if line.startswith("Pss:")]
    return int(pss) / 1024


def own_pages(pid: int, parent: int) -> Iterator[str]:
    """Name for each page that only this process has what it is to the parent's page at the same address."""
    parents = {address for address, entry in pages(parent) if entry & (PRESENT | SWAPPED)}
    with Path(f"/proc/{pid}/mem").open("rb", 0) as own, Path(f"/proc/{parent}/mem").open("rb", 0) as other:
        for address, entry in pages(pid):
            if not entry & PRESENT or not entry & EXCLUSIVE:
                continue
            if entry & FILE or address not in parents:
                yield "new"
                continue
            own.seek(address)
            other.seek(address)
            yield worded(differing_words(own.read(PAGE), other.read(PAGE)))


def pages(pid: int) -> Iterator[tuple[int, int]]:
    with Path(f"/proc/{pid}/pagemap").open("rb") as pagemap:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            first, last = (int(part, 16) for part in line.split()[0].split("-"))
            if line.endswith(("[vsyscall]", "[vvar]", "[vdso]")):
                continue
            pagemap.seek(first // PAGE * 8)
            entries = pagemap.read((last - first) // PAGE * 8)
            for index, (entry,) in enumerate(struct.iter_unpack("=Q", entries)):
                yield first + index * PAGE, entry


def differing_words(one: bytes, other: bytes) -> int:
    return sum(a != b for a, b in zip(struct.iter_unpack("=Q", one), struct.iter_unpack("=Q", other), strict=True))


def worded(differing: int) -> str:
    if differing == 0:
        return "copied, equal"
    return "copied, at most 8 words differ" if differing <= 8 else "copied, more differs"


async def set_up(url: str) -> None:
    async with Soniq(database_url=url) as app:
        await app.setup()


def stages(url: str) -> None:
    gc.disable()
    create_backend(url)
    gc.collect()
    imported = forked(url)
    prepare_sharing()
    prepared = forked(url)
    rows = [(stage, f"{imported[stage]:.1f}", f"{prepared[stage]:.1f}") for stage in imported]
    print(markdown(("private MiB of a worker, after", "as imported", "prepared for sharing"), rows))


def forked(url: str) -> dict[str, float]:
    """Fork, be a worker for some seconds, and return what was private after each step."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            gc.enable()
            loop = uvloop.new_event_loop()

            def note(stage: str) -> None:
                os.write(writer, f"{stage}={private_mib(os.getpid())}\n".encode())

            loop.run_until_complete(be_a_worker(url, note))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as told:
        return {stage: float(mib) for stage, _, mib in (line.partition("=") for line in told)}


async def be_a_worker(url: str, note: Callable[[str], None]) -> None:
    note("the fork")
    app = Soniq(backend="memory")
    backend = create_backend(url, pool_min_size=1)
    await backend.open()
    note("connecting")
    worker = Worker(
        backend=backend,
        tasks=app.tasks,
        hooks=app.hooks,
        record=WorkerRecord(
            id=WorkerId(str(uuid.uuid4())), process=current_identity(), queues=(), concurrency=10, version="0"
        ),
        options=WorkerOptions(concurrency=10),
    )
    running: Awaitable[None] = asyncio.ensure_future(worker.run())
    await asyncio.sleep(0.5)
    note("half a second of work")
    await asyncio.sleep(SETTLED_S)
    note(f"{SETTLED_S:g} s more")
    worker.drain(0)
    await running
    await backend.close()


if __name__ == "__main__":
    main()
