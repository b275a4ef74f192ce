"""Small models on their way from noise to words, and what can be measured on that way.

All of them learn from the help pages of Python by `train.train`. Where several runs are compared,
each is `follow`ed at the same steps, and every loss is that of the same text, which no run reads.
"""

import contextlib
import math
import re
import time
from unittest import mock

import numpy as np

import backward
import gpt2_numpy
from encoder import train_bpe
from gpt2_numpy import generate, gpt2, log_softmax, sample, softmax
from train import Settings, init_params, negative_log_likelihood, thread_map, train
from utils import tree_map

N_THREADS = 2
SEEDS = (0, 1, 2)  # of runs that are compared


def split(text, share=0.9):
    """The text in two at the end of a paragraph: what models may read, and what is held out."""
    cut = text.rindex("\n\n", 0, int(share * len(text)))
    return text[:cut], text[cut:]


def doublings(n_steps):
    """[0, 1, 2, 4, ..., n_steps]"""
    return [0, *(2**i for i in range(int(math.log2(n_steps)) + 1) if 2**i < n_steps), n_steps]


def follow(
    hparams,
    ids,
    n_steps,
    at,
    look,
    params=None,
    lr=2e-3,
    seed=0,
    batch_size=8,
    n_seq=None,
    **others,
):
    """Train for n_steps, and look(params) after each of the steps `at`: {step: what it saw}.

    hparams  the model's sizes; it begins as `init_params` makes it, or with params, a copy of them
    others   further `Settings` of train.py
    """
    params = tree_map(np.copy, params) if params else init_params(hparams, seed)
    settings = Settings(
        n_seq=n_seq or hparams["n_ctx"],
        batch_size=batch_size,
        n_steps=n_steps,
        lr=lr,
        warmup=min(50, n_steps // 10),
        final_lr=lr / 10,
        seed=seed,
        micro_batch=4,
        **others,
    )
    seen = {0: look(params)} if 0 in at else {}
    for step in train(params, ids, hparams["n_head"], settings):
        if step.number in at:
            seen[step.number] = look(params)
    return seen


def film(hparams, ids, n_steps, **others):
    """{step: a copy of the parameters after it} at steps 0, 1, 2, 4, and so on."""
    at = doublings(n_steps)

    def copy(params):
        return tree_map(np.copy, params)

    return follow(hparams, ids, n_steps, at, copy, threads=N_THREADS, **others)


def side_by_side(run, *arguments):
    """[run(a, b, ...) for each a, b, ... of the lists], as many at once as there are threads."""
    with thread_map(N_THREADS) as workers:
        return list(workers(run, *arguments))


def compare(ways, n_steps, at, look, seeds=SEEDS):
    """Train for n_steps in several ways, each from every seed, and look(params) after each of the
    steps `at`: {name of the way: what it saw, [n_seeds, n_stops, ...]}.

    ways  {name: the arguments of `follow`}, as far as they differ
    """

    def run(way, seed):
        return list(follow(n_steps=n_steps, at=at, look=look, seed=seed, **way).values())

    jobs = [(way, seed) for way in ways.values() for seed in seeds]
    seen = np.array(side_by_side(run, *zip(*jobs, strict=True)))  # [n_ways * n_seeds, n_stops, ...]
    return dict(zip(ways, seen.reshape(len(ways), len(seeds), *seen.shape[1:]), strict=True))


def clock():
    """Seconds that this thread has been computing; others on the machine do not count."""
    return time.thread_time()


def loss(params, ids, n_head=4, n_seq=None):
    """Mean surprise of the tokens ids[1:], in nats per token, in windows of n_seq tokens."""
    n_seq = n_seq or len(params["wpe"])
    return negative_log_likelihood(params, ids, n_head, n_seq) / (len(ids) - 1)


def bits_per_byte(params, ids, encoder, n_head=4, n_seq=None):
    """The same in bits for each byte that the tokens ids[1:] stand for."""
    n_bytes = len(encoder.decode(ids[1:]).encode())
    return loss(params, ids, n_head, n_seq) * (len(ids) - 1) / n_bytes / math.log(2)


def continued(film, encoder, prompt, n_head=4, n_tokens=45, temperature=0.8, seed=0):
    """{step: the prompt and what the model writes after it}, always with the same luck."""
    return {
        step: prompt
        + encoder.decode(
            generate(
                encoder.encode(prompt), params, n_head, n_tokens, temperature=temperature, rng=seed
            )
        )
        for step, params in film.items()
    }


def n_grams(ids, windows, n_vocab, k=16.0):
    """Tokens foretold by counting in ids: {"unigram": p, "bigram": p, "trigram": p}, of every place
    of the windows [n_windows, n_seq] the probabilities of the token after it, [..., n_vocab].

    A context that was met n times is believed n / (n + k) of the way; the rest of the opinion is
    that of the context without its first token (MacKay & Peto 1995).
    """

    def mixed(counts, shorter):
        return (counts + k * shorter) / (counts.sum(axis=-1, keepdims=True) + k)

    counts = np.bincount(ids, minlength=n_vocab) + 0.5  # also of what never occurs
    unigram = np.broadcast_to(counts / counts.sum(), (*windows.shape, n_vocab))
    pairs = np.zeros((n_vocab, n_vocab))
    np.add.at(pairs, (ids[:-1], ids[1:]), 1.0)
    bigram = mixed(pairs[windows], unigram)

    # Two tokens as one integer: those that the windows ask for, and where the text has them.
    asked, which = np.unique(windows[:, :-1] * n_vocab + windows[:, 1:], return_inverse=True)
    met = ids[:-2] * n_vocab + ids[1:-1]
    place = np.minimum(np.searchsorted(asked, met), len(asked) - 1)
    wanted = asked[place] == met
    triples = np.zeros((len(asked), n_vocab))
    np.add.at(triples, (place[wanted], ids[2:][wanted]), 1.0)
    trigram = bigram.copy()  # at a window's first place there is one token, and the bigram
    trigram[:, 1:] = mixed(triples[which.reshape(len(windows), -1)], bigram[:, 1:])
    return {"unigram": unigram, "bigram": bigram, "trigram": trigram}


def surprise(p, targets):
    """Mean of -ln p of the targets [...], in nats: p [..., n_vocab]."""
    return -float(np.log(np.take_along_axis(p, targets[..., None], axis=-1)).mean())


def distance(params, q, windows, n_head=4):
    """How far the model's probabilities p are from q [n_windows, n_seq, n_vocab], in nats: the mean
    over all places of the Kullback-Leibler divergence, Σ p ln(p / q). 0 where they are the same."""
    logs = log_softmax(gpt2(windows, **params, n_head=n_head))
    return float((np.exp(logs) * (logs - np.log(q))).sum(axis=-1).mean())


def with_vocabulary(read, held_out, n_vocab, n_steps):
    """Train a small model on tokens of a vocabulary of its own, from every seed: of the held-out
    text, nats per token and bits per byte, [n_seeds, 2]; and how many bytes each run read."""
    encoder = train_bpe(read, n_vocab)
    ids, unread = (np.array(encoder.encode(text)) for text in (read, held_out))
    hparams = dict(n_vocab=n_vocab, n_ctx=64, n_embd=64, n_head=4, n_layer=2)

    def look(params):
        return loss(params, unread), bits_per_byte(params, unread, encoder)

    seen = compare({"": dict(hparams=hparams, ids=ids)}, n_steps, [n_steps], look)[""]
    return seen[:, 0], round(n_steps * 8 * 64 * len(read.encode()) / len(ids))


@contextlib.contextmanager
def without_mask():
    """with without_mask(): in model and gradients every position sees all of the window."""

    def see_all(n_seq, n_keys=None):
        return np.ones((n_seq, n_keys or n_seq), dtype=bool)

    with (
        mock.patch.object(gpt2_numpy, "causal_mask", see_all),
        mock.patch.object(backward, "causal_mask", see_all),
    ):
        yield


def copied(params, windows, n_head=4):
    """Mean surprise of the tokens after the first of each window [n_windows, n_seq], which lies
    before the model as a whole: one without a mask sees its answers."""
    return surprise(softmax(gpt2(windows, **params, n_head=n_head)[:, :-1]), windows[:, 1:])


def cut_off(params, windows, n_head=4, places=(4, 12, 20, 28)):
    """Mean surprise of the tokens after some places of the windows [n_windows, n_seq], when the
    model gets the text only up to there, as it is when a model writes."""
    nats = []
    for t in places:
        logits = gpt2(windows[:, : t + 1], **params, n_head=n_head)[:, t]  # [n_windows, n_vocab]
        nats.append(surprise(softmax(logits), windows[:, t + 1]))
    return float(np.mean(nats))


def words(text):
    """The words of a text: a set of str."""
    return set(re.findall(r"[A-Za-z]+", text))


def written(params, encoder, prompt, n_head=4, n_tokens=24, temperature=0.8, seed=0):
    """The prompt and what the model writes after it, reading all of the text anew for each token
    (for models without a mask, whose earlier positions change with it)."""
    ids, rng = encoder.encode(prompt), np.random.default_rng(seed)
    for _ in range(n_tokens):
        logits = gpt2(np.array(ids), **params, n_head=n_head)[-1]
        ids.append(int(sample(logits, temperature, rng=rng)))
    return encoder.decode(ids)
