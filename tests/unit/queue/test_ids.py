from __future__ import annotations

import os
import time
import uuid

import pytest

from soniqd.queue.ids import new_job_id, new_job_ids, parse_job_id


def test_an_id_is_a_version_7_uuid_of_this_moment():
    before = time.time_ns() // 1_000_000
    parsed = uuid.UUID(new_job_id())
    after = time.time_ns() // 1_000_000
    assert parsed.version == 7
    assert parsed.variant == uuid.RFC_4122
    assert before <= parsed.int >> 80 <= after


def test_an_id_is_canonical_text():
    job_id = new_job_id()
    assert job_id == str(uuid.UUID(job_id))


def test_many_ids_are_all_different():
    assert len({new_job_id() for _ in range(20_000)}) == 20_000


def test_a_forked_process_does_not_repeat_ids():
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, "".join(new_job_id() for _ in range(50)).encode())
        os._exit(0)
    os.close(write)
    mine = {new_job_id() for _ in range(50)}
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    assert not mine & {text[start : start + 36] for start in range(0, len(text), 36)}


def test_ids_of_one_moment_are_like_single_ones():
    before = time.time_ns() // 1_000_000
    ids = new_job_ids(1000)
    after = time.time_ns() // 1_000_000
    assert len(set(ids)) == 1000
    for parsed in map(uuid.UUID, ids):
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
        assert before <= parsed.int >> 80 <= after
    assert ids == [str(uuid.UUID(job_id)) for job_id in ids]
    assert ids == sorted(ids)
    assert new_job_ids(0) == []


@pytest.mark.parametrize("at", range(74))
def test_every_random_bit_of_an_id_varies(at):
    place = at if at < 62 else at + 2  # bits 62 and 63 are the variant's
    ids = [uuid.UUID(job_id).int for job_id in [*new_job_ids(100), *(new_job_id() for _ in range(100))]]
    assert {job_id >> place & 1 for job_id in ids[:100]} == {job_id >> place & 1 for job_id in ids[100:]} == {0, 1}


@pytest.mark.parametrize(
    "value", ["01A203C6-4037-7088-9839-A6FFFFB2DAF1", uuid.UUID("01a203c6-4037-7088-9839-a6ffffb2daf1")]
)
def test_every_form_of_an_id_becomes_canonical(value):
    assert parse_job_id(value) == "01a203c6-4037-7088-9839-a6ffffb2daf1"


@pytest.mark.parametrize("value", ["", "42", "not-an-id", None, 42])
def test_what_cannot_be_an_id_is_none(value):
    assert parse_job_id(value) is None
