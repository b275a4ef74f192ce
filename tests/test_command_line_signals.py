"""Ctrl-C and its like while training."""

import os
import signal
import threading

import pytest
from programs import needs_posix

from command_line.signals import list_signals, watch_for_stop

pytestmark = pytest.mark.skipif(**needs_posix)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_the_first_asks_and_the_second_stops(name, capsys):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with watch_for_stop() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        assert stop.is_set()
        assert "once more stops without saving" in capsys.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_nohup_is_respected():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert list_signals() == [signal.SIGINT, signal.SIGTERM]
        with watch_for_stop() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_than_the_main_one_watches_nothing():
    seen = []

    def run():
        with watch_for_stop() as stop:
            seen.append(stop.is_set())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [False]
