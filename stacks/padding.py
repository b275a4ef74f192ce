"""Sequences of different lengths side by side, filled up with what is no token."""

import numpy as np

from backward import cross_entropy
from gpt2_numpy import GPT2Error, check_ids

PADDING = -1  # where no token stands, and, among targets, where nothing is to be predicted


def pad(sequences):
    """Sequences of ids, each of its own length, as one array [n_sequences, longest], filled up on
    the right."""
    ids = np.full((len(sequences), max(map(len, sequences))), PADDING)
    for row, sequence in zip(ids, sequences, strict=True):
        row[: len(sequence)] = sequence
    return ids


def mask_from_ids(ids, padding=PADDING):
    """The mask that hides padding, ids [..., n_seq] to [..., 1, 1, n_seq]: True where there is a
    token, the same for every head and every query. GPT2Error where a row has none: softmax over
    nothing is not a number."""
    is_token = np.asarray(ids) != padding
    if not np.all(is_token.any(axis=-1)):
        raise GPT2Error("a row is nothing but padding, so that there is nothing to attend to")
    return is_token[..., None, None, :]


def mask_from_lengths(lengths, n_seq):
    """The same mask, lengths [...] to [..., 1, 1, n_seq]: each row's first so many positions hold
    tokens. GPT2Error where that is not 1 to n_seq."""
    lengths = np.asarray(lengths)
    if np.any((lengths < 1) | (lengths > n_seq)):
        raise GPT2Error(f"lengths of rows of {n_seq} positions are 1 to {n_seq}")
    return np.arange(n_seq) < lengths[..., None, None, None]


def check_padded_ids(ids, params):
    """A copy of the ids, an integer array [..., n_seq]; GPT2Error as from `check_ids`, which would
    not let padding pass."""
    ids = np.asarray(ids)
    is_padding = ids == PADDING
    return np.where(is_padding, PADDING, check_ids(np.where(is_padding, 0, ids), params))


def check_pair(ids, targets, params):
    """Copies of both, integer arrays of one shape; GPT2Error as from `check_padded_ids`, and where
    the shapes are not the same."""
    ids, targets = check_padded_ids(ids, params), check_padded_ids(targets, params)
    if ids.shape != targets.shape:
        raise GPT2Error(f"ids {ids.shape} and targets {targets.shape} are not of one shape")
    return ids, targets


def padded_cross_entropy(logits, targets, n_tokens=None):
    """`cross_entropy` of the targets that are no padding, [...], whose number n_tokens is by
    default, and its gradient [..., n_vocab], which is 0 at the others."""
    is_token = targets != PADDING
    n_tokens = n_tokens or int(np.count_nonzero(is_token))  # NumPy's int would make it float64
    if n_tokens == 0:
        raise GPT2Error("all targets are padding, so that there is nothing to learn")
    loss, d_chosen = cross_entropy(logits[is_token], targets[is_token], n_tokens)
    d_logits = np.zeros_like(logits)
    d_logits[is_token] = d_chosen
    return loss, d_logits
