"""What temperature, top-k and top-p make of a model's text, beside the text that people wrote.

    pip install -r requirements.txt
    python benchmarks/sampling.py TEXT --judge FOLDER

TEXT is one that neither model has read. Pieces of it are continued from their first tokens, with
each setting of the sampler, and what its author wrote instead is measured in the same way:

    judge      bits per byte of the continuation, under another model than the one that wrote it
    own        the same under the model itself
    repeated   of three words in a row, how many have occurred in the piece before, in percent
    distinct   different words in the continuation, in percent of all
    known      words that occur in TEXT or in the file of --words, in percent of all

Each is the mean over the pieces, ± its standard error.
"""

import argparse
import math
import re
import statistics
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gpt2_numpy import generate, log_probs
from utils import load_encoder_hparams_and_params

N_PROMPT, N_NEW = 16, 110  # tokens
SETTINGS = [  # temperature, top_k, top_p
    (0.0, 0, 1.0),
    *[(temperature, 40, 1.0) for temperature in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)],
    *[(temperature, 0, 0.9) for temperature in (0.6, 0.7, 0.8, 0.9, 1.0)],
    *[(temperature, 0, 0.95) for temperature in (0.7, 0.8)],
    *[(temperature, 0, 1.0) for temperature in (0.6, 0.7, 0.8, 1.0)],
]


def bits_per_byte(prompt, text, model):
    """Of a text after its prompt, under a model."""
    encoder, hparams, params = model
    n_prompt = len(encoder.encode(prompt))
    ids = encoder.encode(prompt + text)[: hparams["n_ctx"]]
    logs = log_probs(ids, params, hparams["n_head"])[n_prompt - 1 :]
    n_bytes = len(encoder.decode(ids).encode()) - len(prompt.encode())
    return -float(logs.sum()) / math.log(2) / n_bytes


def split_words(text):
    return re.findall(r"[a-z]+(?:'[a-z]+)?", text.lower())


def measure(prompt, text, judge, writer, known):
    words = split_words(text)
    before, repeated = set(), 0
    triples = list(zip(words, words[1:], words[2:], strict=False))
    for triple in triples:
        repeated += triple in before
        before.add(triple)
    return (
        bits_per_byte(prompt, text, judge),
        bits_per_byte(prompt, text, writer),
        100 * repeated / max(1, len(triples)),
        100 * len(set(words)) / max(1, len(words)),
        100 * sum(word in known for word in words) / max(1, len(words)),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("text", metavar="TEXT")
    parser.add_argument("--judge", metavar="FOLDER", required=True, help="another model's folder")
    parser.add_argument("--model", default="tales")
    parser.add_argument("--words", action="append", default=[], metavar="FILE")
    parser.add_argument("--pieces", type=int, default=64)
    arguments = parser.parse_args()
    writer = encoder, hparams, params = load_encoder_hparams_and_params(arguments.model)
    judge = load_encoder_hparams_and_params(arguments.judge)
    text = Path(arguments.text).read_text("utf-8")
    known = set(
        split_words("\n".join([text, *(Path(p).read_text("utf-8") for p in arguments.words)]))
    )
    ids = np.array(encoder.encode(text))
    starts = np.linspace(0, len(ids) - N_PROMPT - N_NEW, arguments.pieces).astype(int)
    pieces = np.stack([ids[start : start + N_PROMPT + N_NEW] for start in starts])

    def report(title, rows):
        measured = [
            measure(
                encoder.decode(row[:N_PROMPT]), encoder.decode(row[N_PROMPT:]), judge, writer, known
            )
            for row in rows
        ]
        columns = [(statistics.mean(c), statistics.stdev(c)) for c in zip(*measured, strict=True)]
        cells = [f"{mean:6.2f} ±{std / math.sqrt(len(rows)):5.2f}" for mean, std in columns]
        print(f"{title:36}", *cells, flush=True)

    print(
        f"{'':36}", *(f"{name:>13}" for name in ("judge", "own", "repeated", "distinct", "known"))
    )
    report("as it was written", pieces)
    for temperature, top_k, top_p in SETTINGS:
        steps = generate(
            pieces[:, :N_PROMPT], params, hparams["n_head"], N_NEW, temperature, top_k, top_p, rng=0
        )
        new = np.stack(list(steps), axis=1)
        title = f"temperature {temperature}, top-k {top_k}, top-p {top_p}"
        report(title, np.concatenate([pieces[:, :N_PROMPT], new], axis=1))


if __name__ == "__main__":
    main()
