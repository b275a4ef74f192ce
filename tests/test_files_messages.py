"""files/messages.py: what a person is told stays in one line, and off standard output."""

import sys

import pytest

from files.messages import notice, one_line, readable


def test_a_notice_is_a_line_on_stderr_alone(capfd):
    notice("something is being done")
    assert capfd.readouterr() == ("", "something is being done\n")


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
        (OSError(28, "No space left on device", "a"), "[Errno 28] No space left on device: 'a'"),
    ],
)
def test_an_error_is_one_line_of_at_most_400_characters(error, line):
    assert one_line(error) == line and len(line) <= 400


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
