import sys
import textwrap

import pytest

from soniqd.errors import JobsModuleError
from soniqd.forkserver.loading import load_jobs
from soniqd.roles import LoadedJobs
from soniqd.settings import DaemonSettings, DatabaseTable, JobsTable

APP = "from soniqd import Soniq\napp = Soniq()\n"


@pytest.fixture
def write(tmp_path):
    """Write modules that can be imported until the test is over."""
    before, modules = list(sys.path), set(sys.modules)

    def write(**sources: str) -> None:
        for name, source in sources.items():
            path = tmp_path.joinpath(*name.split("__")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(source))

    yield write
    sys.path[:] = before
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.fixture
def load(tmp_path):
    def load(*modules: str, url: str = "sqlite:////nowhere/jobs.db") -> LoadedJobs:
        settings = DaemonSettings(
            jobs=JobsTable(modules=modules, path=(tmp_path,), max_retries=7), database=DatabaseTable(url=url)
        )
        return load_jobs(settings)

    return load


@pytest.fixture
def problem(load):
    """The one problem that loading these modules raises."""

    def problem(*modules: str, **fields) -> str:
        with pytest.raises(JobsModuleError) as raised:
            load(*modules, **fields)
        (only,) = raised.value.problems
        return only

    return problem


def test_tasks_and_schedules_are_found_and_bound_to_the_daemons_database(write, load):
    write(alpha_jobs=APP + "@app.job(name='greet')\ndef greet(): ...\n@app.periodic(every=5)\ndef tick(): ...\n")
    jobs = load("alpha_jobs")
    assert set(jobs.tasks.names()) >= {"greet"}
    assert len(jobs.schedules) == 1
    (app,) = jobs.apps
    assert app.settings.database_url == "sqlite:////nowhere/jobs.db"


def test_what_a_job_does_not_say_the_daemons_settings_say(write, load):
    write(settled=APP + "@app.job(name='a')\ndef a(): ...\n@app.job(name='b', retries=1)\ndef b(): ...\n")
    tasks = load("settled").tasks
    assert [tasks.get(name).max_retries for name in ("a", "b")] == [7, 1]


def test_several_modules_of_one_application_are_one(write, load):
    write(
        shop____init__="",
        shop__core=APP,
        shop__mail="from shop.core import app\n@app.job(name='mail')\ndef mail(): ...\n",
        shop__bill="from shop.core import app\n@app.job(name='bill')\ndef bill(): ...\n",
    )
    jobs = load("shop.mail", "shop.bill")
    assert len(jobs.apps) == 1
    assert set(jobs.tasks.names()) == {"mail", "bill"}


def test_two_applications_are_merged(write, load):
    write(one=APP + "@app.job(name='a')\ndef a(): ...\n", two=APP + "@app.job(name='b')\ndef b(): ...\n")
    assert set(load("one", "two").tasks.names()) == {"a", "b"}


def test_two_applications_with_one_task_name_clash(write, problem):
    source = APP + "@app.job(name='send')\ndef send(): ...\n"
    write(first=source, second=source)
    said = problem("first", "second")
    assert "'send'" in said
    assert "first.py:" in said
    assert "second.py:" in said


def test_a_named_instance_is_used(write, load):
    write(many="from soniqd import Soniq\na = Soniq()\nb = Soniq()\n@b.job(name='x')\ndef x(): ...\n")
    assert load("many:b").tasks.names() == ("x",)


def test_another_database_is_told_beside_modules_that_cannot_be_imported(write, load):
    write(other='from soniqd import Soniq\napp = Soniq("sqlite:////elsewhere/jobs.db")\n')
    with pytest.raises(JobsModuleError) as raised:
        load("other", "absent")
    [absent, other] = raised.value.problems
    assert absent.startswith("cannot import absent")
    assert "/elsewhere/jobs.db" in other


def test_a_nested_instance_can_be_named(write, load):
    write(deep="from soniqd import Soniq\nclass Holder:\n    app = Soniq()\n")
    assert len(load("deep:Holder.app").apps) == 1


