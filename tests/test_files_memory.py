"""files/memory.py: what a container allows counts, and what nobody tells is None."""

import os

import pytest

from files import memory
from files.memory import measure_memory


@pytest.fixture
def limits(tmp_path, monkeypatch):
    """The files that say a container's limits, none of them there yet."""
    paths = tmp_path / "memory.max", tmp_path / "memory.limit_in_bytes"
    monkeypatch.setattr(memory, "CONTAINER_LIMITS", paths)
    return paths


@pytest.fixture
def meminfo(tmp_path, monkeypatch):
    """meminfo(text) makes this what Linux says of the memory."""

    def say(text):
        path = tmp_path / "meminfo"
        path.write_text(text)
        monkeypatch.setattr(memory, "open", lambda name: open(path), raising=False)

    return say


LINUX = "MemTotal:       2048 kB\nMemFree:   5 kB\nMemAvailable:   1000 kB\nHugePages_Total: 0\n"


def test_linux_tells_both(limits, meminfo):
    meminfo(LINUX)
    assert measure_memory() == (2048 * 1024, 1000 * 1024)


def test_a_containers_limit_counts(limits, meminfo):
    meminfo(LINUX)
    limits[0].write_text("max\n")
    assert measure_memory() == (2048 * 1024, 1000 * 1024)
    limits[1].write_text("1234567\n")
    assert measure_memory() == (1234567, 1000 * 1024)
    limits[0].write_text("123456\n")
    assert measure_memory() == (123456, 123456)


@pytest.mark.parametrize("text", ["", "MemTotal: 2048 kB\n", "MemTotal: much\n", "no colon\n"])
def test_elsewhere_the_total_comes_from_sysconf(limits, meminfo, monkeypatch, text):
    meminfo(text)
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 10}.get)
    assert measure_memory() == (40960, None)
    monkeypatch.delattr(os, "sysconf")
    limits[0].write_text("123456\n")
    assert measure_memory() == (None, None)
