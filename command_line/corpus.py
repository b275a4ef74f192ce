"""The text that a run trains on, and the held-out text that it is judged by."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from encoder import END_OF_TEXT, Encoder
from train import TrainError


@dataclass
class Corpus:
    """Both texts as ids [n_ids], and their sizes in bytes of UTF-8."""

    encoder: Encoder
    train: np.ndarray
    val: np.ndarray
    train_bytes: int
    val_bytes: int


def read_texts(corpus, val):
    """(text to train on, held-out text) of two paths; TrainError.

    Without val the end of the text is held out: a twentieth, but at most 100,000 characters, from
    where a line or at least a word begins.
    """
    text = read_text(corpus)
    if val is not None:
        return text, read_text(val, "--val the path of a text file")
    n_held_out = min(len(text) // 20, 100_000)
    place = len(text) - n_held_out
    near = text[place : place + n_held_out // 5]
    cut = place + max(0, near.find("\n") if "\n" in near else near.find(" "))
    return text[:cut], text[cut:]


def read_text(path, wanted="the path of a text file"):
    """The text of a file, with \\n at the ends of its lines; TrainError, which asks for what is
    wanted."""
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise TrainError(f"{path}: {error.strerror}; give {wanted}") from None
    except UnicodeDecodeError as error:
        raise TrainError(
            f"{path}: not UTF-8 from byte {error.start} on; save it as UTF-8"
        ) from None
    if not text.strip():
        raise TrainError(f"{path} is empty; give {wanted}")
    return text.replace("\r\n", "\n")


def hash_texts(texts):
    """The SHA-256 of each text, by which --resume knows them again."""
    return [hashlib.sha256(text.encode("utf-8")).hexdigest() for text in texts]


def encode_texts(encoder, texts, settings):
    """The Corpus; TrainError where a text is too short for a run of these settings."""
    special = () if encoder.eot is None else {END_OF_TEXT}
    train, val = (np.array(encoder.encode(text, special), np.int32) for text in texts)
    n_seq = settings.optimisation.n_seq
    if len(train) <= n_seq:
        option = "--n-ctx" if settings.init_from is None else "--n-seq"
        raise TrainError(
            f"{settings.corpus}: {len(train)} tokens to train on are not enough for a single "
            f"context of {n_seq} and the token after it; give a longer text or a smaller {option}"
        )
    if len(val) < 2:
        raise TrainError("the held-out text is shorter than two tokens; give one with --val")
    train_bytes, val_bytes = (len(text.encode("utf-8")) for text in texts)
    return Corpus(encoder, train, val, train_bytes, val_bytes)
