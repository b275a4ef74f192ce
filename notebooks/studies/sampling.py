"""What the sampler's settings make of a text: pieces of a tale continued, and what is counted."""

import re

import numpy as np

from gpt2_numpy import Context, generate, log_probs, log_softmax


def pieces(ids, n_prompt, n_new):
    """A text's ids, cut into pieces that do not overlap: [n_pieces, n_prompt + n_new]."""
    n_piece = n_prompt + n_new
    return np.array(ids[: len(ids) // n_piece * n_piece]).reshape(-1, n_piece)


def continued(rows, n_prompt, params, n_head, rng=0, n_texts=1, **settings):
    """The rows with all after their first n_prompt ids written by `generate`, n_texts times each:
    [n_rows, n_texts, n_seq]."""
    prompts = np.repeat(rows[:, :n_prompt], n_texts, axis=0)
    n_new = rows.shape[1] - n_prompt
    new = np.stack(list(generate(prompts, params, n_head, n_new, rng=rng, **settings)), axis=1)
    return np.concatenate([prompts, new], axis=1).reshape(len(rows), n_texts, -1)


def beam(prompt, n_tokens, n_beams, params, n_head):
    """The best continuation that beam search finds: ids [n_tokens], and its log-probability. Keys
    and values are remembered, so that each step reads one token of each beam alone."""
    context = Context(params, n_head, len(prompt) + n_tokens)
    logs = log_softmax(context.read(np.array(prompt))[-1:])  # [1, n_vocab]
    context.repeat(n_beams)
    beams, totals = np.empty((1, 0), int), np.zeros(1)
    for _ in range(n_tokens):
        candidates = totals[:, None] + logs
        best = np.argsort(-candidates, axis=None, kind="stable")[:n_beams]
        parents, tokens = np.unravel_index(best, candidates.shape)
        beams = np.concatenate([beams[parents], tokens[:, None]], axis=1)
        totals = candidates[parents, tokens]
        for layer in context.cache:
            layer["k"], layer["v"] = layer["k"][parents], layer["v"][parents]
        if beams.shape[1] < n_tokens:  # the last token is never read
            logs = log_softmax(context.read(tokens[:, None])[:, -1])
    return beams[0], float(totals[0])


def split_words(text):
    return re.findall(r"[a-z]+(?:'[a-z]+)?", text.lower())


def repeated(text, n=3):
    """Of every n words in a row, the share that stood in the text before."""
    words = split_words(text)
    before, again = set(), []
    for i in range(len(words) - n + 1):
        again.append(tuple(words[i : i + n]) in before)
        before.add(tuple(words[i : i + n]))
    return float(np.mean(again)) if again else 0.0


def distinct(text):
    """Different words, as a share of all words."""
    words = split_words(text)
    return len(set(words)) / max(1, len(words))


def measured(rows, n_prompt, encoder, params, n_head):
    """Of the part after the prompt: nats per token, share of words in threes that are repeated,
    share of distinct words. rows [n_pieces, n_texts, n_seq] to [n_pieces, 3], means over texts."""
    n_pieces, n_texts, n_seq = rows.shape
    flat = rows.reshape(-1, n_seq)
    nats = -log_probs(flat, params, n_head)[:, n_prompt - 1 :].mean(axis=1)
    texts = [encoder.decode(row[n_prompt:].tolist()) for row in flat]
    counted = [(repeated(text), distinct(text)) for text in texts]
    values = np.concatenate([nats[:, None], counted], axis=1)  # [n_pieces * n_texts, 3]
    return values.reshape(n_pieces, n_texts, 3).mean(axis=1)


def mean_and_error(values):
    """Mean over the first axis, and its standard error: [n, ...] to [2, ...]."""
    values = np.asarray(values, float)
    return np.array([values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))])
