"""The state of a run on disk: training.npz, which --resume goes on from, and the model beside it.

training.npz holds the parameters and AdamW's moments under their places in the tree, such as
"params/blocks/0/attn/c_attn/w" and "m/wte", and in "about" everything else as JSON.
"""

import contextlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from command_line.settings import flatten_settings, nest_settings
from encoder import Encoder, EncoderError
from files.lock import try_lock
from files.messages import one_line
from files.tf_checkpoint import CheckpointError
from files.tree_names import flatten, unflatten
from files.whole import write_whole
from train import TrainError
from utils import check_fits, save_model, shapes

STATE_FILE = "training.npz"


@dataclass
class State:
    """All that changes while a run trains."""

    params: dict
    moments: dict
    step: int = 0  # so many have been taken
    losses: list = field(default_factory=list)  # of the steps since the log's last line
    seconds: float = 0.0  # of training so far


def save(settings, encoder, state):
    """Write the state and the model into the run's folder. TrainError.

    The state is one file, renamed when it is whole, and is written first: whatever happens, what
    lies there can be gone on from.
    """
    folder = Path(settings.out)
    description = {
        "settings": flatten_settings(settings),
        "hparams": settings.hparams,
        "step": state.step,
        "losses": state.losses,
        "seconds": state.seconds,
        "encoder": encoder.encoder,
        "bpe_merges": encoder.bpe_merges,
    }
    arrays = flatten({"params": state.params, **state.moments})
    try:
        check_fits(state.params, settings.dtype)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(
            {
                folder / STATE_FILE: lambda file: np.savez(
                    file, about=json.dumps(description), **arrays
                )
            }
        )
        save_model(folder, encoder, settings.hparams, state.params, settings.dtype)
    except (OSError, EncoderError, CheckpointError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise TrainError(f"cannot save in {folder}: {reason}") from error


def load(folder):
    """What `save` wrote: (settings, encoder, state). TrainError."""
    path = Path(folder, STATE_FILE)
    try:
        with np.load(path, allow_pickle=False) as file:
            description = json.loads(str(file["about"]))
            arrays = {name: file[name] for name in file.files if name != "about"}
        params, m, v = (
            read_tree(arrays, kind, description["hparams"]) for kind in ("params", "m", "v")
        )
        encoder = Encoder(
            description["encoder"], [tuple(pair) for pair in description["bpe_merges"]]
        )
        state = State(
            params,
            {"m": m, "v": v},
            description["step"],
            description["losses"],
            description["seconds"],
        )
        return nest_settings(description["settings"]), encoder, state
    except FileNotFoundError:
        raise TrainError(
            f"{path} is not there; --resume needs the folder that a training run wrote with --out"
        ) from None
    except Exception as error:  # damaged bytes make NumPy and zipfile raise a dozen kinds
        raise TrainError(
            f"{path} cannot be read: {one_line(error)}; start again from the model beside it with "
            "--init-from"
        ) from error


def read_tree(arrays, kind, hparams):
    """The tree of kind "params", "m" or "v" among the arrays of training.npz. ValueError.

    Older files have TensorFlow's names, "params/model/h0/attn/c_attn/w", and shapes, where weights
    have a leading axis of 1.
    """
    by_path = {}
    for name, array in arrays.items():
        of_kind, _, path = name.partition("/")
        if of_kind == kind:
            path = re.sub(r"^model/h(?=\d)", "blocks/", path).removeprefix("model/")
            by_path[path] = array
    tree = {}
    for path, shape in flatten(shapes(hparams)).items():
        array = by_path.get(path)
        if array is None or array.shape not in (shape, (1, *shape)):
            found = "is missing" if array is None else f"is of shape {array.shape}"
            raise ValueError(f"{kind}/{path} {found}, expected {shape}")
        tree[path] = array.reshape(shape)
    return unflatten(tree)


def check_folder(folder):
    """TrainError where there is a model already, or where nothing can be written."""
    folder, probe = Path(folder), Path(folder, "training.tmp")
    try:
        if (folder / STATE_FILE).exists():
            raise TrainError(
                f"{folder} already holds a model; give another --out, or go on with "
                f"--resume {folder}"
            )
        if (folder / "hparams.json").exists():
            raise TrainError(f"{folder} already holds a model; give another --out")
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
        if is_new:
            folder.rmdir()
    except OSError as error:
        raise TrainError(f"cannot write to {folder}: {error.strerror}") from error


@contextlib.contextmanager
def lock_folder(folder):
    """TrainError where another process is training in this folder."""
    path = Path(folder, "training.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        if not try_lock(file):
            raise TrainError(f"another run is writing to {folder}; wait for it or stop it")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows removes no open file
                path.unlink()
