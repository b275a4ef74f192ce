"""Files that are written whole or not at all."""

import contextlib
import os
from pathlib import Path


def write_whole(contents, rename=None):
    """Write {path: content} so that each file is there whole or not at all.

    A content is bytes, or a function that is called with the open binary file and writes to it. All
    are written under temporary names, *.tmp, and are on the disk before the first takes its name:
    when anything fails until then, nothing that was there has changed.

    rename: does the renaming, where its order matters; called with {temporary: path}

    Raises OSError, which names the path that could not be written.
    """
    temporary = {path: Path(f"{path}.tmp") for path in contents}
    try:
        for path, content in contents.items():
            with _naming(path), open(temporary[path], "wb") as file:
                content(file) if callable(content) else file.write(content)
                file.flush()
                os.fsync(file.fileno())  # lest a power cut leave an empty file with the name
        if rename is not None:
            rename({part: path for path, part in temporary.items()})
            return
        for path, part in temporary.items():
            with _naming(path):
                os.replace(part, path)
    finally:
        for part in temporary.values():
            # Renamed, never written, or a folder of that name: none of these hides what went wrong.
            with contextlib.suppress(OSError):
                part.unlink()


@contextlib.contextmanager
def _naming(path):
    """Have an OSError name a path, and no temporary one."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
