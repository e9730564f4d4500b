"""The first fork server is forked off the master, and yet is what an executed one would be."""

from __future__ import annotations

import json

from soniqd import Soniq
from tests.support.daemon import BIN, Daemon
from tests.support.proc_files import descriptors

SURROUNDINGS = """
import json, os, pathlib, sys
from soniqd import Soniq

app = Soniq()
MAIN = sys.modules["__main__"].__file__
AT_IMPORT = {
    "main": MAIN[MAIN.index("soniqd/forkserver"):],
    "argv": [os.path.basename(sys.argv[0]), sys.argv[1]],
    "path": [entry for entry in sys.path if entry in ("", os.path.dirname(sys.executable))],
    "variables": sorted(name for name in os.environ if name.startswith(("NOTIFY_", "LISTEN_", "WATCHDOG_"))),
    "stdin": os.readlink("/proc/self/fd/0"),
}


@app.job(name="tell")
async def tell(path: str):
    pathlib.Path(path).write_text(json.dumps(AT_IMPORT))
"""


async def test_jobs_see_the_same_in_either(tmp_path):
    environ = {"NOTIFY_SOCKET": str(tmp_path / "nobody")}
    async with Daemon(tmp_path, jobs=SURROUNDINGS, environ=environ) as daemon:
        early = await told(daemon, "early")
        await daemon.soniqctl("reload", "--all")
        executed = await told(daemon, "executed")
    assert early == executed
    assert early == {
        "main": "soniqd/forkserver/__main__.py",
        "argv": ["__main__.py", "--fd"],
        "path": [],
        "variables": [],
        "stdin": "/dev/null",
    }


async def told(daemon: Daemon, name: str) -> object:
    path = daemon.folder / name
    async with Soniq(database_url=daemon.database_url, enqueue_validation="none") as app:
        await app.enqueue("tell", args={"path": str(path)})
        return json.loads(await daemon.eventually(lambda: path.exists() and path.read_text()))


async def test_it_has_no_descriptor_of_the_master(tmp_path):
    async with Daemon(tmp_path) as daemon:
        [server] = [process for process in daemon.processes() if "fork server" in process.command]
        others = [found.target for found in descriptors(server.pid)[3:]]
        assert len(others) == 1, others
        assert others[0].startswith("socket:")


async def test_a_reload_of_the_same_code_replaces_nobody(tmp_path):
    async with Daemon(tmp_path) as daemon:
        worker = await daemon.pid_of("default/1")
        await daemon.soniqctl("reload")
        await daemon.log_event("reload_changed_nothing")
        assert await daemon.pid_of("default/1") == worker


async def test_nor_does_one_where_only_the_master_has_read_variables_from_a_file(tmp_path):
    (tmp_path / ".env").write_text("SONIQ_MAX_RETRIES=5\n")
    program = ("env", "-C", "/", str(BIN / "soniqd"))
    async with Daemon(tmp_path, program=program) as daemon:
        worker = await daemon.pid_of("default/1")
        await daemon.soniqctl("reload")
        await daemon.log_event("reload_changed_nothing")
        assert await daemon.pid_of("default/1") == worker
