"""What a reload says that it does."""

from __future__ import annotations

from typing import Any

from soniqd.settings import restore_settings
from soniqd.settings.daemon import DaemonSettings
from soniqd.supervisor.plan import make_plan
from soniqd.supervisor.preview import Preview, changed_parts, fingerprint_of, preview

OLD_CODE = {"shop": "1", "soniqd": "2"}


def settings(**tables: object) -> DaemonSettings:
    return restore_settings({"scheduler": {"enabled": False}, **tables})


def reasons(
    new: DaemonSettings, code: dict[str, str] | None = None, *, everything: bool = False, **options: Any
) -> dict[str, tuple[str, ...]]:
    return {group.name: group.reasons for group in compare(new, code, everything=everything, **options).groups}


def compare(
    new: DaemonSettings,
    code: dict[str, str] | None = None,
    *,
    old_code: dict[str, str] | None = None,
    everything: bool = False,
    others: tuple[str, ...] = (),
) -> Preview:
    old = settings()
    return preview(
        old,
        new,
        old_code=OLD_CODE if old_code is None else old_code,
        new_code=OLD_CODE if code is None else code,
        fingerprints={fingerprint_of(OLD_CODE, old), *others},
        running=make_plan(old),
        everything=everything,
    )


def test_nothing_changed():
    found = compare(settings())
    assert (found.settings, found.code, [group.action for group in found.groups]) == ((), (), ["stay"])


def test_the_parts_of_the_code_that_changed_are_named():
    assert reasons(settings(), {"shop": "1", "soniqd": "3", "more": "1"}) == {
        "default": ("code changed: more, soniqd",)
    }


def test_a_setting_of_every_child_is_a_reason_and_not_a_change_of_code():
    assert reasons(settings(jobs={"timeout": 60})) == {"default": ("[jobs] timeout: 5m -> 1m",)}


def test_a_setting_of_the_master_replaces_nothing_and_is_told():
    found = compare(settings(soniqd={"probation": 60}))
    assert found.settings == ("[soniqd] probation: 5s -> 1m",)
    assert [group.action for group in found.groups] == ["stay"]


def test_changed_files_in_the_path_do_not_read_as_a_changed_setting():
    found = compare(settings(), {**OLD_CODE, "[jobs] path": "2"}, old_code={**OLD_CODE, "[jobs] path": "1"})
    assert found.code == ("[jobs] path",)
    assert found.groups[0].reasons == ("code changed: Python files in [jobs] path",)


def test_everything_is_a_reason_of_its_own():
    assert reasons(settings(), everything=True) == {"default": ("everything was asked for",)}


def test_children_of_other_code_than_the_fork_servers_count_as_changed_code():
    assert reasons(settings(), others=("older",)) == {"default": ("code changed: it is not known where",)}


def test_code_that_is_not_known_counts_as_changed():
    assert reasons(settings(), {}) == {"default": ("code changed: shop, soniqd",)}


def test_after_another_image_has_taken_over_without_the_parts_equal_code_is_equal_all_the_same():
    assert compare(settings(), old_code={}).groups[0].action == "stay"
    assert changed_parts({}, {"shop": "2"}) == ("it is not known where",)
