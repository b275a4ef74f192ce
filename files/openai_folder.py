"""OpenAI's model folder: its files, and what the small ones and the names say.

hparams.json holds the sizes, encoder.json and vocab.bpe the vocabulary (see encoder.py). The
weights are a TensorFlow checkpoint (see tf_checkpoint.py); what its files' names begin with stands
in the file "checkpoint".
"""

import contextlib
import glob
import json
import os
import re
import stat
from pathlib import Path

from files.download import SMALL_FILE
from files.messages import notice, one_line, readable
from files.tf_checkpoint import Checkpoint, map_shard, parse_index, read_checkpoint
from files.tf_names import nest_tensors

INDEX = "model.ckpt.index"
DATA = "model.ckpt.data-00000-of-00001"
FILES = ("hparams.json", "encoder.json", "vocab.bpe", "checkpoint", INDEX, DATA)

SIZES = ("n_vocab", "n_ctx", "n_embd", "n_head", "n_layer")  # what hparams.json holds

VERIFIED = "verified.json"  # in a model folder: which files were compared with their checksums
QUICKLY_VERIFIED = 64 * 10**6  # bytes: that much is compared in a tenth of a second
STATE_FILE = "training.npz"  # in a model folder: the state that its training goes on from
OUTDATED = "model.outdated"  # in a model folder: its training saves, and has not come to the model


class FolderError(ValueError):
    """What a folder's files say is nothing that they can say: one line that says why."""


def is_complete(folder):
    """Whether a folder has all the files of one of OpenAI's models."""
    return all(os.path.isfile(folder / name) for name in FILES)


def find_missing(folder):
    """The names of the files that a folder lacks to be a model in this layout.

    Raises FolderError, and OSError where it cannot be told whether a file is there.
    """
    prefix = find_prefix(folder)
    index, data = (Path(f"{prefix}{suffix}") for suffix in (".index", ".data-00000-of-00001"))
    needed = [folder / name for name in ("hparams.json", "encoder.json", "vocab.bpe")]
    missing = [path.name for path in [*needed, index, data] if not is_file(path)]
    if data.name in missing and glob.glob(f"{glob.escape(str(prefix))}.data-*-of-?????"):
        missing.remove(data.name)  # the weights are in several files
    return missing


def is_file(path):
    """Whether a file is there. Raises OSError where the system does not tell: unlike
    os.path.isfile, for which a file in a folder without permission is not there."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def read_small(path):
    """The bytes of a file; FolderError where it is larger than any but the weights. OSError."""
    with open(path, "rb") as file:
        content = file.read(SMALL_FILE + 1)
    if len(content) > SMALL_FILE:
        raise FolderError(f"is larger than {readable(SMALL_FILE)}, far more than this file has")
    return content


def is_outdated(folder):
    """Whether a folder's model may be older than the state of its training, STATE_FILE.

    Whoever saves makes the file OUTDATED just before the state takes its name, and removes it when
    the model is written: it stays where something came between. Dates would be no evidence, as a
    copy has others. Without a state there is nothing that the model could be older than.
    """
    return os.path.isfile(folder / OUTDATED) and os.path.isfile(folder / STATE_FILE)


def find_prefix(folder):
    """The path that the weights' files begin with: the file "checkpoint" says, else model.ckpt.

    Raises FolderError, and OSError where it cannot be told whether "checkpoint" is there.
    """
    path = folder / "checkpoint"
    if not is_file(path):
        return folder / "model.ckpt"
    try:
        name = parse_checkpoint_state(read_small(path).decode("utf-8"))
    except OSError as error:
        raise FolderError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise FolderError(f"{path}: {one_line(error)}") from error
    prefix = folder / name
    if not prefix.resolve().is_relative_to(folder.resolve()):
        raise FolderError(f"{path} points out of its folder, to {name}")
    return prefix


def parse_checkpoint_state(text):
    """The path in the file "checkpoint", a CheckpointState protocol buffer in its text form.

    Raises FolderError.
    """
    line = r'^model_checkpoint_path: *"([^"\\\x00-\x1f]{1,200})" *\r?$'
    match = re.search(line, text, re.MULTILINE)
    if not match:
        raise FolderError("does not name a checkpoint")
    return match[1]


def format_checkpoint_state(name):
    """The content of the file "checkpoint" for a checkpoint of this name."""
    return f'model_checkpoint_path: "{name}"\n'


def parse_hparams(text):
    """The five numbers that hparams.json holds: {"n_vocab": int, ...}, other keys left out.

    Raises FolderError where they cannot be GPT-2's.
    """
    said = parse_json_object(text)
    hparams = {name: find_size(said, name) for name in SIZES}
    check_heads(hparams)
    return hparams


def find_size(said, name):
    """The number of this name in a dict from JSON. FolderError where it is none that counts."""
    value = said.get(name)
    if type(value) is not int or not 0 < value < 2**31:  # bool is an int, too
        found = "is missing" if value is None else f"is {str(value)[:40]}"
        raise FolderError(f"{name} {found}, where a positive whole number is expected")
    return value


def check_heads(hparams):
    """FolderError where the features cannot be divided among the heads."""
    if hparams["n_embd"] % hparams["n_head"]:
        raise FolderError(
            f"n_embd {hparams['n_embd']} cannot be divided among n_head {hparams['n_head']} heads"
        )


def parse_json_object(text):
    """The dict that a text in JSON holds. Raises FolderError."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        page = " (it looks like an HTML page)" if text.lstrip().startswith("<") else ""
        raise FolderError(f"is not JSON{page}: {error}") from None
    if not isinstance(value, dict):
        raise FolderError("is not a JSON object")
    return value


