"""How a program starts and ends: from the first import to the exit status.

Here, in errors.py and in files/messages.py nothing is newer than Python 3.6, so that an old Python
gets as far as saying that it is too old.
"""

import contextlib
import importlib
import os
import signal
import sys

from command_line.errors import (
    STOPPED,
    describe_import_error,
    fail,
    report_stop,
    survive_closed_stderr,
)
from files.messages import one_line

OLDEST_PYTHON = (3, 11)
PROGRAMS = {
    "generate": "gpt2_numpy.py",
    "train": "train.py",
    "convert": "files.convert",
    "explore": "explorer",
}
PACKAGES = {  # numpy.random is imported by NumPy only when it is used
    "generate": ("numpy", "numpy.random", "regex"),
    "train": ("numpy", "numpy.random", "regex", "tqdm"),
    "convert": ("numpy", "regex"),
    "explore": ("numpy", "regex"),
}


class StartError(Exception):
    """Something that the program is made of is missing or broken; the message says what to do."""


def launch(program):
    """Run one of PROGRAMS; return its exit status.

    What it needs is imported here, so that whatever is missing, broken or interrupted is one line.
    """
    survive_closed_stderr()
    on_ctrl_c(end_now)
    try:
        main = import_main(program)
    except StartError as error:
        return fail(PROGRAMS[program], error)
    on_ctrl_c(signal.default_int_handler)
    try:
        status = main()
    except KeyboardInterrupt:
        status = report_stop()
    finally:
        on_ctrl_c(signal.SIG_DFL)  # Python's own end is not worth an error
    if status == STOPPED:
        end(status)
    return status


def import_main(program):
    """The function `main` of command_line/generate.py and its like. StartError."""
    if sys.version_info < OLDEST_PYTHON:
        raise StartError(
            "this is Python {}.{}, which is too old; run it with Python {}.{} or later".format(
                *sys.version_info[:2], *OLDEST_PYTHON
            )
        )
    for package in PACKAGES[program]:
        try:
            importlib.import_module(package)
        except Exception as error:  # a broken package raises whatever it likes
            raise StartError(describe_import_error(error, package)) from error
    try:
        return importlib.import_module(f"command_line.{program}").main
    except (ImportError, OSError) as error:
        raise StartError(
            f"a part of the code cannot be read ({one_line(error)}); get its whole folder anew"
        ) from error


def on_ctrl_c(handler):
    """Handle Ctrl-C like this from now on, unless it is ignored, as in a shell's background job."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, handler)


def end_now(number, frame):
    """Ctrl-C while packages are imported. As an exception it would not get through everywhere:
    NumPy turns it into an ImportError, and Python's import system drops it in its callbacks."""
    end(report_stop())


def end(status):
    """End the process without waiting for its threads: those of a step under way cannot be
    interrupted, and may take minutes."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, AttributeError, RuntimeError):  # gone, closed, or in use
            stream.flush()
    os._exit(status)
