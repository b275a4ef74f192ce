"""Files that are written whole or not at all."""

import os
from pathlib import Path


def write_whole(contents, rename=None):
    """Write {path: content} so that each file is there whole or not at all.

    A content is bytes, or a function that is given the open binary file and writes to it. All are
    written under temporary names, *.tmp, and are on the disk before the first takes its name: when
    anything fails until then, nothing that was there has changed. rename({temporary: path}), if
    given, does the renaming, where its order matters. An OSError names the path that failed.
    """
    temporary = {path: Path(f"{path}.tmp") for path in contents}
    try:
        for path, content in contents.items():
            try:
                with open(temporary[path], "wb") as file:
                    content(file) if callable(content) else file.write(content)
                    file.flush()
                    os.fsync(file.fileno())  # lest a power cut leave an empty file with the name
            except OSError as error:
                error.filename = str(path)
                raise
        if rename is not None:
            rename({part: path for path, part in temporary.items()})
            return
        for path, part in temporary.items():
            try:
                os.replace(part, path)
            except OSError as error:
                error.filename, error.filename2 = str(path), None
                raise
    finally:
        for part in temporary.values():
            part.unlink(missing_ok=True)