def check_file(name, part, hparams, shapes):
    """Raise ValueError unless a file of a released model, lying under `part`, is what it should be.

    hparams, shapes: of the model. The vocabulary's files are checked elsewhere, and pass. Of the
    weights every tensor is compared with its checksum; their index lies beside them.
    """
    if name == "hparams.json":
        if (found := parse_hparams(read_small(part).decode("utf-8"))) != hparams:
            raise FolderError(f"is of another model: {found}")
    elif name == "checkpoint":
        if parse_checkpoint_state(read_small(part).decode("utf-8")) != "model.ckpt":
            raise FolderError("names another checkpoint than model.ckpt")
    elif name == INDEX:
        parse_one_shard_index(part.read_bytes())
    elif name == DATA:
        notice("checking every tensor's checksum")
        entries = parse_one_shard_index(part.with_name(INDEX).read_bytes())
        tensors = Checkpoint(part, entries, {0: map_shard(part, entries)})
        nest_tensors(tensors, shapes)
        tensors.verify()


def parse_one_shard_index(table):
    """{name: Entry} of the tensors in an index, of a checkpoint in one shard. Raises ValueError."""
    n_shards, entries = parse_index(table)
    if n_shards != 1:
        raise FolderError(f"is of a checkpoint in {n_shards} shards instead of 1")
    return entries


def verify_once(prefix):
    """Compare the weights at a prefix with their checksums. Raises CheckpointError.

    Small files are checked every time, as it takes no time. Of large ones a note is left in the
    folder, and they are checked again only when size or date differ from it.
    """
    if is_large(stat_files(prefix)):
        if was_verified(prefix):
            return
        notice(f"comparing the weights in {prefix.parent} with their checksums")
    read_checkpoint(prefix, verify=True)
    note_verified(prefix)


def was_verified(prefix):
    """Whether a note says that these files, of this size and date, were compared already."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads(read_small(prefix.parent / VERIFIED)) == stat_files(prefix)
    return False


def note_verified(prefix):
    """Leave the note that `verify_once` looks for, where the folder can be written to."""
    state = stat_files(prefix)
    if is_large(state):
        with contextlib.suppress(OSError):
            (prefix.parent / VERIFIED).write_text(json.dumps(state), "utf-8")


def stat_files(prefix):
    """{name: [bytes, date in ns]} of a checkpoint's files."""
    paths = [
        Path(f"{prefix}.index"),
        *prefix.parent.glob(f"{glob.escape(prefix.name)}.data-*-of-?????"),
    ]
    found = {path.name: path.stat() for path in paths}
    return {name: [status.st_size, status.st_mtime_ns] for name, status in found.items()}


def is_large(state):
    """Whether comparing these files with their checksums takes a while."""
    return sum(size for size, _ in state.values()) > QUICKLY_VERIFIED