def test_one_instance_under_two_names_is_one(write, load):
    write(twice=APP + "application = app\n")
    assert len(load("twice").apps) == 1


def test_several_instances_have_to_be_told_apart(write, problem):
    write(several="from soniqd import Soniq\na = Soniq()\nb = Soniq()\n")
    assert problem("several") == 'cannot use several: it has 2 Soniq instances: say "several:a" or "several:b"'


def test_a_module_without_an_application_is_a_problem(write, problem):
    write(empty="x = 1\n")
    assert problem("empty") == "cannot use empty: it has no Soniq instance"


def test_another_packages_soniq_is_recognised(write, problem):
    write(mover="class Soniq: ...\napp = Soniq()\n")
    assert problem("mover").endswith('(app is a mover.Soniq: use "from soniqd import Soniq")')


def test_a_name_that_is_not_an_application_is_a_problem(write, problem):
    write(wrong=APP + "other = 3\n")
    assert problem("wrong:other") == "cannot use wrong:other: other is a builtins.int, not a soniqd.Soniq"
    assert "no attribute 'missing'" in problem("wrong:missing")


def test_no_modules_at_all_is_a_problem(problem):
    assert problem() == "nothing to run: [jobs] modules names no module"


def test_a_missing_module_says_where_it_was_looked_for(problem, tmp_path):
    said = problem("nowhere_to_be_found.jobs")
    assert said.startswith(f"cannot import nowhere_to_be_found.jobs: there is no nowhere_to_be_found in {tmp_path}")
    assert "[jobs] path" in said


def test_a_missing_import_inside_a_module_names_its_line(write, problem, tmp_path):
    write(needy="\nimport not_installed_anywhere\n")
    said = problem("needy")
    assert "No module named 'not_installed_anywhere'" in said
    assert said.endswith(f"({tmp_path}/needy.py:2)")


def test_a_syntax_error_names_its_line(write, problem, tmp_path):
    write(broken="def f(:\n")
    assert f"SyntaxError: invalid syntax ({tmp_path}/broken.py:1)" in problem("broken")


def test_an_exit_at_import_is_a_problem_not_an_exit(write, problem, tmp_path):
    write(quitter="import sys\nsys.exit(3)\n")
    assert problem("quitter") == f"cannot import quitter: it left with sys.exit(3) ({tmp_path}/quitter.py:2)"


def test_an_application_with_another_database_names_both_without_passwords(write, problem):
    write(elsewhere="from soniqd import Soniq\napp = Soniq('postgresql://u:hunter2@db/other')\n")
    said = problem("elsewhere", url="postgresql://v:sesame@db/jobs")
    assert "db/other" in said
    assert "db/jobs" in said
    assert "hunter2" not in said
    assert "sesame" not in said


def test_every_broken_module_is_named_at_once_and_the_tracebacks_are_kept(write, load):
    write(bad_one="1 / 0\n", bad_two="raise RuntimeError('no')\n")
    with pytest.raises(JobsModuleError) as raised:
        load("bad_one", "bad_two")
    assert len(raised.value.problems) == 2
    assert "ZeroDivisionError" in raised.value.context["traceback"]
    assert "RuntimeError: no" in raised.value.context["traceback"]


def test_folders_of_the_path_come_first_and_once(write, load, tmp_path):
    write(placed=APP)
    load("placed")
    load("placed")
    assert sys.path[0] == str(tmp_path)
    assert sys.path.count(str(tmp_path)) == 1


def test_each_job_meets_the_hooks_of_its_own_application(write, load):
    source = (
        APP + "@app.job(name='{0}')\ndef f(): ...\nseen = []\napp.before_job(lambda job_name: seen.append(job_name))\n"
    )
    write(red=source.format("red"), blue=source.format("blue"))
    jobs = load("red", "blue")
    assert jobs.hooks.before
    assert jobs.hooks.run_before("red", "id", {}) is None
    assert (sys.modules["red"].seen, sys.modules["blue"].seen) == (["red"], [])
