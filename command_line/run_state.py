"""The state of a run on disk: training.npz, which --resume goes on from, and the model beside it.

training.npz holds the parameters and AdamW's moments under their places in the tree, such as
"params/blocks/0/attn/c_attn/w" and "m/wte", and in "about" everything else as JSON.
"""

import errno
import json
import math
import os
import re
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from command_line.run_folder import check_resumable
from command_line.settings import (
    CHANGEABLE,
    check_settings,
    flatten_settings,
    nest_settings,
)
from encoder import Encoder, EncoderError, get_encoder
from files.messages import one_line
from files.openai_folder import (
    OUTDATED,
    STATE_FILE,
    FolderError,
    find_missing,
    find_prefix,
    is_outdated,
    parse_hparams,
)
from files.tf_checkpoint import CheckpointError, read_checkpoint
from files.tf_names import name_tensors
from files.tree_names import flatten, unflatten
from files.whole import write_whole
from train import TrainError
from utils import ModelError, load_hparams, load_params, save_model, shapes


@dataclass
class State:
    """All that changes while a run trains."""

    params: dict
    moments: dict
    step: int = 0  # so many have been taken
    losses: list = field(default_factory=list)  # of the steps since the log's last line
    seconds: float = 0.0  # of training so far
    evaluated: int | None = None  # the step of the newest evaluation


def is_finished(settings, state):
    """Whether nothing is left to be done: neither a step nor the last evaluation."""
    return state.step >= settings.optimisation.n_steps and state.evaluated == state.step


def write_state(settings, encoder, state):
    """Write training.npz into the run's folder: one file, renamed when it is whole. TrainError.

    From then on the model beside it is older, as the file OUTDATED says until `write_model` has
    written the new one: it is made just before the state takes its name.
    """
    folder = Path(settings.out)
    description = {
        "settings": flatten_settings(settings),
        "hparams": settings.hparams,
        "step": state.step,
        "losses": state.losses,
        "seconds": state.seconds,
        "evaluated": state.evaluated,
        "encoder": encoder.encoder,
        "bpe_merges": encoder.bpe_merges,
    }
    arrays = flatten({"params": state.params, **state.moments})

    def write(file):
        np.savez(file, about=json.dumps(description), **arrays)

    def rename(temporary):
        advice = "The model here may be older than training.npz: python train.py --resume mends it."
        write_whole({folder / OUTDATED: f"{advice}\n".encode()})
        for part, path in temporary.items():
            os.replace(part, path)

    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole({folder / STATE_FILE: write}, rename)
    except OSError as error:
        raise TrainError(f"cannot save in {folder}: {error.strerror}") from error


