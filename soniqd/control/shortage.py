"""What a host that has run out of something answers: no defect of this program, and for people to act on."""

from __future__ import annotations

import errno

_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOBUFS, errno.ENOSPC})


def is_of_descriptors(error: OSError) -> bool:
    """Whether this process, or its host, may open no more files."""
    return error.errno in (errno.EMFILE, errno.ENFILE)


def shortage(error: BaseException) -> str | None:
    """Return what there is too little of, for people; None for any other error."""
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, OSError) and error.errno in _SHORTAGES:
        return error.strerror
    return None
