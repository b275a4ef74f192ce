"""Many prompts of different lengths, continued side by side.

To generate a token every weight is read once; for sixteen texts side by side, still once. What
`generate` does for texts of one length is done here for texts of any: when one has ended, the next
prompt takes its place. Each text is what `generate` makes of its prompt alone with the same seed,
as far as rounding allows: sums of many rows are added in another order than those of one.
"""

import warnings
from collections import deque
from dataclasses import dataclass

import numpy as np

from command_line.continuation import LENGTH, Continuation
from gpt2_numpy import (
    Context,
    ContextWarning,
    block,
    layer_norm,
    linear,
    log_softmax,
    new_cache,
    sample,
)


@dataclass
class Text:
    """A prompt and what has become of it."""

    place: int  # among the prompts
    samples: list  # its continuations
    rng: np.random.Generator
    newest: np.ndarray | None = None  # the token drawn last for each sample, [n_samples]
    n_steps: int = 0

    def draw(self, logits, n_tokens, **sampling):
        """Draw each sample's next token, from logits [n_samples, n_vocab]; after n_tokens end."""
        self.newest = sample(logits, rng=self.rng, **sampling)
        self.n_steps += 1
        logs = np.take_along_axis(log_softmax(logits), self.newest[:, None], axis=-1)[:, 0]
        for i, continuation in enumerate(self.samples):
            if continuation.finish_reason is None:
                continuation.add(int(self.newest[i]), float(logs[i]))
            if continuation.finish_reason is None and self.n_steps == n_tokens:
                continuation.end(LENGTH)

    def has_ended(self):
        """Whether all samples have; until then those that have go on growing, unseen, so that the
        random numbers of the others do not depend on them."""
        return all(continuation.finish_reason for continuation in self.samples)


def continue_all(
    prompts,
    encoder,
    params,
    n_head,
    n_tokens,
    n_samples=1,
    stops=(),
    seed=None,
    n_rows=16,
    between_steps=lambda: None,
    **sampling,
):
    """Continue prompts, [[id, ...], ...], n_rows at a time: yield (place, n_samples Continuations)
    of each as soon as it has ended, where place counts the prompts from 0.

    n_tokens and the sampling are those of `generate`, stops those of `Continuation`. All prompts
    have the same seed. between_steps() is called before each step.
    """
    if n_tokens == 0:
        for place in range(len(prompts)):
            samples = [Continuation(encoder) for _ in range(n_samples)]
            for continuation in samples:
                continuation.end(LENGTH)
            yield place, samples
        return
    waiting, texts = deque(enumerate(prompts)), []  # texts: in the order of their rows
    n_positions = max(len(ids) for ids in prompts) + n_tokens - 1  # the last token is never read
    rows = Rows(params, n_head, min(n_rows, len(prompts)), n_samples, n_positions)
    while waiting or texts:
        between_steps()
        while waiting and len(texts) < rows.n_rows:
            place, ids = waiting.popleft()
            samples = [Continuation(encoder, stops) for _ in range(n_samples)]
            texts.append(Text(place, samples, np.random.default_rng(seed)))
            texts[-1].draw(rows.append(ids), n_tokens, **sampling)
        for row in reversed(range(len(texts))):
            if texts[row].has_ended():
                rows.remove(row)
                yield texts[row].place, texts[row].samples
                texts[row] = texts[-1]
                texts.pop()
        if texts:
            logits = rows.step(np.array([text.newest for text in texts]))
            for text, of_text in zip(texts, logits, strict=True):
                text.draw(of_text, n_tokens, **sampling)


