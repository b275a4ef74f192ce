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
