"""notebooks/loss_curve.py: whatever is wrong with a log or a place for the picture is one line."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import OURS
from programs import ENVIRONMENT, ROOT, default_ctrl_c, needs_posix

PATH = ROOT / "notebooks" / "loss_curve.py"
needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="needs matplotlib"
)

LOG = [
    {"step": 0, "val_loss": 5.7, "bits_per_byte": 3.1},
    {"step": 2, "tokens": 128, "loss": 5.5, "norm": 1.0, "lr": 0.001, "seconds": 0.1},
    {"step": 4, "tokens": 256, "loss": 5.1, "norm": 1.0, "lr": 0.001, "seconds": 0.2},
    {"step": 4, "val_loss": 5.0, "bits_per_byte": 2.7},
]
DAMAGED = [
    b'{"step": 9',
    b"\xff\xfe",
    b"",
    b'[1, "loss"]',
    b"null",
    b'"loss"',
    b'{"loss": 1.0}',
    b'{"step": 5, "tokens": 300, "loss": NaN}',
    b'{"step": 5, "tokens": 300, "loss": "low"}',
    b'{"step": 5, "tokens": 300, "loss": 1e400}',
    b'{"step": 5, "tokens": 300, "loss": 1' + 400 * b"0" + b"}",
    b'{"step": 5, "tokens": 300, "loss": 1' + 5000 * b"0" + b"}",
    b'{"step": 0, "tokens": 300, "loss": 1.0}',
    b'{"step": 5, "val_loss": 0, "bits_per_byte": 1.0}',
    b'{"val_loss": 1.0, "bits_per_byte": 1.0}',
    100_000 * b"[",
]


@pytest.fixture
def loss_curve():
    spec = importlib.util.spec_from_file_location("loss_curve", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path):
    """The folder of a run."""
    path = tmp_path / "run"
    path.mkdir()
    (path / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in LOG))
    return path


@pytest.fixture
def run(loss_curve, capsys, monkeypatch):
    """run(argument, ...) is main's exit status, and what it wrote to stdout and stderr."""

    def main(*arguments):
        monkeypatch.setattr(sys, "argv", ["loss_curve.py", *map(str, arguments)])
        return loss_curve.main(), *capsys.readouterr()

    return main


def assert_refused(result, words):
    status, out, err = result
    assert (status, out) == (1, "") and err.startswith("loss_curve.py: ")
    assert err.count("\n") == 1 and words in err, err


def test_damaged_lines_are_left_out(loss_curve, folder):
    whole = loss_curve.read_losses(folder / "log.jsonl")
    assert whole == ([LOG[1], LOG[2]], [LOG[0], LOG[3]])
    with open(folder / "log.jsonl", "ab") as log:
        log.write(b"\n".join(DAMAGED))
    assert loss_curve.read_losses(folder / "log.jsonl") == whole


def test_a_log_that_is_not_there_or_says_nothing_is_one_line(run, folder, tmp_path):
    assert_refused(run(tmp_path / "none"), "No such file or directory; give the folder that train")
    assert_refused(run(folder / "log.jsonl"), "give the folder that train.py wrote to")
    (folder / "log.jsonl").write_bytes(b"\n".join(DAMAGED))
    assert_refused(run(folder), "has no steps and evaluations yet")
    (folder / "log.jsonl").unlink()
    (folder / "log.jsonl").mkdir()
    assert_refused(run(folder), "Is a directory")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ModuleNotFoundError("none", name="matplotlib"), "is not installed; pip install matplotl"),
        (ModuleNotFoundError("none", name="cycler"), "cannot be imported (none); pip install --fo"),
        (AttributeError("in\npieces"), "cannot be imported (in pieces); pip install --force-rein"),
    ],
)
def test_matplotlib_that_is_missing_or_broken_is_one_line(run, folder, monkeypatch, error, words):
    def fail(name):
        raise error

    monkeypatch.setattr(importlib, "import_module", fail)
    assert_refused(run(folder), f"matplotlib {words}")


@needs_matplotlib
@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("b.PDF", b"%PDF")])
def test_the_picture_is_drawn_where_it_was_asked_for(run, folder, monkeypatch, name, start):
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("USERPROFILE", str(folder.parent))
    assert run("~/run", "--to", f"~/{name}") == (0, f"{folder.parent / name}\n", "")
    assert (folder.parent / name).read_bytes().startswith(start)
    assert run(folder)[0] == 0 and (folder / "loss.png").read_bytes().startswith(b"\x89PNG")


@needs_matplotlib
def test_a_place_for_the_picture_that_is_none_is_one_line(run, folder, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    for to, words in [
        (folder, f"run is a folder; give a file in it, such as --to {folder / 'loss.png'}"),
        (tmp_path / "x.nothing", "no format for pictures is called 'nothing'; take .png"),
        (tmp_path / "x", "no format for pictures is called ''; take .png"),
        (tmp_path / "none" / "x.png", "x.png: No such file or directory; give another place"),
        (folder / "log.jsonl" / "x.png", "Not a directory; give another place with --to"),
    ]:
        assert_refused(run(folder, "--to", to), words)
    assert sorted(tmp_path.rglob("*")) == before


@needs_matplotlib
def test_a_full_disk_leaves_the_picture_that_was_there(loss_curve, run, folder, monkeypatch):
    (folder / "loss.png").write_bytes(b"the last one")

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert_refused(run(folder), "loss.png: No space left on device; give another place with --to")
    assert (folder / "loss.png").read_bytes() == b"the last one"
    assert sorted(path.name for path in folder.iterdir()) == ["log.jsonl", "loss.png"]


def test_modules_of_our_names_that_came_first_are_not_ours(tmp_path):
    for name in set(OURS) - {"files"}:
        (tmp_path / f"{name}.py").write_text("")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "messages.py").write_text("")
    (tmp_path / "sitecustomize.py").write_text(f"import {', '.join(OURS)}, files.messages\n")
    done = subprocess.run(
        [sys.executable, PATH, tmp_path / "none"],
        capture_output=True,
        text=True,
        env=ENVIRONMENT | {"PYTHONPATH": str(tmp_path)},
        timeout=60,
    )
    assert_refused((done.returncode, done.stdout, done.stderr), "give the folder that train.py")


@needs_matplotlib
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_one_line(folder):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, PATH, folder], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr == (
        "loss_curve.py: cannot write to standard output: No space left on device\n"
    )


@pytest.mark.skipif(**needs_posix)
def test_ctrl_c_is_one_word(folder, tmp_path):
    """Also where it comes in the middle of an import that would make another error of it."""
    (tmp_path / "matplotlib.py").write_text(
        "import os, signal, time\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(60)\n"
        "except KeyboardInterrupt:\n"
        "    raise ImportError('a bad installation')\n"
    )
    done = subprocess.run(
        [sys.executable, PATH, folder],
        capture_output=True,
        text=True,
        env=ENVIRONMENT | {"PYTHONPATH": str(tmp_path)},
        preexec_fn=default_ctrl_c,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")
    assert [path.name for path in Path(folder).iterdir()] == ["log.jsonl"]
