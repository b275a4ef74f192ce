"""files/lock.py: one process at a time, and no lock outlives its process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from files import lock
from files.lock import open_lock, try_lock

PROGRAM = """
import sys
from files.lock import try_lock

with open(sys.argv[1], "a") as file:
    print(try_lock(file), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def start(tmp_path):
    """start() is a process that tries to lock, says whether it could, and waits for its end."""
    processes = []

    def start_process():
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "lock")],
            cwd=Path(lock.__file__).resolve().parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start_process
    for process in processes:
        process.kill()
        process.communicate()


def test_another_process_holds_the_lock_until_it_ends_however_it_ends(tmp_path, start):
    first = start()
    assert first.stdout.readline() == "True\n"
    second = start()
    assert second.stdout.readline() == "False\n"
    with open(tmp_path / "lock", "a") as file:
        assert not try_lock(file)
        first.kill()
        first.wait()
        assert try_lock(file)


def test_an_open_file_is_locked_against_another_of_the_same_process_until_it_is_closed(tmp_path):
    with open(tmp_path / "lock", "a") as file, open(tmp_path / "lock", "a") as other:
        assert try_lock(file)
        assert try_lock(file)
        assert not try_lock(other)
        file.close()
        assert try_lock(other)


def test_a_lock_is_opened_with_its_folder_or_is_anothers(tmp_path):
    path = tmp_path / "made" / "too" / "lock"
    with open_lock(path) as file:
        assert os.path.samestat(os.fstat(file.fileno()), path.stat())
        assert open_lock(path) is None
    open_lock(path).close()


def test_any_other_error_is_no_answer(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def no_locks(*arguments):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with open(tmp_path / "lock", "a") as file, pytest.raises(OSError, match="No locks available"):
        try_lock(file)


@pytest.mark.skipif(os.name == "nt", reason="Windows has locks of its own")
def test_a_system_without_locks_has_no_other_process(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with open(tmp_path / "lock", "a") as file:
        assert try_lock(file)
