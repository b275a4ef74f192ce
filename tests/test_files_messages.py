"""files/messages.py: what a person is told stays in one line, and off standard output."""

import errno
import io
import os
import sys

import pytest

from encoder import EncoderError, get_encoder
from files.messages import notice, one_line, printable, readable, why_unreadable


def test_a_notice_is_a_line_on_stderr_alone(capfd):
    notice("something is being done")
    assert capfd.readouterr() == ("", "something is being done\n")


def test_a_notice_may_have_several_lines_and_does_nothing_to_the_terminal(capfd):
    notice("\nÄrger,\t日本語 😀\x1b[2J\r\x9b0m\u202e")
    assert capfd.readouterr().err == "\nÄrger,\t日本語 😀\ufffd[2J\ufffd\ufffd0m\ufffd\n"


def test_a_notice_is_seen_at_once(monkeypatch):
    terminal = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(terminal, "utf-8"))
    notice("soon")
    assert terminal.getvalue() == b"soon" + os.linesep.encode()


def test_a_notice_that_cannot_be_written_stops_nothing(monkeypatch):
    class Full:
        def write(self, text):
            raise OSError(28, "No space left on device")

        flush = write

    monkeypatch.setattr(sys, "stderr", Full())
    notice("nobody reads this")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\n  two\r\n\tthree "), "one two three"),
        (ValueError("word " * 1000), "word " * 80),
        (ValueError(), ""),
        (
            ValueError("\x1b[2Jred\x7f\x00 a\u2028b\x85c\ud800"),
            "\ufffd[2Jred\ufffd\ufffd a b c\ufffd",
        ),
        (ValueError("déjà vu, Ω, 中文, ½"), "déjà vu, Ω, 中文, ½"),
        (OSError(28, "No space left on device", "a"), "[Errno 28] No space left on device: 'a'"),
    ],
)
def test_an_error_is_one_line_of_at_most_400_characters(error, line):
    assert one_line(error) == line and len(line) <= 400


@pytest.mark.parametrize("character", ["\n", "\t", "\x1b", "\x7f", "\x9b", "\u200f", "\ud83d"])
def test_what_is_not_seen_is_replaced(character):
    assert printable(f"a{character}b") == "a\ufffdb"


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.EACCES, "make it readable for you"),
        (errno.EPERM, "make it readable for you"),
        (errno.ENOMEM, "close other programs or take a smaller model"),
        (errno.EIO, "try again"),
    ],
)
def test_advice_for_what_the_system_cannot_read(number, cure):
    error = OSError(number, "reason", "a\x1b")
    assert why_unreadable(error, "remove it") == f"a\ufffd: reason; {cure}"
    assert why_unreadable(OSError(number, "reason"), "remove it") == f"reason; {cure}"
    caused = ValueError("wrapped")
    caused.__cause__ = error
    assert why_unreadable(caused, "remove it") == f"wrapped; {cure}"


def test_advice_for_what_is_damaged(tmp_path):
    assert why_unreadable(ValueError("wrong\nbytes"), "remove it") == "wrong bytes; remove it"
    assert why_unreadable(OSError("odd"), "remove it") == "odd; try again"
    (tmp_path / "encoder.json").write_text("[")
    for problem, cure in (("No such file or directory", "try again"), ("not JSON", "remove it")):
        with pytest.raises(EncoderError) as caught:
            get_encoder(tmp_path)
        line = why_unreadable(caught.value, "remove it")
        assert problem in line and line.endswith(f"; {cure}")
        (tmp_path / "vocab.bpe").write_text("")


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0.0 MB"),
        (1234567, "1.2 MB"),
        (999_999_999, "1000.0 MB"),
        (10**9, "1.0 GB"),
        (6_230_444_800, "6.2 GB"),
    ],
)
def test_bytes_as_a_person_says_them(n_bytes, text):
    assert readable(n_bytes) == text