def write_model(settings, encoder, state):
    """Write the model into the run's folder. TrainError, and what was there stays."""
    folder = Path(settings.out)
    try:
        save_model(folder, encoder, settings.hparams, state.params, settings.dtype)
        (folder / OUTDATED).unlink(missing_ok=True)
    except (OSError, EncoderError, CheckpointError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise TrainError(f"cannot save the model in {folder}: {reason}") from error


def go_on(settings, error):
    """What to do after an error of saving a run: the command that goes on, once it can."""
    if "float16" in str(error):
        return f"go on with: {spell_resume(replace(settings, dtype='float32'))}"
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    is_full = any(os.strerror(number) in str(error) for number in full)
    cure = "make room" if is_full else "put that right"
    return f"{cure}, then go on with: {spell_resume(settings)}"


def spell_resume(settings, text=None):
    """The command that goes on with a run, on this text where one is named. It repeats the options
    that were changed and that training.npz does not hold yet."""
    wanted, saved = flatten_settings(settings), read_settings(settings.out)
    held = wanted if saved is None else flatten_settings(saved)
    if text is None and wanted["corpus"] != held["corpus"]:
        text = wanted["corpus"]
    words = ["python", "train.py", *([] if text is None else [text]), "--resume", settings.out]
    for name in ("val", *CHANGEABLE):
        if wanted[name] != held[name]:
            words.append(f"--{name.replace('_', '-')}")
            words += [] if name == "keep_best" else [str(wanted[name])]
    return shlex.join(words)


def read_settings(folder):
    """The settings that the run's training.npz holds; None where it cannot be read."""
    try:
        with np.load(Path(folder, STATE_FILE), allow_pickle=False) as file:
            description = json.loads(str(file["about"]))
    except OSError:
        return None
    return nest_settings(description["hparams"] | description["settings"] | {"out": folder})


def is_saved(settings):
    """Whether the run's folder holds a state with these settings, and a model that is no older."""
    folder = Path(settings.out)
    try:
        load_params(folder, load_hparams(folder))
    except (OSError, ModelError):
        return False
    return read_settings(settings.out) == settings and not is_outdated(folder)


def holds_model(settings, encoder, params):
    """Whether the run's folder holds this model, to the last bit."""
    folder = Path(settings.out)
    try:
        found, hparams = get_encoder(folder), load_hparams(folder)
        tensors = read_checkpoint(find_prefix(folder), verify=True)
    except (OSError, EncoderError, ModelError, FolderError, CheckpointError):
        return False
    named = name_tensors(params)
    return (
        hparams == settings.hparams
        and found.encoder == encoder.encoder
        and found.bpe_merges == encoder.bpe_merges
        and set(tensors) == set(named)
        and all(
            tensors[name].dtype == settings.dtype
            and np.array_equal(tensors[name], array.astype(settings.dtype, copy=False))
            for name, array in named.items()
        )
    )


def load(folder):
    """(settings, encoder, state) as `write_state` wrote them, every part checked. TrainError."""
    check_resumable(folder)
    path = Path(folder, STATE_FILE)
    try:
        arrays = read_arrays(path)
        description = json.loads(str(arrays.pop("about")))
        check_description(description)
        hparams = parse_hparams(json.dumps(description["hparams"]))
        settings = nest_settings(hparams | description["settings"] | {"out": os.fspath(folder)})
        merges = [tuple(pair) for pair in description["bpe_merges"]]
        encoder = Encoder(description["encoder"], merges)
        check_whole(settings, hparams, encoder, description)
        params, m, v = (read_tree(arrays, kind, hparams) for kind in ("params", "m", "v"))
        step, losses, seconds = (description[name] for name in ("step", "losses", "seconds"))
        evaluated = description.get("evaluated", step)  # in older files none is owed
        state = State(params, {"m": m, "v": v}, step, losses, seconds, evaluated)
        return settings, encoder, state
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes make NumPy and zipfile raise a dozen kinds
        is_damage = getattr(error, "errno", None) in (None, errno.EINVAL)  # EINVAL: no such place
        if is_damage:
            raise TrainError(describe_damage(path, error)) from error
        raise TrainError(
            f"{path} cannot be read: {error.strerror}; put that right, then run again"
        ) from error


def describe_damage(path, error):
    """The line about a training.npz that holds something else than `write_state` wrote."""
    found = "an array of Python objects, which are never loaded"
    if "pickle" not in str(error):  # NumPy's advice would be to load what anyone may have written
        found = one_line(error) if str(error) else type(error).__name__
    try:
        has_model = not find_missing(path.parent)
    except FolderError:
        has_model = False
    advice = "there is no whole model beside it to go on from: start anew, with another --out"
    if has_model:
        advice = f"go on from the model beside it, with --init-from {path.parent} and another --out"
    return f"{path} cannot be read: {found}; {advice}"


def read_arrays(path):
    """{name: array} of a NumPy archive. OSError, ValueError and whatever damage makes NumPy and
    zipfile raise."""
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def check_description(description):
    """ValueError that names the first part of a description that no run writes there."""
    parts = {
        "settings": lambda value: isinstance(value, dict),
        "hparams": lambda value: isinstance(value, dict),
        "step": is_count,
        "losses": lambda value: isinstance(value, list) and all(map(is_finite, value)),
        "seconds": lambda value: is_finite(value) and value >= 0,
        "encoder": lambda value: isinstance(value, dict),
        "bpe_merges": lambda value: isinstance(value, list) and all(map(is_pair, value)),
    }
    if not isinstance(description, dict):
        raise ValueError("its description is no JSON object")
    for name, is_right in parts.items():
        if name not in description:
            raise ValueError(f"its {name} is missing")
        if not is_right(description[name]):
            raise ValueError(f"its {name} is {description[name]!r:.40}")
    evaluated = description.get("evaluated")
    if evaluated is not None and not is_count(evaluated):
        raise ValueError(f"its evaluated is {evaluated!r:.40}")
    for name in ("corpus", "sha256"):
        if name not in description["settings"]:
            raise ValueError(f"the setting {name} is missing")
    check_settings(description["settings"])


def is_count(value):
    """Whether this is a whole number from 0 on."""
    return type(value) is int and value >= 0  # bool is an int, too


def is_finite(value):
    """Whether this is a number, and no infinity or NaN."""
    return type(value) in (int, float) and math.isfinite(value)


def is_pair(value):
    """Whether this is a list of two texts, as a merge is in JSON."""
    return isinstance(value, list) and [type(token) for token in value] == [str, str]


def check_whole(settings, hparams, encoder, description):
    """ValueError where settings, hparams, vocabulary and the numbers of steps do not belong
    together."""
    if hparams != settings.hparams:
        raise ValueError("its hparams are not those of its settings")
    if encoder.n_vocab != settings.n_vocab:
        raise ValueError(f"its vocabulary has {encoder.n_vocab} tokens, not {settings.n_vocab}")
    if settings.optimisation.n_seq > settings.n_ctx:
        raise ValueError(f"the setting n_seq is more than the context, {settings.n_ctx}")
    if description["step"] > settings.optimisation.n_steps:
        raise ValueError(f"its step is after the last, {settings.optimisation.n_steps}")
    if (description.get("evaluated") or 0) > description["step"]:
        raise ValueError(f"its evaluated is a step after the newest, {description['step']}")


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
    # Of a billion layers that damaged hparams may claim, the first that is missing is enough.
    n_layer = min(hparams["n_layer"], len(arrays))
    for path, shape in flatten(shapes(hparams | {"n_layer": n_layer})).items():
        array = by_path.get(path)
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{kind}/{path} is missing, expected {shape}")
        if array.shape not in (shape, (1, *shape)):
            raise ValueError(f"{kind}/{path} is of shape {array.shape}, expected {shape}")
        if array.dtype != np.float32:
            raise ValueError(f"{kind}/{path} is {array.dtype}, expected float32")
        if not np.isfinite(array).all() or (kind == "v" and array.min(initial=0) < 0):
            raise ValueError(f"{kind}/{path} has a number that cannot be there")
        tree[path] = array.reshape(shape)
    return unflatten(tree)
