"""FOLDER/best: beside the last model of a run the one with the lowest held-out loss (--keep-best).

It is a model folder like any other, and BEST_FILE in it says of which step it is. Nothing else has
to be remembered: a run that goes on compares with what is there. BEST_FILE is also the mark of what
a run wrote: a folder without it is somebody's own, and is never touched.
"""

import contextlib
import json
import math
import os
import shutil
from pathlib import Path

from command_line.run_folder import BEST, FORMER_BEST
from encoder import EncoderError
from files.messages import one_line
from files.tf_checkpoint import CheckpointError
from files.whole import write_whole
from train import TrainError
from utils import save_model

BEST_FILE = "best.json"
PART = ".best.tmp"  # beside FOLDER/best: the one that is being written


def keep_best(settings, encoder, state, bits):
    """Make the model the best one where its held-out loss, bits per byte, is lower than that of the
    best so far, or where that is of a step that this run has not taken: one that was killed has
    gone on from an earlier checkpoint. TrainError, and what was there stays."""
    check_best(settings.out)
    best = read_best(settings.out)
    if best is not None and best["step"] <= state.step and bits >= best["bits_per_byte"]:
        return
    part = Path(settings.out, PART)
    try:
        shutil.rmtree(part, ignore_errors=True)
        save_model(part, encoder, settings.hparams, state.params, settings.dtype)
        record = json.dumps({"step": state.step, "bits_per_byte": bits}) + "\n"
        write_whole({part / BEST_FILE: record.encode()})
        replace_best(settings.out)
    except (OSError, EncoderError, CheckpointError) as error:
        shutil.rmtree(part, ignore_errors=True)
        reason = getattr(error, "strerror", None) or one_line(error)
        raise TrainError(f"cannot save in {Path(settings.out, BEST)}: {reason}") from error


def check_best(folder):
    """TrainError where what is called FOLDER/best is nothing that `keep_best` wrote."""
    best = Path(folder, BEST)
    for path in (Path(folder, PART), Path(folder, FORMER_BEST)):
        if path.is_symlink():
            raise TrainError(f"{path} is a link, which --keep-best never makes; move it elsewhere")
    if os.path.lexists(best) and (best.is_symlink() or read_best(folder) is None):
        raise TrainError(
            f"{best} is no folder that --keep-best wrote (one with a {BEST_FILE} that can be "
            "read); move it elsewhere"
        )


def read_best(folder):
    """{"step", "bits_per_byte"} of the best model in a run's folder; None where there is none."""
    damage = (OSError, ValueError, ArithmeticError, TypeError, KeyError, RecursionError)
    with contextlib.suppress(*damage):
        record = json.loads(Path(folder, BEST, BEST_FILE).read_text("utf-8"))
        step, bits = int(record["step"]), float(record["bits_per_byte"])
        if math.isfinite(bits):
            return {"step": step, "bits_per_byte": bits}
    return None


def replace_best(folder):
    """Make the model that has been written to PART the best one. OSError."""
    best, former, part = (Path(folder, name) for name in (BEST, FORMER_BEST, PART))
    if not best.exists():
        os.replace(part, best)
        return
    if former.exists():
        remove_former_best(folder)
    os.replace(best, former)
    try:
        os.replace(part, best)
    except BaseException:
        os.replace(former, best)
        raise
    with contextlib.suppress(OSError):  # next time, then
        remove_former_best(folder)


def remove_former_best(folder):
    """Remove the model that was the best until now; what somebody has put beside its files moves
    over to the one that is it now. OSError."""
    best, former = Path(folder, BEST), Path(folder, FORMER_BEST)
    for path in former.iterdir():
        if not os.path.lexists(best / path.name):
            os.replace(path, best / path.name)
    shutil.rmtree(former)


def mend_best(folder):
    """Put in order what a run left that was killed while it replaced its best model. TrainError
    where the best model is somebody's own, OSError."""
    check_best(folder)
    best, former = Path(folder, BEST), Path(folder, FORMER_BEST)
    if former.exists():
        remove_former_best(folder) if best.exists() else os.replace(former, best)
    shutil.rmtree(Path(folder, PART), ignore_errors=True)
