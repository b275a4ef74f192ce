"""Locks that the operating system lets go of when their process ends, however it ends."""

import os


def try_lock(file):
    """Lock an open file for this process; whether that was possible, or another one holds it."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            try:
                import fcntl
            except ImportError:  # as in a browser, where there is no other process
                return True
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # how POSIX and Windows say that another holds it
        return False
    return True


def is_at(file, path):
    """Whether an open file is the one that has this name now: only a lock on that one counts, as
    whoever held the lock before may have removed the file after it was opened here."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
