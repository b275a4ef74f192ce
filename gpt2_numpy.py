"""GPT-2 in plain NumPy: the model, and how text is generated with it.

    python gpt2_numpy.py "Once upon a time"

Read it from the top. `gelu`, `softmax`, `layer_norm` and `linear` are the parts; `attention` is
the equation, `mha` gives it heads, `ffn` is the other sublayer; `block` joins both to the residual
stream, and `gpt2` is the whole model. Parameters have the names of OpenAI's checkpoint, which are
also the names of the functions' arguments, so that `gpt2(ids, **params, n_head=12)` is a call:

    params = {"wte", "wpe",                                 token and position embeddings
              "blocks": [{"ln_1": {"g", "b"},               for each layer
                          "attn": {"c_attn": {"w", "b"}, "c_proj": {"w", "b"}},
                          "ln_2": {"g", "b"},
                          "mlp":  {"c_fc": {"w", "b"}, "c_proj": {"w", "b"}}}, ...],
              "ln_f": {"g", "b"}}

Shapes stand at the ends of the lines: n_seq positions, n_embd features, n_head heads of d_head =
n_embd / n_head features, n_vocab tokens; "..." is any number of batch axes. Arithmetic keeps the
parameters' dtype (float32) from end to end.
"""

if __name__ == "__main__":  # run as a program: command_line/ goes on, importing all it needs
    try:
        import os
        import sys

        sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
        sys.modules.pop("command_line", None)  # of another program
        from command_line import start

        raise SystemExit(start("generate"))
    except KeyboardInterrupt:
        raise SystemExit(130) from None

import math
import numbers
import operator
import warnings

import numpy as np


class GPT2Error(ValueError):
    """What the model or the sampler was asked for makes no sense; the message says why."""


def gelu(x):
    """Gaussian error linear unit, in the tanh form (Hendrycks & Gimpel 2016, arXiv:1606.08415)."""
    # Python floats: a NumPy float64 scalar would turn the whole model into float64.
    tanh = np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x))
    return 0.5 * x * (1.0 + tanh)  # [...] -> [...]


def softmax(x):
    """Scores to probabilities over the last axis: exp(x) / sum(exp(x))."""
    exp = np.exp(x - x.max(axis=-1, keepdims=True))  # the maximum cancels out; exp cannot overflow
    return exp / exp.sum(axis=-1, keepdims=True)  # [...] -> [...]


def layer_norm(x, g, b, eps=1e-5):
    """Each position on its own: mean 0 and variance 1 over its features, then gain g and bias b
    (Ba, Kiros & Hinton 2016, arXiv:1607.06450)."""
    mean = x.mean(axis=-1, keepdims=True)  # [..., 1]
    centred = x - mean  # [..., n_embd]
    variance = (centred * centred).mean(axis=-1, keepdims=True)  # [..., 1]
    normed = centred / np.sqrt(variance + eps)
    return normed * g + b  # [..., n_embd] -> [..., n_embd]


def linear(x, w, b):
    """A fully connected layer: x w + b over the last axis."""
    rows = x.reshape(-1, x.shape[-1])  # [n_rows, n_in]
    if len(rows) <= 4:
        rows = rows[:, None]  # [n_rows, 1, n_in]: a product for each row
    return (rows @ w + b).reshape(*x.shape[:-1], w.shape[1])  # [..., n_in] -> [..., n_out]
    # speed: one product for all rows reads w once, but BLAS packs w for it, which does not pay for
    # few: one by one, two samples of 124M are generated 1.5 times as fast.


def attention(q, k, v, mask=None):
    """softmax(q kᵀ / sqrt(d_head)) v (Vaswani et al. 2017, arXiv:1706.03762, eq. 1): for each query
    the mean of the values, weighted by how well their keys fit; mask is True where it may look."""
    scores = np.einsum("...kd,...qd->...qk", k, q, optimize=True) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    weights = softmax(scores)  # [..., n_queries, n_keys], each row adds up to 1
    return np.einsum("...kd,...qk->...qd", v, weights, optimize=True)  # [..., n_queries, d_head]
    # speed: k before q and v before weights, as einsum stores results: 3 % off a long prompt.


