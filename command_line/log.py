"""log.jsonl in a run's folder: a line of JSON for the training loss and for every evaluation."""

import contextlib
import json
from pathlib import Path

from files.whole import write_whole
from train import TrainError

LOG = "log.jsonl"


def begin_log(folder, step, evaluated=False):
    """Make the log, or drop what it says of steps after this one, and of its evaluation unless that
    has been done; return its path. TrainError."""
    path = Path(folder, LOG)
    lines = []
    try:
        if path.exists():
            for line in path.read_text("utf-8", errors="replace").splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):  # a damaged line
                    record = json.loads(line)
                    is_done = record["step"] == step and (evaluated or "loss" in record)
                    if record["step"] < step or is_done:
                        lines.append(line)
        write_whole({path: "".join(f"{line}\n" for line in lines).encode("utf-8")})
    except OSError as error:
        raise TrainError(
            f"cannot write {path}: {error.strerror}; put that right, then run again"
        ) from error
    return path


def write_log(path, **record):
    """Add a line of JSON; a full disk costs the line, not the run."""
    record = {
        name: value if isinstance(value, int) else float(f"{value:.6g}")
        for name, value in record.items()
    }
    with contextlib.suppress(OSError), open(path, "ab+") as log:
        log.seek(max(0, log.tell() - 1))
        if log.read(1) not in (b"", b"\n"):  # a line that the disk had no room for
            log.write(b"\n")
        log.write(json.dumps(record).encode() + b"\n")
