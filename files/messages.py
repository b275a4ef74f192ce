"""What a person is told: notices, sizes, errors in one line and what to do about them."""

import contextlib
import errno
import sys


def notice(text):
    """Print a line, or several, to stderr. Standard output is for results alone."""
    lines = "".join(c if c in "\n\t" else printable(c) for c in text)  # these two do no harm
    with contextlib.suppress(OSError):  # a full disk behind stderr stops nothing
        print(lines, file=sys.stderr, flush=True)


def printable(text):
    """The text with U+FFFD for each character that is not seen but does something to a terminal.

    What a server or a file says could otherwise clear the screen, or make a line say what it does
    not.
    """
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def one_line(error):
    """The message of an exception, printable, without line breaks, at most 400 characters."""
    return printable(" ".join(str(error).split()))[:400]


def why_unreadable(error, damaged):
    """The line that says why a file cannot be read, and what to do: `damaged` where its bytes are
    wrong, but only there.

    Where it was the system that could not read them (an OSError, or an error that one caused), they
    may well be right, and nobody shall be told to remove them.
    """
    reason = one_line(error)
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        reason = printable(f"{place}{error.strerror}")
    fault = error if isinstance(error, OSError) else error.__cause__
    return f"{reason}; {advise(fault) if isinstance(fault, OSError) else damaged}"


def advise(fault):
    """What helps where the system cannot read a file, or not now (an OSError)."""
    if isinstance(fault, PermissionError):
        return "make it readable for you"
    if fault.errno == errno.ENOMEM:
        return "close other programs or take a smaller model"
    return "try again"


def readable(n_bytes):
    """A number of bytes as a person says it: 1234567 is "1.2 MB"."""
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"
