"""Ctrl-C and its like while training."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from command_line.signals import list_signals, watch_for_stop
from programs import ROOT, needs_posix

pytestmark = pytest.mark.skipif(**needs_posix)


NAMES = ["SIGINT", "SIGTERM", "SIGHUP"]


@pytest.fixture(autouse=True)
def none_is_ignored():
    """As where the tests run in a terminal, also where they run in the background."""
    default = {"SIGINT": signal.default_int_handler}
    before = {
        name: signal.signal(getattr(signal, name), default.get(name, signal.SIG_DFL))
        for name in NAMES
    }
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


def send(name):
    os.kill(os.getpid(), getattr(signal, name))


@pytest.mark.parametrize("name", NAMES)
def test_the_first_asks(name, capsys):
    before = signal.getsignal(getattr(signal, name))
    with watch_for_stop() as stop:
        assert not stop.is_set()
        send(name)
        assert stop.is_set()
        error = capsys.readouterr().err
        assert error.startswith("\nfinishing this step, then saving")
        assert ("once more stops without saving" in error) is (name == "SIGINT")
    assert signal.getsignal(getattr(signal, name)) is before


@pytest.mark.parametrize(
    "names",
    [["SIGINT", "SIGINT"], ["SIGHUP", "SIGINT", "SIGTERM", "SIGINT"]],
)
def test_the_second_ctrl_c_abandons(names):
    with watch_for_stop() as stop:
        for name in names[:-1]:
            send(name)
            assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            send(names[-1])


def test_a_signal_within_the_handler_of_another_waits_for_nothing():
    """As when a closed terminal and the shell both send one. An Event would wait for its own lock
    here; a process of its own, as that would be for ever."""
    code = (
        "import os, signal, threading\n"
        "from command_line.signals import watch_for_stop\n"
        "notify = threading.Condition.notify_all\n"
        "def notify_all(self):\n"
        "    threading.Condition.notify_all = notify\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    notify(self)\n"
        "threading.Condition.notify_all = notify_all\n"
        "with watch_for_stop() as stop:\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    print(stop.is_set())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=30
    )
    assert done.stdout == "True\n", done.stderr


@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM"])
def test_no_number_of_other_signals_abandons(name):
    with watch_for_stop() as stop:
        send("SIGINT")
        for _ in range(5):
            send(name)
        assert stop.is_set()


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), RuntimeError("reentrant")])
def test_a_notice_that_cannot_be_written_stops_nothing(monkeypatch, error):
    class Gone:
        def write(self, text):
            raise error

    with watch_for_stop() as stop:
        monkeypatch.setattr(sys, "stderr", Gone())
        send("SIGHUP")
        assert stop.is_set()


@pytest.mark.parametrize("name", NAMES)
def test_a_signal_that_is_ignored_stays_ignored(name):
    """By nohup, or by a shell's script that has started it with &."""
    assert len(list_signals()) == 3
    signal.signal(getattr(signal, name), signal.SIG_IGN)
    assert [number.name for number in list_signals()] == [n for n in NAMES if n != name]
    with watch_for_stop() as stop:
        send(name)
        assert not stop.is_set()


def test_another_thread_than_the_main_one_watches_nothing():
    seen = []

    def run():
        with watch_for_stop() as stop:
            seen.append(stop.is_set())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [False]
