"""The parser that both programs use: errors in one line, and numbers within their ranges."""

import argparse
import math
import re
import sys

from command_line.errors import end_output


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong with the command line in one line instead of the whole usage.

    stray: what to do where there are more words than options and values
    """

    def __init__(self, *arguments, stray="put quotes around a path with spaces", **settings):
        super().__init__(*arguments, **settings)
        self.stray = stray

    def error(self, message):
        is_word = re.match("unrecognized arguments: [^-]", message)
        if is_word or "ignored explicit argument" in message:  # as of -hello
            message += f" ({self.stray})"
        self.exit(2, f"{self.prog}: {message}; --help explains every option\n")

    def _print_message(self, message, file=None):
        """argparse itself lets --help and --version end as if their text had been written."""
        if file is None or file is not sys.stdout:
            super()._print_message(message, file)
            return
        try:
            print(message, end="", file=file, flush=True)
        except OSError as error:
            raise SystemExit(end_output(self.prog, error)) from None


# Types for add_argument, named as its messages name them: "invalid whole value: 'many'".


def whole(text):
    return check(read_int(text), lambda value: value > 0, "a whole number above 0")


def whole_or_zero(text):
    return check(read_int(text), lambda value: value >= 0, "a whole number from 0 on")


def port(text):
    return check(int(text), lambda value: 0 <= value < 2**16, "a port, 0 to 65535")


def above_zero(text):
    return check(float(text), lambda value: 0 < value < math.inf, "a number above 0")


def zero_or_more(text):
    return check(float(text), lambda value: 0 <= value < math.inf, "a number from 0 on")


def below_one(text):
    return check(float(text), lambda value: 0 <= value < 1, "a number from 0 on and below 1")


def read_int(text):
    """An int that can still be divided, as one of a thousand digits could not."""
    return check(int(text), lambda value: abs(value) < 2**128, "a number of a possible size")


def check(value, is_right, what):
    """The value; argparse makes its line of the error where it is not right."""
    if not is_right(value):
        raise argparse.ArgumentTypeError(f"{value} is not {what}")
    return value
