"""The folder of a run: one run at a time, and never over a model that is there."""

import contextlib
import os
import shlex
from pathlib import Path

from files.huggingface import CONFIG, WEIGHTS, WEIGHTS_INDEX
from files.lock import open_lock
from files.openai_folder import FILES, STATE_FILE
from train import TrainError

BEST = "best"  # in the folder: that of the model with the lowest held-out loss
FORMER_BEST = ".best.old"  # what was called so until another takes its place
LOCK = "training.lock"
WRITTEN = (STATE_FILE, *FILES, "log.jsonl", BEST, FORMER_BEST)
OF_OTHERS = (CONFIG, WEIGHTS, WEIGHTS_INDEX)  # of a model in Hugging Face's layout


def check_folder(folder):
    """TrainError where a model, or anything that a run would write over, is in this folder."""
    held = [name for name in (*WRITTEN, *OF_OTHERS) if os.path.lexists(os.path.join(folder, name))]
    if STATE_FILE in held:
        raise TrainError(
            f"{folder} already holds a model; give another --out, or go on with --resume "
            f"{shlex.quote(str(folder))}"
        )
    if held:
        raise TrainError(f"{folder} already holds a model ({held[0]}); give another --out")


def check_resumable(folder):
    """TrainError where there is no state of a run in this folder."""
    path = os.path.join(folder, STATE_FILE)
    if not os.path.exists(path):
        raise TrainError(
            f"{path} is not there; --resume needs the folder that a training run wrote with --out"
        )


@contextlib.contextmanager
def lock_folder(folder):
    """with lock_folder(folder): the folder, made if there is none, belongs to this process alone.

    What was made here and has remained empty is removed in the end. Raises TrainError where another
    process is training in this folder, or where nothing can be written.
    """
    path = Path(folder, LOCK)
    made = [parent for parent in path.parents if not os.path.exists(parent)]
    try:
        file = open_lock(path)
    except OSError as error:
        remove_empty(made)
        raise TrainError(
            f"cannot write to {folder}: {error.strerror}; give another folder, one that can be "
            "written to"
        ) from error
    if file is None:
        raise TrainError(f"another run is writing to {folder}; wait for it or stop it")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows removes no open file
            path.unlink()
        file.close()
        remove_empty(made)


def remove_empty(folders):
    """Remove folders, the innermost first, as far as they are empty."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()
