"""What a notebook's kept outputs came from, as one number: they are stale when it has changed."""

import hashlib
import json
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHARED = ("common.py", "measure.py", "draw/base.py", "tale.txt")  # what all notebooks use


def checksum(notebook):
    """SHA-256 of all code, its outputs, and the files it reads: what the test of the committed
    notebooks computes again."""
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    cells = [["".join(cell["source"]), joined(cell["outputs"])] for cell in code]
    digest = hashlib.sha256(json.dumps(cells, sort_keys=True).encode())
    for name in files_of("\n".join(source for source, _ in cells)):
        digest.update((HERE / name).read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()


def joined(outputs):
    """Outputs with each text in one piece: a file has it as a list of lines."""
    return [
        {
            key: {kind: "".join(part) for kind, part in value.items()}
            if key == "data"
            else "".join(value)
            if key == "text"
            else value
            for key, value in output.items()
        }
        for output in outputs
    ]


def files_of(code):
    """The files beside the notebooks that code reads: names relative to this folder. Those of one
    subject, such as draw/attention.py, belong to the notebooks that name it."""
    subjects = [
        path.relative_to(HERE).as_posix()
        for folder in ("draw", "studies")
        for path in sorted((HERE / folder).glob("*"))
        if path.is_file() and re.search(rf"\b{folder}[./]{path.stem}\b", code)
    ]
    return [*SHARED, *subjects]
