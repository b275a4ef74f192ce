"""The progress bar, and the lines above it."""

import io
import os
import select
import sys
import threading
import warnings

import pytest

from command_line import progress
from command_line.progress import advance, progress_bar, report, spell_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 min 00 s"), (80, "1 min 20 s"), (3599.6, "1 h 00 min"), (3725, "1 h 02 min")],
)
def test_durations(seconds, text):
    assert spell_duration(seconds) == text


class Terminal(io.StringIO):
    is_gone = False

    def isatty(self):
        return True

    def write(self, text):
        if self.is_gone:
            raise OSError(5, "Input/output error")
        return super().write(text)


def test_the_bar_counts_tokens_and_lines_come_above_it(monkeypatch):
    monkeypatch.setattr(progress.sys, "stderr", Terminal())
    with progress_bar(n_steps=4, n_tokens=1000, step=1) as bar:
        advance(bar, 1000, 2.34567)
        report(bar, "a line")
        assert (bar.n, bar.total) == (2000, 4000)
    text = progress.sys.stderr.getvalue()
    assert "loss=2.346" in text and "a line\n" in text and "4.00k" in text


def test_a_terminal_that_is_gone_stops_nothing(monkeypatch):
    monkeypatch.setattr(progress.sys, "stderr", Terminal())
    bar = progress_bar(4, 1000, 0)
    progress.sys.stderr.is_gone = True
    bar.mininterval = 0
    for _ in range(3):
        advance(bar, 1000, 1.0)
    report(bar, "lost")
    bar.close()


def test_a_bar_needs_no_thread_and_shows_every_step(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(progress.tqdm, "monitor", None)  # what another bar may have started
    monkeypatch.setattr(progress.sys, "stderr", Terminal())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bar = progress_bar(4000, 1000, 0)
    bar.mininterval = 0
    for i in range(1, 100):
        advance(bar, 1000, 1.0)
        assert bar.last_print_n == 1000 * i
    bar.close()


def test_where_stderr_is_no_terminal_there_is_no_bar(capsys):
    with progress_bar(4, 1000, 0) as bar:
        advance(bar, 1000, 1.0)
        report(bar, "a line")
    assert capsys.readouterr().err == "a line\n"


def test_progress_without_a_terminal_is_a_line_now_and_then(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.progress(5000, "tokens", seconds=10) as advance:
        for now[0] in (3.0, 9.0, 11.0, 12.0, 25.0):
            advance(1000)
    assert capsys.readouterr().err == "3,000 of 5,000 tokens\n5,000 of 5,000 tokens\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX terminal")
def test_progress_at_a_terminal_is_a_bar(monkeypatch):
    import termios

    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with progress.progress(5000, "tokens") as advance:
            advance(5000)
        shown = b""
        while b"5000/5000" not in shown:
            assert select.select([master], [], [], 30)[0], shown
            shown += os.read(master, 10_000)
    os.close(master)
    assert b"100%" in shown
