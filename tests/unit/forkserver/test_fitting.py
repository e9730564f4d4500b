from dataclasses import replace

from soniqd.control.fork import Booted, BootFailed, encode
from soniqd.forkserver.fitting import fitting


def a_boot(tasks: int) -> Booted:
    names = tuple(f"a.rather.long.name.of.a.task.{number}" for number in range(tasks))
    return Booted(version="1", python="3", tasks=names, schedules=(), threads=(), import_s=0.1)


def test_a_message_that_fits_is_left_alone():
    assert fitting(a_boot(100)) == a_boot(100)


def test_names_are_left_out_until_the_packet_fits():
    fitted = fitting(a_boot(50_000))
    encode(fitted)
    assert fitted.tasks[0] == "a.rather.long.name.of.a.task.0"
    assert fitted.tasks[-1] == "..."
    assert len(fitted.tasks) > 1000


def test_the_end_of_a_traceback_and_the_start_of_a_problem_are_kept():
    failed = BootFailed(
        problems=("cannot import x: " + "ä" * 200_000,), traceback="x" * 300_000 + "the error", version="1"
    )
    fitted = fitting(failed)
    encode(fitted)
    assert fitted.problems[0].startswith("cannot import x: ä")
    assert fitted.traceback.endswith("the error")


def test_thousands_of_problems_fit():
    fitted = fitting(BootFailed(problems=("a problem of some length " * 20,) * 5000, traceback="", version="1"))
    encode(fitted)
    assert fitted.problems


def test_so_many_parts_of_code_that_they_do_not_fit_count_as_unknown():
    fitted = fitting(replace(a_boot(1), code={f"package{number}": "0123456789ab" for number in range(10_000)}))
    encode(fitted)
    assert fitted.code == {}
