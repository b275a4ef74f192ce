"""Results as lines of JSON (--json): an object for each continuation, or for each text scored.

What the fields mean stands in README.md, under "JSON".
"""

import json

from command_line.stream import write

FIELDS = {  # beside which a line of --prompts may have further ones
    "continue": (
        "prompt",
        "sample",
        "text",
        "ids",
        "log_probs",
        "finish_reason",
        "seed",
        "settings",
    ),
    "score": (
        "prompt",
        "ids",
        "log_probs",
        "total",
        "n_bytes",
        "bits_per_byte",
        "perplexity",
        "model",
    ),
}


def write_record(**fields):
    """Write an object as a line of JSON. Its characters are ASCII, others being escaped, so that no
    terminal or pipe can change them."""
    write(json.dumps(fields, allow_nan=False) + "\n")


def rounded(values):
    """Numbers with six digits after the point: float32 has no more of a log-probability."""
    return [round(value, 6) for value in values]