class Rows:
    """Texts side by side, each in a row of its own, with its keys and values from place 0 on.

    params, n_head  the model
    n_rows          how many texts there is room for
    n_samples       continuations of each, which grow alike
    n_positions     how long the longest text will get; of that the model's context, n_ctx, is kept

    ids      the newest tokens of each text, [n_samples, at most n_ctx]
    lengths  how many of them each text has in its row
    """

    def __init__(self, params, n_head, n_rows, n_samples, n_positions):
        self.params, self.n_head = params, n_head
        self.n_rows, self.n_samples = n_rows, n_samples
        self.n_ctx = len(params["wpe"])
        n_positions = min(n_positions, self.n_ctx)
        self.cache = new_cache(params, n_head, n_positions, (n_rows, n_samples))
        for layer in self.cache:  # what a mask hides counts 0 times, but 0 times NaN is NaN
            layer["k"][:], layer["v"][:] = 0, 0
        self.ids, self.lengths, self.warns = [], [], True

    def append(self, ids):
        """A text, ids [n_seq], in a further row: the logits after it, [n_samples, n_vocab]."""
        context = Context(self.params, self.n_head, len(ids), warns=self.warns)
        logits = context.read(np.array(ids), n_kept=max(1, self.n_ctx // 2))
        self.warns = context.warns  # a full context is said once
        self.ids.append(np.repeat(context.ids[None], self.n_samples, axis=0))
        self.lengths.append(0)
        self.fill(len(self.ids) - 1, context)
        return np.repeat(logits, self.n_samples, axis=0)

    def fill(self, row, context):
        """Copy the keys and values of a Context into a row."""
        self.lengths[row] = n_past = context.cache[0]["n_past"]
        for layer, read in zip(self.cache, context.cache, strict=True):
            for name in "kv":
                layer[name][row, :, :, :n_past] = read[name][..., :n_past, :]

    def begin_anew(self, row):
        """Of a text that fills the context keep the newest half: all but its last token, which is
        not read yet, is read as if the text began there."""
        if self.warns:
            warnings.warn(ContextWarning(self.n_ctx), stacklevel=3)
            self.warns = False
        n_half = max(1, self.n_ctx // 2)
        kept = self.ids[row][:, -n_half:-1]
        self.lengths[row] = 0
        if kept.size:
            context = Context(self.params, self.n_head, kept.shape[-1], (self.n_samples,))
            context.read(kept)
            self.fill(row, context)

    def remove(self, row):
        """Let a text go; that of the last row takes its place."""
        n_past = self.lengths[-1]
        for layer in self.cache:
            for name in "kv":
                layer[name][row, :, :, :n_past] = layer[name][len(self.ids) - 1, :, :, :n_past]
        self.ids[row], self.lengths[row] = self.ids[-1], self.lengths[-1]
        del self.ids[-1], self.lengths[-1]

    def step(self, newest):
        """Append a token to each sample of each text, newest [n_texts, n_samples]: the logits after
        them, [n_texts, n_samples, n_vocab].

        All new keys are written to one place, the first that is free in every row, and afterwards
        moved to the ends of their texts. Attention does not mind: it is a sum over the keys, in
        which their order plays no part, and the mask says which of them are a text's own.
        """
        n_texts = len(newest)
        for row in range(n_texts):
            ids = np.concatenate([self.ids[row], newest[row][:, None]], axis=-1)
            self.ids[row] = ids[:, -self.n_ctx :]
            if self.lengths[row] == self.n_ctx:
                self.begin_anew(row)
        rows, lengths, n_past = np.arange(n_texts), np.array(self.lengths), max(self.lengths)
        places = np.arange(n_past + 1)
        mask = (places < lengths[:, None]) | (places == n_past)  # [n_texts, n_places]
        mask = mask[:, None, None, None]  # alike for the samples, the heads and the one query
        x = self.params["wte"][newest] + self.params["wpe"][lengths][:, None]
        x = x[..., None, :]  # [n_texts, n_samples, 1, n_embd]
        for parameters, layer in zip(self.params["blocks"], self.cache, strict=True):
            cache = {"k": layer["k"][:n_texts], "v": layer["v"][:n_texts], "n_past": n_past}
            x = block(x, **parameters, n_head=self.n_head, mask=mask, cache=cache)
            for name in "kv":
                layer[name][rows, :, :, lengths] = layer[name][rows, :, :, n_past]
        self.lengths = [length + 1 for length in self.lengths]
        x = layer_norm(x, **self.params["ln_f"])
        return linear(x, self.params["wte"].T, b=0.0)[..., 0, :]
