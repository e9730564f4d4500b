from __future__ import annotations

import subprocess
import sys

import pytest

import soniqd
from soniqd import Soniq
from soniqd.app.database import same_database
from soniqd.backends.memory import MemoryBackend
from soniqd.errors import ClosedError, ConfigurationError, DatabaseUnavailableError
from soniqd.model import JobId
from soniqd.queue.metrics import NullMetricsSink

PASSWORD = "hunter2"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("SONIQ_DATABASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)


def test_applications_of_one_process_share_nothing():
    one, two = Soniq(backend="memory", max_retries=1), Soniq(backend="memory")
    one.job(name="a.b")(lambda: None)
    one.before_job(lambda: None)
    assert (one.settings.max_retries, two.settings.max_retries) == (1, 3)
    assert (two.tasks.names(), two.hooks.before) == ((), [])
    assert one.backend is not two.backend


DEFAULT = "(no database is configured: this is the default; set SONIQ_DATABASE_URL)"


async def test_an_application_without_a_database_says_that_it_tried_the_default(monkeypatch):
    monkeypatch.setenv("PGPORT", "1")  # where nobody listens
    for use in (Soniq().ensure_initialized, Soniq().setup):
        with pytest.raises(DatabaseUnavailableError) as refused:
            await use()
        assert "port 1 failed" in str(refused.value)
        assert str(refused.value).endswith(f" {DEFAULT}")


async def test_a_database_that_somebody_has_named_is_not_called_the_default(monkeypatch):
    url = "postgresql://postgres@localhost:1/soniq"
    named = Soniq(url)
    monkeypatch.setenv("SONIQ_DATABASE_URL", url)
    bound = Soniq()
    monkeypatch.delenv("SONIQ_DATABASE_URL")
    for app in (named, bound):
        with pytest.raises(DatabaseUnavailableError) as refused:
            await app.ensure_initialized()
        assert DEFAULT not in str(refused.value)


def test_an_unknown_setting_names_the_nearest_one():
    with pytest.raises(ConfigurationError, match=r'conccurrency: unknown setting; did you mean "concurrency"\?'):
        Soniq(conccurrency=3)


def test_keywords_win_over_the_environment(monkeypatch):
    monkeypatch.setenv("SONIQ_MAX_RETRIES", "7")
    monkeypatch.setenv("SONIQ_PRIORITY", "5")
    settings = Soniq(backend="memory", max_retries=1).settings
    assert (settings.max_retries, settings.priority) == (1, 5)


@pytest.mark.parametrize(
    ("arguments", "location"),
    [
        ({"backend": "memory"}, "memory://"),
        ({"database_url": "memory://"}, "memory://"),
        ({"database_url": "jobs.db"}, "jobs.db"),
        ({"database_url": "sqlite:///jobs.sqlite3"}, "jobs.sqlite3"),
        ({"database_url": "some.file", "backend": "sqlite"}, "some.file"),
        ({"database_url": "odd%20name", "backend": "sqlite"}, "odd%20name"),
        ({"backend": "sqlite"}, "soniq.db"),
        ({"database_url": f"postgresql://me:{PASSWORD}@db.example/shop"}, "db.example"),
        ({"backend": "postgres"}, "localhost"),
        ({}, "localhost"),
    ],
)
def test_the_backend_follows_from_url_and_name(arguments, location):
    shown = Soniq(**arguments).backend.location
    assert location in shown
    assert PASSWORD not in shown


def test_the_environment_names_the_database_of_an_application_without_one(monkeypatch):
    monkeypatch.setenv("SONIQ_DATABASE_URL", "sqlite:///from_environment.db")
    assert "from_environment.db" in Soniq().backend.location
    assert Soniq(backend="memory").backend.location == "memory://"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"database_url": "mysql://localhost"}, "expected"),
        ({"database_url": "jobs"}, "expected"),
        ({"backend": "redis"}, "expected"),
        ({"database_url": f"postgresql://me:{PASSWORD}@db/shop", "backend": "sqlite"}, "cannot use backend 'sqlite'"),
        ({"database_url": "jobs.db", "backend": "postgres"}, "cannot use backend 'postgres'"),
        ({"database_url": "jobs.db", "backend": "memory"}, "cannot use backend 'memory'"),
        ({"database_url": f"postgresql://me:{PASSWORD}@db/x", "backend": MemoryBackend()}, "cannot use both"),
    ],
)
def test_contradictions_are_refused_without_showing_passwords(arguments, problem):
    with pytest.raises(ConfigurationError, match=problem) as caught:
        Soniq(**arguments)
    assert PASSWORD not in str(caught.value)


def test_an_environment_of_another_kind_contradicts_the_backend(monkeypatch):
    monkeypatch.setenv("SONIQ_DATABASE_URL", "jobs.db")
    with pytest.raises(ConfigurationError, match="cannot use backend 'postgres'"):
        Soniq(backend="postgres")


async def test_the_context_manager_opens_and_closes():
    async with Soniq(backend="memory") as app:
        assert app.is_initialized
        assert await app.get_queue_stats() == []
    assert app.is_closed
    await app.close()
    with pytest.raises(ClosedError):
        await app.get_queue_stats()
    with pytest.raises(ClosedError):
        await app.ensure_initialized()


async def test_the_first_use_opens():
    app = Soniq(backend="memory")
    states = [app.is_initialized]
    await app.get_queue_stats()
    states.append(app.is_initialized)
    await app.ensure_initialized()
    await app.close()
    assert states == [False, True]


