"""The first fork server: what becomes of a master that cannot have it."""

from __future__ import annotations

import errno
import os

import pytest

from soniqd.forkserver import early


def test_where_no_process_can_be_made_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(early, "prepare_sharing", lambda: None)
    monkeypatch.setattr(os, "fork", refuse)
    assert early.fork_early(without=()) is None
