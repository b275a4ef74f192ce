"""How probable a text is, token by token: --score."""

import math

import numpy as np

from command_line.explain import spell
from command_line.stream import write
from files.messages import notice
from gpt2_numpy import GPT2Error, log_probs


def write_scores(encoder, params, n_head, ids):
    """Write each token's log-probability, given those before it, to stdout; then their sum and the
    perplexity."""
    if len(ids) < 2:
        raise GPT2Error(
            "--score needs a prompt of two tokens or more; nothing comes before the first that "
            "could predict it"
        )
    notice(f"scoring {len(ids)} tokens")
    logs = log_probs(ids, params, n_head)
    total = float(np.sum(logs, dtype=np.float64))
    lines = [
        f"{'log p':>9}  {'p':>8}  {'id':>6}  token",
        f"{'-':>9}  {'-':>8}  {ids[0]:>6}  {spell(encoder, ids[0])}",
    ]
    for log_p, token_id in zip(logs.tolist(), ids[1:], strict=True):
        p, token = math.exp(log_p), spell(encoder, token_id)
        lines.append(f"{log_p:9.4f}  {p:8.2%}  {token_id:>6}  {token}")
    tokens = "token" if len(logs) == 1 else "tokens"
    lines.append(f"{total:9.4f}  nats in total for the {len(logs)} {tokens} after the first")
    lines.append(f"{np.exp(-total / len(logs)):9.4f}  perplexity, exp(-total / {len(logs)})")
    write("\n".join(lines) + "\n")
