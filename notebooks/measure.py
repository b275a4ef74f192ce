"""What more than one notebook measures: losses on a tale that no model has read."""

from pathlib import Path

import numpy as np

from gpt2_numpy import log_softmax

HERE = Path(__file__).resolve().parent


def windows(encoder, n_seq=128):
    """The tale's tokens, cut into windows: ids [n_windows, n_seq]."""
    ids = np.array(encoder.encode((HERE / "tale.txt").read_text("utf-8")))
    return ids[: len(ids) // n_seq * n_seq].reshape(-1, n_seq)


def loss(logits, ids):
    """Mean surprise of the tokens after the first, in nats per token: logits [..., n_seq, n_vocab],
    ids [..., n_seq]. Infinite where the model computes no numbers."""
    logs = np.take_along_axis(log_softmax(logits[..., :-1, :]), ids[..., 1:, None], axis=-1)
    return -float(np.where(np.isfinite(logs), logs, -np.inf).mean())
