"""FOLDER/best: beside the last model of a run the one with the lowest held-out loss (--keep-best).

It is a model folder like any other, and BEST_FILE in it says of which step it is. Nothing else has
to be remembered: a run that goes on compares with what is there.
"""

import contextlib
import json
import math
import os
import shutil
from pathlib import Path

from command_line.run_folder import BEST
from encoder import EncoderError
from files.messages import one_line
from files.tf_checkpoint import CheckpointError
from files.whole import write_whole
from train import TrainError
from utils import save_model

BEST_FILE = "best.json"


def keep_best(settings, encoder, state, bits):
    """Make the model the best one where its held-out loss, bits per byte, is lower than that of the
    best so far. TrainError, and what was there stays."""
    folder = Path(settings.out, BEST)
    best = read_best(settings.out)
    if best is not None and bits >= best["bits_per_byte"]:
        return
    part = Path(f"{folder}.tmp")
    try:
        shutil.rmtree(part, ignore_errors=True)
        save_model(part, encoder, settings.hparams, state.params, settings.dtype)
        record = json.dumps({"step": state.step, "bits_per_byte": bits}) + "\n"
        write_whole({part / BEST_FILE: record.encode()})
        replace_folder(part, folder)
    except (OSError, EncoderError, CheckpointError) as error:
        shutil.rmtree(part, ignore_errors=True)
        reason = getattr(error, "strerror", None) or one_line(error)
        raise TrainError(f"cannot save in {folder}: {reason}") from error


def read_best(folder):
    """{"step", "bits_per_byte"} of the best model in a run's folder; None where there is none."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        record = json.loads(Path(folder, BEST, BEST_FILE).read_text("utf-8"))
        step, bits = int(record["step"]), float(record["bits_per_byte"])
        if math.isfinite(bits):
            return {"step": step, "bits_per_byte": bits}
    return None


def replace_folder(part, folder):
    """Give a folder its name, in place of the one that had it."""
    old = Path(f"{folder}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    try:
        os.replace(part, folder)
    except BaseException:
        if old.exists():
            os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def mend_best(folder):
    """Put in order what a run left that was killed while it replaced its best model. OSError."""
    best = Path(folder, BEST)
    old, part = Path(f"{best}.old"), Path(f"{best}.tmp")
    if old.exists() and not best.exists():
        os.replace(old, best)
    for leftover in (old, part):
        shutil.rmtree(leftover, ignore_errors=True)
