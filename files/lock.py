"""Locks that the operating system lets go of when their process ends, however it ends."""

import itertools
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


def open_lock(path):
    """The file at a path, open and locked, made with its folder if there is none; None where
    another process holds it. Raises OSError."""
    for attempt in itertools.count():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(path, "a")
        except (FileNotFoundError, FileExistsError):
            if attempt < 10:  # whoever held it before removes the folder just now
                continue
            raise
        if not try_lock(file):
            file.close()
            return None
        if is_at(file, path):
            return file
        file.close()  # removed since by the process that held it; there may be another by now


def is_at(file, path):
    """Whether an open file is the one that has this name now: only a lock on that one counts, as
    whoever held the lock before may have removed the file after it was opened here."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