def causal_mask(n_seq, n_keys=None):
    """True where a position may see another: [n_seq, n_keys], in which the last row sees all."""
    n_keys = n_keys or n_seq
    return np.tri(n_seq, n_keys, n_keys - n_seq, dtype=bool)


def mha(x, c_attn, c_proj, n_head, mask=None, cache=None):
    """Multi-head self-attention, with both projections; a cache holds the positions before x."""
    *batch, n_seq, n_embd = x.shape
    qkv = linear(x, **c_attn)  # [..., n_seq, 3 * n_embd]: all queries, then all keys, all values
    qkv = qkv.reshape(*batch, n_seq, 3, n_head, n_embd // n_head)
    q, k, v = (qkv[..., i, :, :].swapaxes(-2, -3) for i in range(3))  # [..., n_head, n_seq, d_head]
    if cache is not None:
        k, v = remember(cache, k, v)  # [..., n_head, n_past + n_seq, d_head]
    heads = attention(q, k, v, mask)  # [..., n_head, n_seq, d_head]
    heads = heads.swapaxes(-2, -3).reshape(x.shape)  # [..., n_seq, n_embd]: side by side again
    return linear(heads, **c_proj)  # [..., n_seq, n_embd] -> [..., n_seq, n_embd]


def ffn(x, c_fc, c_proj):
    """The feed-forward network, each position on its own (Vaswani et al. 2017, equation 2)."""
    hidden = linear(x, **c_fc)  # [..., n_seq, 4 * n_embd]
    activation = gelu(hidden)
    return linear(activation, **c_proj)  # [..., n_seq, n_embd] -> [..., n_seq, n_embd]


def block(x, mlp, attn, ln_1, ln_2, n_head, mask=None, cache=None):
    """One pre-LN residual block: each sublayer reads a normalised copy of the residual stream x,
    and what it computes is added back; x itself runs through unchanged."""
    x = x + mha(layer_norm(x, **ln_1), **attn, n_head=n_head, mask=mask, cache=cache)
    x = x + ffn(layer_norm(x, **ln_2), **mlp)
    return x  # [..., n_seq, n_embd] -> [..., n_seq, n_embd]


def embed(ids, wte, wpe, n_past=0):
    """The row of each token and the row of its position, added: the residual stream begins."""
    n_positions = n_past + ids.shape[-1]
    if n_positions > len(wpe):
        raise GPT2Error(f"{n_positions} positions, but the model's context has {len(wpe)}")
    return wte[ids] + wpe[n_past:n_positions]  # [..., n_seq] -> [..., n_seq, n_embd]


def gpt2(ids, wte, wpe, blocks, ln_f, n_head, cache=None, n_logits=None):
    """Token ids, 0 to n_vocab - 1, to logits (Radford et al. 2019): logits[..., t, :] are the
    unnormalised log-probabilities of token t + 1, given tokens 0 to t. A cache, from `new_cache`,
    holds the positions before these ids and takes in theirs; n_logits asks for the logits of the
    last so many positions alone. GPT2Error where the positions are more than the rows of wpe."""
    ids = np.asarray(ids)
    n_seq, n_past = ids.shape[-1], cache[0]["n_past"] if cache else 0
    x = embed(ids, wte, wpe, n_past)
    mask = causal_mask(n_seq, n_past + n_seq) if n_seq > 1 else None  # one alone sees all
    for parameters, layer_cache in zip(blocks, cache or [None] * len(blocks), strict=True):
        x = block(x, **parameters, n_head=n_head, mask=mask, cache=layer_cache)
    if n_logits is not None:
        x = x[..., max(0, n_seq - n_logits) :, :]
    return linear(layer_norm(x, **ln_f), wte.T, b=0.0)  # [..., n_seq] -> [..., n_seq, n_vocab]


def new_cache(params, n_head, n_positions, batch=()):
    """Room for the keys and values of n_positions positions: for each layer a dict of k and v,
    [*batch, n_head, n_positions, d_head], and n_past, how many positions they hold so far."""
    d_head = params["wte"].shape[1] // n_head
    shape, dtype = (*batch, n_head, n_positions, d_head), params["wte"].dtype
    return [
        {"k": np.empty(shape, dtype), "v": np.empty(shape, dtype), "n_past": 0}
        for _ in params["blocks"]
    ]


def remember(cache, k, v):
    """Write one layer's k and v [..., n_head, n_seq, d_head] behind the ones in its cache; all of
    them together, each [..., n_head, n_past + n_seq, d_head]."""
    n_past, capacity = cache["n_past"], cache["k"].shape[-2]
    n_positions = n_past + k.shape[-2]
    if n_positions > capacity:
        raise GPT2Error(f"{n_positions} positions, but the cache has room for {capacity}")
    cache["k"][..., n_past:n_positions, :] = k
    cache["v"][..., n_past:n_positions, :] = v
    cache["n_past"] = n_positions
    return cache["k"][..., :n_positions, :], cache["v"][..., :n_positions, :]


class ContextWarning(UserWarning):
    """The context of n_ctx tokens is full: generation goes on from its newest half."""

    def __init__(self, n_ctx):
        full = f"the context of {n_ctx} tokens is full; the model goes on from its newest half"
        super().__init__(f"{full} and no longer sees what came before")


class Context:
    """A text as the model remembers it: the keys and values of its newest positions.

    params, n_head  the model
    n_positions     how long the text will get; of that the model's context, n_ctx, is kept at most
    batch           leading axes: () for one text, (n_texts,) for several side by side
    warns           whether to say, once, that the context is full
    """

    def __init__(self, params, n_head, n_positions, batch=(), warns=True):
        self.params, self.n_head, self.warns = params, n_head, warns
        self.n_ctx = len(params["wpe"])
        self.cache = new_cache(params, n_head, min(n_positions, self.n_ctx), batch)
        self.ids = np.empty((*batch, 0), int)  # the newest of the text, at most n_ctx

    def read(self, ids, n_logits=1, n_kept=1):
        """Append ids [..., n_seq] to the text: the logits of its last positions, [..., n_logits,
        n_vocab]. Where there is no room for them, the text begins anew with its newest n_kept, of
        which there are n_logits at least."""
        self.ids = np.concatenate([self.ids, ids], axis=-1)[..., -self.n_ctx :]
        if self.cache[0]["n_past"] + ids.shape[-1] > self.n_ctx:
            ids = self.ids[..., -n_kept:]
            for layer in self.cache:
                layer["n_past"] = 0
            if self.warns:
                warnings.warn(ContextWarning(self.n_ctx), stacklevel=3)
                self.warns = False
        logits, n_seq, n_piece = [], ids.shape[-1], 128
        for start in range(0, n_seq, n_piece):
            piece = ids[..., start : start + n_piece]
            n_unwanted = max(0, n_seq - n_logits - start)  # positions that only fill the cache
            n_wanted = max(0, piece.shape[-1] - n_unwanted)
            settings = dict(n_head=self.n_head, cache=self.cache, n_logits=n_wanted)
            logits.append(gpt2(piece, **self.params, **settings))
        return np.concatenate(logits, axis=-2)
        # speed: a long prompt goes in by the piece, whose activations fit into the processor's
        # caches, and scores that the mask would hide are not computed: 512 tokens take 22 % less.

    def repeat(self, n_samples):
        """Make [n_samples, ...] texts of it, each with its own copy to go on from."""
        self.ids = np.repeat(self.ids[None], n_samples, axis=0)
        for layer in self.cache:  # one after the other, lest memory hold all of them twice
            layer["k"] = np.repeat(layer["k"][None], n_samples, axis=0)
            layer["v"] = np.repeat(layer["v"][None], n_samples, axis=0)


def generate(
    ids,
    params,
    n_head,
    n_tokens,
    temperature=0.0,
    top_k=0,
    top_p=1.0,
    rng=None,
    n_samples=None,
    watch=None,
):
    """Continue a prompt: an iterator over n_tokens new ids, each computed when it is asked for.

    ids is the prompt, [n_seq], and each new id an int; or prompts of one length [..., n_seq], and
    arrays [...]. With n_samples, as many continuations of one prompt grow side by side, the prompt
    being read once: arrays [n_samples, ...]. temperature, top_k, top_p and rng are those of
    `sample`. watch(logits [..., n_vocab], ids [...]), if given, is called before each id is handed
    out.

    When the model's context of n_ctx positions is full, its newest half is read anew, as if the
    text began there: a ContextWarning says so, once. GPT2Error when there is no prompt, when an id
    is not in the vocabulary, when n_tokens or n_samples makes no sense, or when `sample` raises it.
    """
    check_sampling(temperature, top_k, top_p)
    prompt = check_ids(ids, params)
    if operator.index(n_tokens) < 0 or (n_samples is not None and operator.index(n_samples) < 1):
        raise GPT2Error(f"cannot generate {n_tokens} tokens in {n_samples} samples")
    rng, n_half = np.random.default_rng(rng), max(1, len(params["wpe"]) // 2)

    def steps():
        n_positions = prompt.shape[-1] + n_tokens - 1  # the last token is never read
        context, unread = Context(params, n_head, n_positions, prompt.shape[:-1]), prompt
        for step in range(n_tokens):
            logits = context.read(unread, n_kept=n_half)[..., -1, :]  # [..., n_vocab]
            if n_samples is not None and step == 0:
                logits = np.repeat(logits[None], n_samples, axis=0)
                context.repeat(n_samples)
            chosen = sample(logits, temperature, top_k, top_p, rng)
            if watch is not None:
                watch(logits, chosen)
            unread = np.array(chosen)[..., None]  # a copy: what is handed out is the caller's
            yield int(chosen) if chosen.ndim == 0 else chosen

    return steps()  # so that what is wrong with the arguments is said at the call


NOT_FINITE = "the logits hold NaN or infinity: the model's weights are damaged"


def sample(logits, temperature=0.0, top_k=0, top_p=1.0, rng=None):
    """Draw the next token: logits [..., n_vocab] to ids [...].

    temperature  divides the logits: below 1 the likely become likelier; 0 is greedy, the best token
    top_k        only the k best tokens; 0 is no limit
    top_p        only the best tokens that together reach probability p (nucleus sampling, Holtzman
                 et al. 2019, arXiv:1904.09751); 1 is no limit
    rng          a np.random.Generator, or a seed for one

    Applied in this order. The best token always stays; of equal logits the lower id is the better.
    GPT2Error when an argument is out of its range, or when the best logit is not a finite number.
    """
    check_sampling(temperature, top_k, top_p)
    logits = np.asarray(logits)
    if not np.all(np.isfinite(np.max(logits, axis=-1))):  # a maximum with NaN among them is NaN
        raise GPT2Error(NOT_FINITE)
    if temperature == 0:
        return np.argmax(logits, axis=-1)
    rng = np.random.default_rng(rng)
    rows = logits.reshape(-1, logits.shape[-1])
    ids = [draw(row, temperature, top_k, top_p, rng) for row in rows]
    return np.array(ids).reshape(logits.shape[:-1])


def check_sampling(temperature, top_k, top_p):
    """GPT2Error when `sample` cannot work with these."""
    if not 0 <= temperature < math.inf:
        raise GPT2Error(f"temperature is {temperature}; it must be 0 (greedy) or a number above")
    if not isinstance(top_k, numbers.Integral) or top_k < 0:
        raise GPT2Error(f"top_k is {top_k}; it must be 0 (no limit) or a whole number above")
    if not 0 < top_p <= 1:
        raise GPT2Error(f"top_p is {top_p}; it must be above 0 and at most 1 (no limit)")


def draw(logits, temperature, top_k, top_p, rng):
    """One id from one row of logits [n_vocab], by where a random number falls among the cumulative
    probabilities."""
    n_vocab = len(logits)
    k = min(top_k or n_vocab, n_vocab)
    is_limited = k < n_vocab or top_p < 1  # else nothing needs to be sorted
    ids = find_best(logits, k) if is_limited else np.arange(n_vocab)
    with np.errstate(over="ignore"):  # to -inf, at temperatures next to 0: a probability of 0
        scaled = (logits[ids].astype(np.float64) - np.max(logits)) / temperature
    cumulative = np.cumsum(softmax(scaled))
    n_nucleus = 1 + np.searchsorted(cumulative[:-1], top_p)  # up to where they reach top_p
    cumulative = cumulative[:n_nucleus] / cumulative[n_nucleus - 1]
    return ids[np.searchsorted(cumulative, rng.random(), side="right")]


def find_best(logits, k):
    """The ids of the k largest of logits [n_vocab], the best first; of equal ones the lower id."""
    ids = np.flatnonzero(logits >= np.partition(logits, -k)[-k])  # k, or more where some are equal
    return ids[np.argsort(-logits[ids], kind="stable")][:k]


def check_ids(ids, params):
    """A copy of the ids, an integer array [..., n_seq]; GPT2Error when there are none, or when one
    is not in the vocabulary."""
    ids, n_vocab = np.asarray(ids), len(params["wte"])
    if ids.ndim == 0 or ids.shape[-1] == 0:
        raise GPT2Error("there are no token ids to start from; the shortest prompt is one token")
    if not np.issubdtype(ids.dtype, np.integer):
        raise GPT2Error(f"token ids are whole numbers, not {ids.dtype}")
    outside = ids[(ids < 0) | (ids >= n_vocab)]
    if outside.size:
        raise GPT2Error(f"token id {outside[0]} is not in the vocabulary, 0 to {n_vocab - 1}")
    return ids.astype(int)


def log_softmax(x):
    """log(softmax(x)) over the last axis, exact where softmax itself would round to 0."""
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def log_probs(ids, params, n_head, watch=None):
    """log p(ids[t] | ids[0], ..., ids[t-1]) in nats for t = 1, 2, ...: [n_seq] to [n_seq - 1].

    Their sum is the log-probability of the text after its first token, exp(-mean) its perplexity.
    In a text of more than n_ctx tokens each is predicted from at least the n_ctx // 2 before it.
    watch(logs [..., n]), if given, is called with each few of them as soon as they are known.
    GPT2Error when there are no ids, when one is not in the vocabulary, or when the model's weights
    give no numbers.
    """
    ids, n_ctx = check_ids(ids, params), len(params["wpe"])
    n_half, n_last = n_ctx // 2, ids.shape[-1] - 1
    n_chunk = min(64, n_ctx - n_half)  # the logits of all positions at once would fill memory
    context = Context(params, n_head, n_last, ids.shape[:-1], warns=False)
    logs = np.empty((*ids.shape[:-1], n_last), params["wte"].dtype)
    for start in range(0, n_last, n_chunk):
        end = min(start + n_chunk, n_last)
        inputs, targets = ids[..., start:end], ids[..., start + 1 : end + 1]
        logits = context.read(inputs, n_logits=end - start, n_kept=n_half + end - start)
        chosen = np.take_along_axis(log_softmax(logits), targets[..., None], axis=-1)
        logs[..., start:end] = chosen[..., 0]
        if not np.all(np.isfinite(chosen)):
            raise GPT2Error(NOT_FINITE)
        if watch is not None:
            watch(logs[..., start:end])
    return logs


# Where the packages are not installed, `uv run gpt2_numpy.py` gets them.
# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy>=2.4.0", "regex>=2023.8.8", "requests>=2.31.0", "tqdm>=4.66.0"]
# ///
