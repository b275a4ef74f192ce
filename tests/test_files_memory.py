"""files/memory.py: what a container allows counts, what nobody tells is None; enough or not."""

import os

import pytest

from files import memory
from files.memory import LowMemoryError, measure_memory, require_memory


@pytest.fixture
def containers(tmp_path, monkeypatch):
    """The folders of control groups of version 2 and 1, with no files in them yet."""
    folders = tmp_path / "2", tmp_path / "1"
    for folder in folders:
        folder.mkdir()
    described = [
        (folder, *rest) for folder, (_, *rest) in zip(folders, memory.CONTAINERS, strict=True)
    ]
    monkeypatch.setattr(memory, "CONTAINERS", described)
    return folders


@pytest.fixture
def meminfo(tmp_path, monkeypatch):
    """meminfo(text) makes this what Linux says of the memory."""

    def say(text):
        path = tmp_path / "meminfo"
        path.write_text(text)
        monkeypatch.setattr(memory, "open", lambda name: open(path), raising=False)

    return say


LINUX = "MemTotal:       2048 kB\nMemFree:   5 kB\nMemAvailable:   1000 kB\nHugePages_Total: 0\n"


def test_linux_tells_both(containers, meminfo):
    meminfo(LINUX)
    assert measure_memory() == (2048 * 1024, 1000 * 1024)


def test_a_containers_limit_counts_the_smaller_where_there_are_two(containers, meminfo):
    meminfo(LINUX)
    limits = containers[0] / "memory.max", containers[1] / "memory.limit_in_bytes"
    limits[0].write_text("max\n")
    assert measure_memory() == (2048 * 1024, 1000 * 1024)
    limits[1].write_text("1234567\n")
    assert measure_memory() == (1234567, 1000 * 1024)
    limits[0].write_text("123456\n")
    assert measure_memory() == (123456, 123456)
    limits[0].write_text("1234568\n")
    limits[1].write_text("123457\n")
    assert measure_memory() == (123457, 123457)
    limits[1].write_text("9223372036854771712\n")  # how version 1 says that there is none
    assert measure_memory() == (1234568, 1000 * 1024)


@pytest.mark.parametrize("version", [2, 1])
def test_what_a_container_uses_is_not_available_but_for_files_in_memory(
    containers, meminfo, version
):
    meminfo(LINUX)
    folder = containers[2 - version]
    limit, used = {
        2: ("memory.max", "memory.current"),
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    }[version]
    scope = {2: "", 1: "total_"}[version]
    (folder / limit).write_text("500000\n")
    (folder / used).write_text("400000\n")
    assert measure_memory() == (500000, 500000)  # nobody tells what of it are files
    files = f"{scope}inactive_file 100000\n{scope}active_file 50000\n"
    statistics = f"cache 7\ninactive_file 1\nactive_file 2\n{files}shmem 9\n"
    (folder / "memory.stat").write_text(statistics)
    assert measure_memory() == (500000, 250000)
    (folder / used).write_text("700000\n")
    assert measure_memory() == (500000, 0)
    (folder / used).write_text("1000\n")
    assert measure_memory() == (500000, 500000)
    for odd in ("odd", f"{scope}inactive_file\n", f"{scope}inactive_file x\n"):
        (folder / "memory.stat").write_text(odd)
        assert measure_memory() == (500000, 500000)


@pytest.mark.parametrize("text", ["", "MemTotal: 2048 kB\n", "MemTotal: much\n", "no colon\n"])
def test_elsewhere_the_total_comes_from_sysconf(containers, meminfo, monkeypatch, text):
    meminfo(text)
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 10}.get)
    assert measure_memory() == (40960, None)
    monkeypatch.delattr(os, "sysconf")
    (containers[0] / "memory.max").write_text("123456\n")
    assert measure_memory() == (None, None)


@pytest.mark.parametrize("measured", [(None, None), (10**9, None), (None, 10**9), (10**9, 10**9)])
def test_enough_memory_or_nobody_knows(monkeypatch, capfd, measured):
    monkeypatch.setattr(memory, "measure_memory", lambda: measured)
    require_memory("124M", 10**9)
    assert capfd.readouterr() == ("", "")
    require_memory("124M", 10**9, "a gigabyte")
    assert capfd.readouterr() == ("", "a gigabyte\n")


def test_what_can_never_fit_is_refused_without_its_announcement(monkeypatch, capfd):
    monkeypatch.setattr(memory, "measure_memory", lambda: (10**9 - 10**8, 10**8))
    with pytest.raises(LowMemoryError) as caught:
        require_memory("124M", 10**9, "a gigabyte")
    assert str(caught.value) == (
        "124M needs 1.0 GB of memory, and this computer has 900.0 MB; take a smaller model"
    )
    assert capfd.readouterr() == ("", "")


def test_what_does_not_fit_now_is_announced_and_warned_of(monkeypatch, capfd):
    monkeypatch.setattr(memory, "measure_memory", lambda: (10**10, 10**8))
    require_memory("124M", 10**9, "a gigabyte")
    assert capfd.readouterr() == (
        "",
        "a gigabyte\n124M needs 1.0 GB of memory, only 100.0 MB are available: it may be very "
        "slow; close other programs or take a smaller model\n",
    )


def test_the_memory_of_this_process_grows_with_what_it_holds(monkeypatch):
    before = memory.measure_resident()
    if before is None:
        pytest.skip("this system does not tell")
    held = b"x" * 10**8
    assert 0.9e8 < memory.measure_resident() - before < 1.1e8
    assert before > 10**7 and len(held) == 10**8
