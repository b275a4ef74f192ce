"""Numbers within their ranges, and errors in one line."""

import os
import subprocess
import sys

import pytest

from command_line.options import (
    OneLineParser,
    above_zero,
    below_one,
    whole,
    whole_or_zero,
    zero_or_more,
)
from programs import ENVIRONMENT, ROOT, needs_posix


@pytest.mark.parametrize(
    ("convert", "right", "wrong"),
    [
        (whole, ["1", "30"], ["0", "-1", "1.5", "many", "nan"]),
        (whole_or_zero, ["0", "7"], ["-1", "0.5", ""]),
        (above_zero, ["1e-9", "3"], ["0", "-1", "inf", "nan", "much"]),
        (zero_or_more, ["0", "0.5"], ["-1e-9", "inf", "nan"]),
        (below_one, ["0", "0.999"], ["1", "-0.1", "nan"]),
    ],
)
def test_numbers_have_their_ranges(capsys, convert, right, wrong):
    parser = OneLineParser(prog="program")
    parser.add_argument("--x", type=convert)
    for text in right:
        assert parser.parse_args([f"--x={text}"]).x == float(text)
    for text in wrong:
        with pytest.raises(SystemExit) as stopped:
            parser.parse_args([f"--x={text}"])
        error = capsys.readouterr().err
        assert stopped.value.code == 2 and error.count("\n") == 1
        assert error.startswith("program: argument --x: ")
        assert error.endswith("; --help explains every option\n")


def test_several_words_get_advice_and_an_unknown_option_does_not(capsys):
    parser = OneLineParser(prog="program")
    parser.add_argument("prompt")
    for words, is_prompt in ((["once", "upon"], True), (["once", "--upon"], False)):
        with pytest.raises(SystemExit):
            parser.parse_args(words)
        assert ("put quotes around" in capsys.readouterr().err) is is_prompt


PARSER = """
from command_line.options import OneLineParser
parser = OneLineParser(prog="program", description="what it does " * 1000)
parser.add_argument("--version", action="version", version="program 1")
parser.parse_args()
"""


def run_parser(option, *python_options, **settings):
    command = [sys.executable, *python_options, "-c", PARSER, option]
    return subprocess.run(
        command, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=ENVIRONMENT, **settings
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("python_options", [[], ["-u"]])
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_what_cannot_be_written_is_one_line(option, python_options):
    with open("/dev/full", "wb") as full:
        done = run_parser(option, *python_options, stdout=full)
    assert done.returncode == 1
    assert done.stderr == "program: cannot write to standard output: No space left on device\n"


@pytest.mark.skipif(**needs_posix)
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_a_reader_that_has_seen_enough_is_no_error(option):
    reader, writer = os.pipe()
    os.close(reader)
    done = run_parser(option, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_written_is_whole(capsys):
    parser = OneLineParser(prog="program", description="what it does")
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args(["--help"])
    assert stopped.value.code == 0 and capsys.readouterr() == (parser.format_help(), "")
