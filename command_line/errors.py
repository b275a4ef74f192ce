"""How a program ends when something is wrong: one line on stderr, and its exit status."""

import contextlib
import errno
import os
import sys

from files.messages import notice, one_line

STOPPED = 130  # the exit status that shells give for Ctrl-C


def fail(program, error):
    """Say in one line what is wrong; return the exit status."""
    notice(f"{program}: {error}")
    return 1


def report_stop(text="stopped"):
    """Say that Ctrl-C has ended the program; return the exit status."""
    notice(text)
    return STOPPED


def end_output(program, error):
    """What an OSError of standard output comes to; return the exit status. A reader that has seen
    enough, such as head, is no error."""
    with contextlib.suppress(OSError):  # as in a notebook, where it is no file
        # Else what is still to be written fails once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno in (errno.EPIPE, errno.EINVAL):  # the second on Windows
        return 0
    return fail(program, f"cannot write to standard output: {error.strerror}")


def describe_import_error(error, package=None):
    """What is wrong with a package, by default the one that the ImportError names, and a cure."""
    package = package or error.name or "a package"
    folder = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    requirements = "requirements.txt"
    if os.path.realpath(os.curdir) != folder:
        requirements += f" in {folder}"
    if isinstance(error, ModuleNotFoundError) and error.name == package:
        return f"{package} is not installed; pip install -r {requirements}"
    return (
        f"{package} cannot be imported ({one_line(error)}); "
        f"pip install --force-reinstall -r {requirements}"
    )


def survive_closed_stderr():
    """Where a shell has closed stderr, let what is written there vanish: print and argparse would
    turn to standard output instead."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")
