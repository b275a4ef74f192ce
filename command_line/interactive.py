"""A conversation, line by line (-i, --interactive)."""

import contextlib
import sys

from encoder import EncoderError
from files.messages import notice
from gpt2_numpy import GPT2Error


def converse(program, answer):
    """Read prompts from standard input, a line each, until it ends (Ctrl-D); answer(prompt) each.

    At a terminal Ctrl-C ends an answer or discards a line that is being typed, not the program.
    Where a prompt makes no sense, that is said, and the next one read.
    """
    if sys.stdin is None:
        raise GPT2Error("--interactive reads prompts from standard input, which is closed")
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):  # not every system has it
            import readline  # noqa: F401  (from now on `input` edits lines, and remembers them)
        notice("each line is a prompt; Ctrl-C stops an answer, Ctrl-D ends")
    while True:
        try:
            prompt = read_line()
            if prompt is None:
                return
            answer(prompt)
        except KeyboardInterrupt:
            if not sys.stdin.isatty():  # nobody is typing
                raise
            notice("")
        except UnicodeError:
            notice(f"{program}: the line is not UTF-8; is the terminal or the file in UTF-8?")
        except (GPT2Error, EncoderError) as error:
            notice(f"{program}: {error}")


def read_line():
    """The next line; None where there is none. UnicodeError where it is not UTF-8."""
    if sys.stdin.isatty():
        if sys.stdout.isatty():
            try:
                line = input("> ")
            except EOFError:
                notice("")
                return None
            line.encode("utf-8")  # a UnicodeError where other bytes were typed
            return line
        print("> ", end="", file=sys.stderr, flush=True)  # `input` would write it to stdout
    line = sys.stdin.buffer.readline()
    return line.decode("utf-8-sig").rstrip("\r\n") if line else None
