"""What the model reads and what it chooses from: --show-tokens and --explain."""

import numpy as np

from files.messages import notice
from gpt2_numpy import softmax

N_BEST = 5


def spell(encoder, token_id):
    """A token in quotes, or its bytes where they are only a part of a character."""
    token = bytes(encoder.byte_decoder[character] for character in encoder.decoder[token_id])
    try:
        return repr(token.decode("utf-8"))
    except UnicodeDecodeError:
        return repr(token)


def show_tokens(encoder, ids):
    """Print to stderr how the text was split, one token a line."""
    for token_id in ids:
        notice(f"{token_id:>7}  {spell(encoder, token_id)}")


def show_choices(encoder, logits, chosen):
    """Print to stderr one step's likeliest tokens, of logits [n_vocab], and the chosen one if it is
    not among them."""
    probabilities = softmax(logits)
    best = np.argsort(-probabilities, kind="stable")[:N_BEST].tolist()
    notice("")
    for token_id in best + [chosen] * (chosen not in best):
        p = float(probabilities[token_id])
        arrow = "->" if token_id == chosen else "  "
        notice(f"  {arrow} {p:7.2%}  {'#' * round(30 * p):<30}  {spell(encoder, token_id)}")
