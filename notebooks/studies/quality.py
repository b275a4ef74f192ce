"""What is measured of a model's probabilities: how far back it looks, what it has been told before,
whether its percentages mean what they say; and what packers and a training's log say beside it."""

import bz2
import itertools
import json
import lzma
import re
import zlib
from pathlib import Path

import numpy as np

from gpt2_numpy import gpt2, log_probs, log_softmax

TALES = Path(__file__).resolve().parents[2] / "models" / "tales"


SMALL_WORDS = set("the a an and of to in he she it was had that his her him".split())


def kinds(tokens):
    """Of each token after the first: "small word", "other word" (or its beginning), "rest of a
    word", "punctuation"; tokens are str."""
    found = []
    for before, token in itertools.pairwise(tokens):
        if not token.strip()[:1].isalpha():
            found.append("punctuation")
        elif token[0].isalpha() and before[-1].isalpha():
            found.append("rest of a word")
        else:
            is_small = token.strip().lower() in SMALL_WORDS
            found.append("small word" if is_small else "other word")
    return np.array(found)


def of_blocks(values, n_block=32):
    """Mean of surprises [n] and its standard error, from the means of blocks: neighbours in a text
    are not independent."""
    n_blocks = len(values) // n_block
    means = np.asarray(values[: n_blocks * n_block], float).reshape(n_blocks, n_block).mean(axis=1)
    return float(np.mean(values)), float(means.std(ddof=1) / np.sqrt(n_blocks))


def surprises(inputs, targets, params, n_head):
    """-ln p of the targets [n_rows, n], which end with the token after the inputs [n_rows, n_seq]:
    [n_rows, n]."""
    parts = []
    for start in range(0, len(inputs), 64):  # some at a time, as logits take room
        rows, wanted = inputs[start : start + 64], targets[start : start + 64]
        logs = log_softmax(gpt2(rows, **params, n_head=n_head, n_logits=wanted.shape[1]))
        parts.append(-np.take_along_axis(logs, wanted[..., None], axis=-1)[..., 0])
    return np.concatenate(parts).astype(float)


def by_position(ids, n_ctx, stride, params, n_head):
    """A text read in windows that begin every `stride` tokens: surprises [n_windows, n_ctx], of
    which column i has been guessed from i + 1 tokens."""
    ids = np.asarray(ids)
    starts = np.arange(0, len(ids) - n_ctx, stride)
    places = starts[:, None] + np.arange(n_ctx)
    return surprises(ids[places], ids[places + 1], params, n_head)


