"""Numbers within their ranges, and errors in one line."""

import pytest

from command_line.options import (
    OneLineParser,
    above_zero,
    below_one,
    whole,
    whole_or_zero,
    zero_or_more,
)


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
