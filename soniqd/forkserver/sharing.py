"""Arrange a process's memory so that the children it will fork copy as little of it as possible.

A page is copied when a child writes the first byte into it. Three kinds of writes can be kept off the shared pages:

* the garbage collector's lists: ``gc.freeze`` takes everything out of them;
* new objects: the allocators hand out the small gaps that imports have left all over the heap, one page each. They are
  filled up here, so that children begin with pages of their own, next to each other;
* reference counts: reading an object writes its count, unless it is immortal (PEP 683, from Python 3.12 on). Constants,
  code, functions and classes of imported modules live as long as the process in any case, so they are made immortal.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

_ALIGNMENT = 16
_LARGEST_SMALL = 512
_POOL = 16 * 1024
_BYTES_OVERHEAD = 33
"""Of Objects/obmalloc.c: blocks are multiples of 16 bytes, up to 512, in pools of 16 KiB; and what a bytes object
takes beside its content. Where these are other numbers, fewer gaps are filled, or more is allocated."""

_FIRST_UNTRIED = (3, 15)
"""How a count says "immortal" is CPython's own business: to be looked up, and tried, for each version."""

_ROOM = 1 << 29
"""Python 3.14 drops references that it took before without looking again: the count must stay above its mark then."""

_MOST_GAPS = 20_000
"""Of one size: no more than 10 MiB even if these gaps never end."""

_LARGE = (65536, 32768, 16384, 8192, 4096, 2048, 1024, 512, 256, 128, 64, 24)

_IMMORTAL_KINDS = frozenset(
    id(kind)
    for kind in (
        str,
        bytes,
        int,
        float,
        complex,
        tuple,
        frozenset,
        property,
        staticmethod,
        classmethod,
        types.FunctionType,
        types.CodeType,
        types.CellType,
        types.ModuleType,
        types.BuiltinFunctionType,
        types.MethodDescriptorType,
        types.WrapperDescriptorType,
        types.GetSetDescriptorType,
        types.MemberDescriptorType,
        types.ClassMethodDescriptorType,
    )
)
"""Nothing here runs code when it ends, and nothing waits for its end. By id: not every class can be hashed."""

_kept: list[object] = []


class _Mallinfo(ctypes.Structure):
    """``struct mallinfo2``, see mallinfo(3)."""

    _fields_ = (
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks")),
        *((name, ctypes.c_size_t) for name in ("uordblks", "fordblks", "keepcost")),
    )


def prepare_sharing() -> None:
    """Collect garbage, then settle what is alive for all children; to be called once, after all imports."""
    gc.collect()
    if _has_immortals():
        _immortalize()
    _fill_small_gaps()
    _fill_large_gaps()
    gc.freeze()


def _fill_small_gaps() -> None:
    """Allocate blocks of each size until they come from a fresh pool, which shows by their order."""
    for size in range(_ALIGNMENT, _LARGEST_SMALL + 1, _ALIGNMENT):
        make, in_a_row, last = _maker(size), 0, 0
        for _ in range(_MOST_GAPS):
            _kept.append(block := make())
            in_a_row = in_a_row + 1 if id(block) == last + size else 0
            last = id(block)
            if in_a_row >= _POOL // size // 2:
                break


def _maker(size: int) -> Callable[[], object]:
    if size == _ALIGNMENT:
        return object
    if size == 2 * _ALIGNMENT:
        return itertools.count(1000).__next__  # an int of this size is 28 bytes
    return lambda: bytes(size - _BYTES_OVERHEAD)


def _fill_large_gaps() -> None:
    """Take what malloc(3) has between what is allocated, the largest gaps first, but not what is at the end of it."""
    libc = ctypes.CDLL(None)
    try:
        libc.mallinfo2.restype = _Mallinfo
    except AttributeError:  # not glibc, or one before 2.33
        return
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
    for size in _LARGE:
        info = libc.mallinfo2()
        while info.fordblks - info.keepcost >= size:
            libc.malloc(size)
            before, info = info, libc.mallinfo2()
            if (info.arena, info.keepcost, info.hblks) != (before.arena, before.keepcost, before.hblks):
                break  # no gap is so large: it came from the end, or from mmap(2) (see MALLOC_MMAP_THRESHOLD_)


def _has_immortals() -> bool:
    """Tell whether reference counts can be switched off for an object: in the usual builds where that was tried.

    Objects of a build without the global lock begin with something else, also while the lock is on.
    """
    return (
        (3, 12) <= sys.version_info < _FIRST_UNTRIED
        and sys.implementation.name == "cpython"
        and not hasattr(sys, "gettotalrefcount")
        and "t" not in sys.abiflags
    )


def _immortalize() -> None:
    count = ctypes.c_uint32
    mark = count.from_address(id(None)).value | _ROOM
    for each in _lasting():
        count.from_address(id(each)).value = mark


def _lasting() -> Iterator[Any]:
    """Yield what imported modules consist of, some of it many times.

    No object is asked anything, its ``__class__`` included: proxies would do what they stand for, or raise an error.
    """
    for tracked in gc.get_objects():
        for each in (tracked, *gc.get_referents(tracked)):
            kind = type(each)
            if id(kind) in _IMMORTAL_KINDS or issubclass(kind, type):
                yield each
                if kind is types.CodeType:
                    yield from _constants(each)


def _constants(code: types.CodeType) -> Iterator[Any]:
    yield from (code.co_consts, code.co_names, code.co_qualname, code.co_filename)
    for constant in code.co_consts:
        if id(type(constant)) in _IMMORTAL_KINDS:
            yield constant
        if isinstance(constant, types.CodeType):
            yield from _constants(constant)
