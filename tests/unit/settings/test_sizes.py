"""Sizes, limits, CPUs and masks as people write them."""

from __future__ import annotations

import resource

import pytest

from soniqd.settings.process import RLIMITS, UNLIMITED, parse_cpus, parse_limit, parse_umask
from soniqd.settings.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("512MB", 512_000_000),
        ("512 MiB", 536_870_912),
        ("1.5GiB", 1_610_612_736),
        ("1kB", 1000),
        ("1KB", 1000),
        ("64KiB", 65_536),
        ("2TB", 2 * 10**12),
        ("7B", 7),
        ("7", 7),
        (0, 0),
        (4096, 4096),
    ],
)
def test_a_size_is_read(written, size):
    assert parse_size(written) == size


@pytest.mark.parametrize(
    "written", ["", "MB", "-1MB", -1, 1.5, True, "5 mb", "5M", "9999999TB", None, [1], 10**400, "9" * 400]
)
def test_what_is_no_size_is_refused(written):
    with pytest.raises(ValueError, match='expected a size such as "512MB", "1GiB" or a number of bytes'):
        parse_size(written)


@pytest.mark.parametrize("size", [1, 1000, 1024, 512_000_000, 2**31, 2**31 + 1, 3 * 10**12])
def test_a_written_size_is_read_back(size):
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(("size", "written"), [(512_000_000, "512MB"), (2**30, "1GiB"), (1000, "1kB"), (5, "5")])
def test_a_size_is_written_with_its_largest_unit(size, written):
    assert format_size(size) == written


@pytest.mark.parametrize(
    ("written", "limit"), [(1024, 1024), ("2GB", 2 * 10**9), ("unlimited", UNLIMITED), (-1, UNLIMITED), (0, 0)]
)
def test_a_limit_is_read(written, limit):
    assert parse_limit(written) == limit


@pytest.mark.parametrize("written", ["many", -2, True, "infinity", 1.5])
def test_what_is_no_limit_is_refused(written):
    with pytest.raises(ValueError, match='expected a number, a size such as "2GB" or "unlimited", got'):
        parse_limit(written)


def test_limits_have_the_names_of_the_manual():
    assert RLIMITS["nofile"] == resource.RLIMIT_NOFILE
    assert RLIMITS["as"] == resource.RLIMIT_AS
    assert "ofile" not in RLIMITS


@pytest.mark.parametrize(
    ("written", "cpus"),
    [
        ("0-3,6", (0, 1, 2, 3, 6)),
        (" 6 , 0 - 1 ", (0, 1, 6)),
        ("5", (5,)),
        ("", ()),
        ([3, 1, 1], (1, 3)),
        ((), ()),
    ],
)
def test_cpus_are_read(written, cpus):
    assert parse_cpus(written) == cpus


@pytest.mark.parametrize("written", ["a", "3-1", "1,,2", "-1", "0-9999999", [-1], ["1"], [True], 3, "1-2-3"])
def test_what_are_no_cpus_is_refused(written):
    with pytest.raises(ValueError, match=r'expected CPUs such as "0-3,6" or \[0, 1, 2, 3, 6\], got'):
        parse_cpus(written)


@pytest.mark.parametrize("written", ["0027", "077", "000"])
def test_a_mask_is_read(written):
    assert parse_umask(written) == written


@pytest.mark.parametrize("written", ["27", "0o27", "0028", "1027", 27, 0o27])
def test_what_is_no_mask_is_refused(written):
    with pytest.raises(ValueError, match='expected the octal digits of a umask as a string, such as "0027", got'):
        parse_umask(written)
