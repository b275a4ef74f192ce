"""files/whole.py leaves every file whole, whatever fails and whenever it is killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from files import whole
from files.whole import write_whole

ROOT = Path(whole.__file__).resolve().parents[1]
BEFORE = {"a": b"old a", "b": b"old b", "c": b"old c"}
AFTER = {"a": b"the other a", "b": b"", "c": b"the other c"}
NO_SPACE = (28, "No space left on device")


def contents_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def paths(tmp_path):
    """{name: path} of three files that are there."""
    for name, content in BEFORE.items():
        (tmp_path / name).write_bytes(content)
    return {name: tmp_path / name for name in BEFORE}


@pytest.mark.parametrize("kind", [Path, str])
def test_files_are_made_and_replaced_and_nothing_else_is_left(tmp_path, kind):
    (tmp_path / "a").write_bytes(BEFORE["a"])
    (tmp_path / "b.tmp").write_bytes(b"of a process that was killed")
    write_whole({kind(tmp_path / name): content for name, content in AFTER.items()})
    assert contents_of(tmp_path) == AFTER


def test_a_content_may_be_a_function_that_writes(paths):
    def write(file):
        file.writelines([b"in ", b"pieces"])

    write_whole({paths["a"]: write})
    assert paths["a"].read_bytes() == b"in pieces"


def test_contents_are_on_the_disk_before_the_first_takes_its_name(paths, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(descriptor):
        calls.append(("fsync", os.fstat(descriptor).st_size))
        fsync(descriptor)

    def watched_replace(source, target):
        calls.append(("replace", Path(target).name))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    write_whole({paths[name]: content for name, content in AFTER.items()})
    sizes = [("fsync", len(content)) for content in AFTER.values()]
    assert calls == [*sizes, *(("replace", name) for name in AFTER)]


@pytest.mark.parametrize("step", range(6))
@pytest.mark.parametrize("error", [OSError(*NO_SPACE), KeyboardInterrupt()])
def test_a_failure_at_any_step_names_the_file_and_leaves_each_whole(
    tmp_path, paths, monkeypatch, step, error
):
    steps_left = step

    def failing(function):
        def call(*arguments):
            nonlocal steps_left
            steps_left -= 1
            if steps_left == -1:
                raise error
            function(*arguments)

        return call

    monkeypatch.setattr(os, "fsync", failing(os.fsync))
    monkeypatch.setattr(os, "replace", failing(os.replace))
    with pytest.raises(type(error)) as caught:
        write_whole({paths[name]: content for name, content in AFTER.items()})
    n_replaced = max(0, step - 3)
    expected = BEFORE | dict(list(AFTER.items())[:n_replaced])
    assert contents_of(tmp_path) == expected
    if isinstance(error, OSError):
        assert caught.value.filename == str(paths["abc"[step % 3]])
        assert caught.value.filename2 is None


def test_a_content_that_fails_changes_nothing(tmp_path, paths):
    def write(file):
        file.write(b"half")
        raise OSError(*NO_SPACE)

    with pytest.raises(OSError) as caught:
        write_whole({paths["a"]: b"whole", paths["b"]: write})
    assert caught.value.filename == str(paths["b"])
    assert contents_of(tmp_path) == BEFORE

    with pytest.raises(ZeroDivisionError):
        write_whole({paths["a"]: b"whole", paths["b"]: lambda file: 1 / 0})
    assert contents_of(tmp_path) == BEFORE


@pytest.mark.parametrize("suffix", ["", ".tmp"])
def test_a_folder_in_the_way_stays_and_is_named_by_the_files_own_name(tmp_path, paths, suffix):
    in_the_way = tmp_path / f"d{suffix}"
    in_the_way.mkdir()
    with pytest.raises(OSError) as caught:
        write_whole({tmp_path / "d": b"d", tmp_path / "e": b"e"})
    assert caught.value.filename == str(tmp_path / "d")
    in_the_way.rmdir()
    assert contents_of(tmp_path) == BEFORE


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_whole({tmp_path / "nowhere" / "a": b""})
    assert caught.value.filename == str(tmp_path / "nowhere" / "a")


def test_the_caller_may_rename_in_an_order_of_its_own(tmp_path, paths):
    asked = {}

    def rename(temporary):
        asked.update(temporary)
        for part, path in reversed(temporary.items()):
            assert part.read_bytes() == AFTER[path.name]
            os.replace(part, path)

    write_whole({paths[name]: content for name, content in AFTER.items()}, rename)
    assert list(asked.values()) == list(paths.values())
    assert contents_of(tmp_path) == AFTER


def test_what_the_caller_does_not_rename_is_removed(tmp_path, paths):
    def rename(temporary):
        os.replace(tmp_path / "a.tmp", tmp_path / "a")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole({paths[name]: content for name, content in AFTER.items()}, rename)
    assert contents_of(tmp_path) == BEFORE | {"a": AFTER["a"]}


PROGRAM = """
import os, pathlib, sys
from files.whole import write_whole

folder, step, contents = pathlib.Path(sys.argv[1]), int(sys.argv[2]), eval(sys.argv[3])

def dying(function):
    def call(*arguments):
        global step
        step -= 1
        if step == -1:
            os._exit(9)  # as a kill: no `finally` runs
        function(*arguments)
    return call

os.fsync, os.replace = dying(os.fsync), dying(os.replace)
write_whole({folder / name: content for name, content in contents.items()})
"""


@pytest.mark.parametrize("step", range(7))
def test_killed_at_any_step_every_file_is_whole_and_a_second_run_cleans_up(tmp_path, paths, step):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(step), repr(AFTER)]
    killed = subprocess.run(command, cwd=ROOT)
    assert killed.returncode == (9 if step < 6 else 0)
    left = {name: path.read_bytes() for name, path in paths.items()}
    assert left == BEFORE | dict(list(AFTER.items())[: max(0, step - 3)])
    write_whole({paths[name]: content for name, content in AFTER.items()})
    assert contents_of(tmp_path) == AFTER