async def test_a_lent_backend_is_shared_and_stays_open():
    lent = MemoryBackend()
    app = Soniq()
    app.use_backend(lent)
    app.job(name="a.b")(lambda: None)
    job_id = await app.enqueue("a.b")
    await app.close()
    assert await lent.get_job(JobId(job_id)) is not None


async def test_reset_deletes_everything_in_a_testing_environment():
    async with Soniq(backend="memory", environment="testing", enqueue_validation="none") as app:
        await app.enqueue("a.b")
        await app.reset()
        assert await app.list_jobs() == []


async def test_reset_is_refused_elsewhere():
    async with Soniq(backend="memory") as app:
        with pytest.raises(ConfigurationError, match="cannot reset memory://: environment is 'production'"):
            await app.reset()


async def test_setup_answers_with_what_is_applied():
    async with Soniq(backend="memory") as app:
        assert (await app.setup()).pending == ()


def test_an_application_without_a_database_is_bound_to_the_daemons():
    app = Soniq(max_retries=9)

    @app.job(name="a.b", priority=4)
    def task(): ...

    @app.periodic(every=60, name="c.d")
    def periodic(): ...

    app.bind("sqlite:///daemon.db", max_retries=1, priority=2, result_ttl=5.0)
    assert "daemon.db" in app.backend.location
    assert (app.settings.max_retries, app.settings.priority, app.settings.result_ttl) == (9, 2, 5.0)
    bound = [(each.name, each.max_retries, each.priority) for each in app.tasks]
    assert bound == [("a.b", 9, 4), ("c.d", 9, 2)]
    assert [(spec.max_attempts, spec.priority) for spec in app.schedules] == [(10, 2)]


def test_the_daemons_settings_reach_tasks_that_say_nothing():
    app = Soniq()
    app.job(name="a.b")(lambda: None)
    app.job(name="c.d", retries=3)(lambda: None)
    app.bind("sqlite:///daemon.db", max_retries=7)
    assert [task.max_retries for task in app.tasks] == [7, 3]


def test_the_same_database_may_be_bound():
    Soniq("sqlite:///daemon.db").bind("daemon.db")


@pytest.mark.parametrize("made", [{"database_url": f"postgresql://me:{PASSWORD}@db/shop"}, {"backend": "memory"}])
def test_binding_another_database_names_both_without_passwords(made):
    app = Soniq(**made)
    with pytest.raises(ConfigurationError, match=r"cannot bind this Soniq to .*it was made with") as caught:
        app.bind(f"postgresql://soniq:{PASSWORD}@db/other")
    assert "db/other" in str(caught.value)
    assert PASSWORD not in str(caught.value)


def test_a_backend_of_ones_own_cannot_be_bound():
    with pytest.raises(ConfigurationError, match="it was made with the backend memory://"):
        Soniq(backend=MemoryBackend()).bind("memory://")


async def test_what_is_open_cannot_be_bound():
    app = Soniq()
    app.use_backend(MemoryBackend())
    with pytest.raises(ConfigurationError, match="must not use the database while it is imported"):
        app.bind("sqlite:///daemon.db")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("postgresql://h/db", "postgres://h:5432/db", True),
        ("postgresql://a:x@H/db", "postgresql://b@h/db", True),
        ("postgresql://h/db", "postgresql://h:5433/db", False),
        ("postgresql://h/db", "postgresql://h/db2", False),
        ("postgresql://h/db", "postgresql://g/db", False),
        ("postgresql:///db", "postgresql://localhost/db", True),
        ("postgresql:///db?host=/run/pg", "postgresql:///db", False),
        ("postgresql:///db?host=/run/pg", "postgresql://%2Frun%2Fpg/db", True),
        ("postgresql://[::1]:5432/db", "postgresql://[::1]/db", True),
        ("postgresql://me@h", "postgresql://h/me", True),
        ("postgresql://h/db?options=-csearch_path%3Da", "postgresql://h/db", False),
        ("sqlite:///a.db", "a.db", True),
        ("sqlite:///./a.db", "sqlite:///a.db", True),
        ("sqlite:////tmp/a.db", "/tmp/a.db", True),
        ("sqlite:///a%20b.db", "a b.db", True),
        ("sqlite:///a.db", "b.db", False),
        ("memory://", "memory://", True),
        ("memory://", "sqlite:///a.db", False),
    ],
)
def test_urls_of_the_same_database_are_recognized(one, other, same):
    assert same_database(one, other) is same
    assert same_database(other, one) is same


def test_the_metrics_sink_and_the_retry_policy_are_the_applications():
    class Policy:
        def delay_s(self, *, task, attempt, error):
            return None

    sink, policy = NullMetricsSink(), Policy()
    app = Soniq(backend="memory", metrics_sink=sink, retry_policy=policy)
    assert (app.metrics_sink, app.retry_policy) == (sink, policy)


def test_all_public_names_can_be_imported():
    for name in soniqd.__all__:
        assert getattr(soniqd, name) is not None
        assert name in dir(soniqd)
    with pytest.raises(AttributeError, match="has no attribute 'Sonic'"):
        _ = soniqd.Sonic


def test_importing_the_package_imports_nothing_else():
    program = (
        "import soniqd, sys; print([m for m in ('pydantic', 'psycopg', 'asyncio', 'soniqd.app') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"


def test_an_application_that_only_enqueues_loads_no_worker_and_no_foreign_backend():
    program = (
        "import sys; from soniqd import Soniq; Soniq('sqlite:///x.db').backend;"
        "print([m for m in ('psycopg', 'soniqd.worker', 'uvloop', 'rich', 'click') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"
