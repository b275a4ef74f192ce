"""What a person is told on the terminal: notices, sizes, errors in one line."""

import contextlib
import sys


def notice(text):
    """Print a line to stderr. Standard output is for results alone."""
    with contextlib.suppress(OSError):  # a full disk behind stderr stops nothing
        print(text, file=sys.stderr, flush=True)


def one_line(error):
    """The message of an exception without line breaks, at most 400 characters."""
    return " ".join(str(error).split())[:400]


def readable(n_bytes):
    """A number of bytes as a person says it: 1234567 is "1.2 MB"."""
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"