def by_context(ids, n_context, n_first, params, n_head):
    """The surprise of ids[n_first:], each guessed from n_context tokens before it, or up to a
    quarter fewer where there are many; n_first >= n_context."""
    ids = np.asarray(ids)
    stride = max(1, n_context // 4)
    n_windows = -(-(len(ids) - n_first) // stride)
    ends = n_first + stride * np.arange(n_windows)  # of each window the first token to guess
    targets = ends[:, None] + np.arange(stride)
    places = ends[:, None] + np.arange(stride - 1 - n_context, stride - 1)
    last = len(ids) - 1
    found = surprises(ids[np.minimum(places, last)], ids[np.minimum(targets, last)], params, n_head)
    return found.ravel()[: len(ids) - n_first]


def sentences(text, encoder):
    """Whole sentences of a text without speech in them, as ids that begin with a space."""
    found = re.findall(r"[A-Z][^.'?!:;\n]{25,90}\.", text)
    return [encoder.encode(" " + sentence) for sentence in found]


def told_before(lines, n_copies, encoder, params, n_head):
    """Mean surprise of each sentence after n_copies of itself, and after as many tokens of other
    sentences: two arrays [n_sentences]. Nothing but a line break stands before them."""
    start, results = encoder.encode("\n\n"), []
    for i, line in enumerate(lines):
        others = others_than(lines, i)
        befores = (n_copies * line, others[len(others) - n_copies * len(line) :])
        results.append(
            [
                -log_probs(start + before + line, params, n_head)[-len(line) :].mean()
                for before in befores
            ]
        )
    return np.array(results, float).T


def told_long_ago(lines, n_between, encoder, params, n_head):
    """What it takes off the mean surprise of each sentence that it stood in the text before, with
    n_between tokens of other sentences between, instead of another: [n_sentences]."""
    start, gains = encoder.encode("\n\n"), []
    for i, line in enumerate(lines):
        others = others_than(lines, i)
        between = others[len(others) - n_between :]
        stranger = (3 * lines[(i + 1) % len(lines)])[-len(line) :]
        itself, another = (
            -log_probs(start + before + between + line, params, n_head)[-len(line) :].mean()
            for before in (line, stranger)
        )
        gains.append(another - itself)
    return np.array(gains, float)


def others_than(lines, i):
    """The ids of the 18 sentences before line i, in order, but not those next to it."""
    return [token for j in range(19, 1, -1) for token in lines[(i - j) % len(lines)]]


def wilson(share, n, z=1.96):
    """The 95 % interval of a share found in n cases (Wilson 1927): (low, high)."""
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return centre - half, centre + half


def groups(said, came, n_groups=8):
    """Forecasts in groups of nearly equal size, the least sure first: (mean of what was said, share
    that came, low, high of its 95 % interval), each [n_groups]."""
    parts = np.array_split(np.argsort(said, kind="stable"), n_groups)
    forecast, share = (np.array([values[part].mean() for part in parts]) for values in (said, came))
    low, high = wilson(share, np.array([len(part) for part in parts]))
    return forecast, share, low, high


def packed(text):
    """Bits per byte of a text as packers store it, the best first: {name: bits}."""
    data = text.encode("utf-8")
    packers = {
        "bz2": bz2.compress(data, 9),
        "zip (deflate)": zlib.compress(data, 9),
        "xz": lzma.compress(data, preset=9, format=lzma.FORMAT_ALONE),
    }
    sizes = {name: 8 * len(result) / len(data) for name, result in packers.items()}
    return dict(sorted(sizes.items(), key=lambda item: item[1]))


def training_log():
    """The log that lies beside the weights of tales: a list of dicts, or [] where there is none."""
    path = TALES / "log.jsonl"
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def of_columns(table, first, last, stride):
    """Mean and standard error of columns first to last of `by_position`'s surprises. Windows that
    begin every `stride` tokens share tokens where more columns than that are taken: they count as
    fewer."""
    means = table[:, first:last].mean(axis=1)
    n = len(means) * min(1.0, stride / (last - first))
    return float(means.mean()), float(means.std(ddof=1) / np.sqrt(n))


LISTING = """
def data_generator(vocab, target_sequence, batch_size):
    while True:
        sample_indices = np.random.randint(0, VOCAB_SIZE, size=batch_size)
        sample_data = pad_sequences([[vocab[i] for i in sample_indices]], maxlen=10, padding='post')
        sample_targets = pad_sequences([[target_sequence[i] for i in sample_indices]], maxlen=10, padding='post')
        yield sample_data, sample_targets

model.fit(data_generator(vocab, target_sequence, batch_size), epochs=EPOCHS, batch_size=BATCH_SIZE)
"""  # noqa: E501


def run_listing(given):
    """Run the end of an article's listing, word for word but for its comments, with all that the
    listing defines or imports before, Keras's part played by stand-ins: the error that stops it."""

    class Model:
        def fit(self, data, epochs, batch_size):
            next(data)

    defined = {"VOCAB_SIZE": 10000, "BATCH_SIZE": 32, "EPOCHS": 10, "model": Model()}
    defined |= {"vocab": list(range(10000)), "target_sequence": [0] * 10000}
    defined |= {"pad_sequences": lambda rows, **options: rows}
    try:
        exec(LISTING, defined | given)
    except NameError as error:
        return f"NameError: {error}"
    return "runs"
