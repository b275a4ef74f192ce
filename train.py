"""What training a GPT-2 is, in plain NumPy.

    python train.py story.txt --out models/mine
    python gpt2_numpy.py --model ./models/mine "Once upon a time"

It reads from the top, in the order in which a step uses its parts: the parameters at the start, a
batch of text, loss and gradients of the batch on several threads, clipping, the learning rate,
AdamW or Muon; `train` joins them. What makes a run of hours bearable (evaluations, a log,
checkpoints, the command line) lies in command_line/ and goes through the same `train`.

No random number depends on when or how often a run was interrupted: each generator is made anew
from the seed and from what it is for (an epoch's order, a step's dropout). So the seed and the
number of a step stand for the state of all generators and for the place in the text, and a resumed
run computes the same losses, to the last bit, as one that was never stopped.
"""

if __name__ == "__main__":  # run as a program: command_line/ goes on, importing all it needs
    try:
        import os
        import sys

        sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
        sys.modules.pop("command_line", None)  # of another program
        from command_line import start

        raise SystemExit(start("train"))
    except KeyboardInterrupt:
        raise SystemExit(130) from None

import contextlib
import functools
import math
import operator
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from backward import loss_and_gradients
from gpt2_numpy import gpt2, log_softmax
from utils import leaves, shapes, tree_map


class TrainError(ValueError):
    """A text, an option or a checkpoint that cannot be trained with; the message says why."""


class DivergedError(TrainError):
    """A loss or a gradient that is not a finite number."""


def init_params(hparams, rng):
    """Parameters to begin with, as the papers describe them (Radford et al. 2018; 2019, section
    2.3); OpenAI's src/model.py has 0.01 for wpe, and no scaling by depth.

    Weights and embeddings are normal with standard deviation 0.02. The two projections that add to
    the residual stream have 0.02 / sqrt(2 * n_layer), so that the sum of all 2 * n_layer additions
    does not grow with the depth. Gains are 1, biases 0. rng: an np.random.Generator or a seed.
    """
    rng = np.random.default_rng(rng)

    def draw(shape, std):
        if std == 0:
            return np.zeros(shape, np.float32)
        return (std * rng.standard_normal(shape)).astype(np.float32)

    stds = tree_map(lambda shape: 0.02 if len(shape) > 1 else 0.0, shapes(hparams))
    for block in stds["blocks"]:
        for sublayer in (block["attn"], block["mlp"]):
            sublayer["c_proj"]["w"] = 0.02 / math.sqrt(2 * hparams["n_layer"])
    params = tree_map(draw, shapes(hparams), stds)
    norms = [params["ln_f"]]
    norms += [block[name] for block in params["blocks"] for name in ("ln_1", "ln_2")]
    for norm in norms:
        norm["g"][:] = 1.0
    return params


def batch(ids, n_seq, n_batch, step, seed):
    """The inputs and targets of a step, each [n_batch, n_seq]; a target is the input after it.

    An epoch cuts the text, ids [n_ids], into windows of n_seq tokens side by side and goes through
    them in random order. Each epoch's cuts begin at another offset. Nothing has to be remembered:
    the step and the seed say where in which epoch it is. TrainError when the text is too short for
    a single window.
    """
    n_windows, slack = count_windows(len(ids), n_seq)
    inputs = np.empty((n_batch, n_seq + 1), np.int64)
    for row in range(n_batch):
        epoch, place = divmod(step * n_batch + row, n_windows)
        if row == 0 or place == 0:
            rng = np.random.default_rng([seed, epoch])
            offset, order = rng.integers(slack + 1), rng.permutation(n_windows)
        start = offset + n_seq * order[place]
        inputs[row] = ids[start : start + n_seq + 1]
    return inputs[:, :-1], inputs[:, 1:]


def count_windows(n_ids, n_seq):
    """(number of windows in an epoch, how far the first can be moved); the last of them needs one
    token behind it as its last target."""
    if n_ids <= n_seq:
        raise TrainError(f"{n_ids} tokens are not enough for a window of {n_seq} and one after it")
    n_windows = max(1, (n_ids - n_seq) // n_seq)  # one less than fit, so that cuts can be moved
    return n_windows, n_ids - 1 - n_windows * n_seq


def share_out(
    params, ids, targets, n_head, n_micro, dropout=0.0, seed=(), workers=map, n_workers=1
):
    """`loss_and_gradients` of a batch, by n_workers at once, n_micro sequences at a time. workers:
    `map`, or that of `thread_map`."""

    def part(start):
        rows = slice(start, start + n_micro)
        rng = [*seed, start, 1]  # 1 is for dropout, so that nothing else draws the same
        return loss_and_gradients(
            params, ids[rows], targets[rows], n_head, dropout, rng, n_tokens=ids.size
        )

    return add_up(part, range(0, len(ids), n_micro), workers, n_workers)


def add_up(part, starts, workers=map, n_workers=1):
    """The sums of part(start), a loss and gradients, over all starts of a batch's parts.

    Each worker, a thread, goes through its own share of the batch and adds up the gradients (NumPy
    lets threads compute side by side). Sums are always taken in the same order, since rounding
    would tell the difference.
    """

    def work(worker):
        total, gradients = 0.0, None
        for start in starts[worker::n_workers]:
            loss, added = part(start)
            total += loss
            gradients = added if gradients is None else add_gradients(gradients, added)
        return total, gradients

    shares = list(workers(work, range(min(n_workers, len(starts)))))
    loss = sum(loss for loss, _ in shares)
    return loss, functools.reduce(add_gradients, [gradients for _, gradients in shares])


def add_gradients(total, gradients):
    """total + gradients, two trees of one shape, in the memory of total."""
    return tree_map(operator.iadd, total, gradients)


def clip_gradients(gradients, max_norm):
    """Scale all gradients, in place, so that together they are at most max_norm long; return how
    long they were: the root of the sum of all squares (Pascanu et al. 2013, arXiv:1211.5063)."""
    norm = math.sqrt(sum(float(np.vdot(array, array)) for array in leaves(gradients)))
    if norm > max_norm:
        for array in leaves(gradients):
            array *= max_norm / (norm + 1e-6)
    return norm


def learning_rate(step, n_steps, peak, n_warmup, final):
    """Of step 0 to n_steps - 1: in a line up to the peak, within n_warmup steps, then down along
    half a cosine wave (Loshchilov & Hutter 2017, arXiv:1608.03983), to final at step n_steps."""
    if step < n_warmup:
        return peak * (step + 1) / n_warmup
    progress = (step - n_warmup) / max(1, n_steps - n_warmup)
    return final + (peak - final) * 0.5 * (1.0 + math.cos(math.pi * progress))


def new_moments(params):
    """What AdamW remembers of past gradients: {"m", "v"}, two trees like params, at first 0."""
    return {"m": tree_map(np.zeros_like, params), "v": tree_map(np.zeros_like, params)}


def adamw(
    params, gradients, moments, step, lr, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, workers=map
):
    """One step of AdamW, changing params and moments in place (Loshchilov & Hutter 2019,
    arXiv:1711.05101). step counts from 0.

    m is the running mean of the gradient, v that of its square; both began at 0, which the division
    by 1 - beta^t makes up for. Each parameter moves by lr times m / sqrt(v), its own gradient in
    units of its usual size. The decay is decoupled: it shrinks the matrices by lr * weight_decay,
    apart from m and v; biases and gains do not decay. workers: as in `share_out`.
    """
    beta_1, beta_2 = betas
    # The two divisions, of m and of v, are done once here rather than for every element.
    lr_t = lr / (1.0 - beta_1 ** (step + 1))
    scale_t = 1.0 / math.sqrt(1.0 - beta_2 ** (step + 1))

    def update(group):
        p, g, m, v = group
        m *= beta_1
        m += (1.0 - beta_1) * g
        v *= beta_2
        v += (1.0 - beta_2) * (g * g)
        if p.ndim > 1:
            p *= 1.0 - lr * weight_decay
        p -= lr_t * m / (scale_t * np.sqrt(v) + eps)

    groups = leaves(tree_map(split_rows, params, gradients, moments["m"], moments["v"]))
    list(workers(update, groups))  # a list, since a lazy map would do nothing


def split_rows(*arrays, n_elements=2**16):
    """Arrays of one shape, cut alike into groups of rows: a list of tuples, each with one view of
    every array. Vectors stay whole."""
    n_rows = arrays[0].shape[0]
    if arrays[0].ndim == 1 or n_rows == 0:
        return [arrays]
    n_group = max(1, n_elements * n_rows // arrays[0].size)
    return [tuple(array[i : i + n_group] for array in arrays) for i in range(0, n_rows, n_group)]
    # speed: the operations of `update` all go over the same few rows, which stay in the processor's
    # cache meanwhile: a quarter less time for 44 million parameters; and threads share the groups.


def muon(
    params,
    gradients,
    moments,
    step,
    lr,
    muon_lr=0.02,
    momentum=0.95,
    betas=(0.9, 0.95),
    weight_decay=0.1,
    workers=map,
):
    """One step of Muon, with muon_lr, for the matrices inside the blocks, and of `adamw`, with lr
    and betas, for the rest; in place (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

    The gradient of a matrix w lies mostly along a few directions, those of its largest singular
    values, and a step along it learns little in the others. `orthogonalize` keeps the directions of
    its running mean m and makes all equally strong. Then x w changes by as much whichever way x
    points: by muon_lr times x's length, or sqrt(n_out / n_in) times that where there are more
    outputs than inputs.

    That is for matrices from features to features. Of an embedding a step moves the rows whose
    tokens it met, and a vector is a single direction: AdamW keeps both. It takes about
    4 n_embd / n_tokens of the arithmetic that the blocks need for a step of n_tokens, and so pays
    where a step reads many more tokens than there are features. v is AdamW's alone; for the
    matrices inside the blocks it stays 0.
    """
    trees = (params, gradients, moments["m"], moments["v"])
    hidden, (params, gradients, m, v) = zip(*map(split_hidden, trees), strict=True)
    adamw(params, gradients, {"m": m, "v": v}, step, lr, betas, 1e-8, weight_decay, workers)

    def update(matrices):
        p, g, m, _ = matrices
        m += (1.0 - momentum) * (g - m)
        ahead = g + momentum * (m - g)  # Nesterov: what m would be after one more gradient like g
        n_in, n_out = p.shape
        p *= 1.0 - muon_lr * weight_decay
        p -= muon_lr * math.sqrt(max(1.0, n_out / n_in)) * orthogonalize(ahead)

    list(workers(update, zip(*hidden, strict=True)))


def orthogonalize(matrix, n_steps=5):
    """Nearly U Vᵀ of a matrix U S Vᵀ (its singular value decomposition): the same directions, with
    singular values between 0.68 and 1.21 where S has at least 1/500 of the root of S's sum of
    squares, and less below.

    A step of Newton and Schulz, x to a x + b (x xᵀ) x + c (x xᵀ)² x, takes each singular value s to
    a s + b s³ + c s⁵ and leaves U and V alone. Jordan's a, b and c let small ones grow fastest, to
    3.4 times as much in a step, and in return never settle at 1.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if is_tall else matrix  # [n_short, n_long], so that x xᵀ is small
    x = x / max(np.linalg.norm(x), 1e-7)  # the root of the sum of squares; now no s is above 1
    for _ in range(n_steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram.T)) @ x
    return x.T if is_tall else x
    # speed: NumPy computes half of a product with its own transpose, and copies the other half.


# Matrices that lie side by side in one: queries, keys, values; keys, values; an LSTM's gates.
N_SIDE_BY_SIDE = {"c_attn": 3, "c_kv": 2, "c_x": 4, "c_h": 4}


def split_hidden(tree, scopes=()):
    """A tree of parameters in two lists, as views of its arrays: the matrices inside its "blocks",
    in which c_attn is three, for queries, keys and values; and the rest. scopes: the names on the
    way to it."""
    if not isinstance(tree, dict | list):
        if "blocks" not in scopes or tree.ndim < 2:
            return [], [tree]
        return np.split(tree, N_SIDE_BY_SIDE.get(scopes[-2], 1), axis=-1), []
    hidden, rest = [], []
    for name in sorted(tree) if isinstance(tree, dict) else range(len(tree)):
        inner = split_hidden(tree[name], (*scopes, name))
        hidden += inner[0]
        rest += inner[1]
    return hidden, rest


@dataclass
class Settings:
    """How `train` trains. Runs of the same settings and text are the same to the last bit."""

    n_seq: int = 128  # tokens in each sequence
    batch_size: int = 16  # sequences in each step
    n_steps: int = 2000  # updates of the parameters
    optimizer: str = "adamw"  # or "muon", which is for the matrices inside the blocks
    lr: float = 3e-3  # AdamW's learning rate at its peak
    muon_lr: float = 0.02  # Muon's, which rises and falls with it
    warmup: int = 100  # steps in which it rises to the peak
    final_lr: float = 0.0  # what it then falls to, along a cosine
    weight_decay: float = 0.1  # decay of all matrices
    beta_1: float = 0.9  # AdamW's memory of the gradient's mean
    beta_2: float = 0.95  # AdamW's memory of the gradient's square
    clip: float = 1.0  # longest gradient: norm to which a longer one is scaled
    dropout: float = 0.0  # probability of zeroing an activation
    seed: int = 0  # start of all random numbers
    micro_batch: int = 1  # sequences that a thread processes at once
    threads: int = 1  # that share each batch out; with several, BLAS should be told to use one


class Step(NamedTuple):
    """What `train` tells of a step: a loss in nats per token, the gradient's norm before clipping,
    the learning rate. number counts from 1: so many steps have been taken."""

    number: int
    loss: float
    norm: float
    lr: float


def train(params, ids, n_head, settings, moments=None, first_step=0):
    """Train on a text, ids [n_ids]: an iterator that takes a step whenever it is asked for one,
    changes params and moments in place, and tells the `Step`.

    A run goes on after first_step steps with the params and moments that it had reached. Where the
    loss or the gradient is not a finite number, nothing is changed: DivergedError.
    """
    s = settings

    def differentiate(step, workers):
        inputs, targets = batch(ids, s.n_seq, s.batch_size, step, s.seed)
        seed = [s.seed, step]
        return share_out(
            params, inputs, targets, n_head, s.micro_batch, s.dropout, seed, workers, s.threads
        )

    return descend(params, differentiate, settings, moments, first_step)


def descend(params, differentiate, settings, moments=None, first_step=0):
    """The steps of `train`, for any tree of parameters and any loss: differentiate(step, workers)
    is the loss of a step's batch and its gradients, nested like params."""
    s = settings
    if moments is None:
        moments = new_moments(params)
    with thread_map(s.threads) as workers:
        for step in range(first_step, s.n_steps):
            loss, gradients = differentiate(step, workers)
            norm = clip_gradients(gradients, s.clip)
            check_finite(step, loss=loss, gradient=norm)
            lr = learning_rate(step, s.n_steps, s.lr, s.warmup, s.final_lr)
            rest = dict(betas=(s.beta_1, s.beta_2), weight_decay=s.weight_decay, workers=workers)
            if s.optimizer == "muon":  # both rates follow the schedule
                muon(params, gradients, moments, step, lr, s.muon_lr * lr / s.lr, **rest)
            else:
                adamw(params, gradients, moments, step, lr, **rest)
            del gradients  # lest they be in memory together with the next ones
            yield Step(step + 1, loss, norm, lr)


@contextlib.contextmanager
def thread_map(n_threads):
    """with thread_map(n) as workers: a `map` that calls its function on n threads at once; for one,
    and where no threads can be started, as in a browser, it is plain `map`.

    Afterwards no thread is waited for: one is at work only where the block was broken off.
    """
    if n_threads == 1:
        yield map
        return
    pool, all_started = ThreadPoolExecutor(n_threads), threading.Barrier(n_threads)
    workers = pool.map
    try:
        for _ in range(n_threads):  # each waits for the others, so that n threads are started
            pool.submit(all_started.wait)
    except RuntimeError:  # cannot start so many
        all_started.abort()
        workers = map
    try:
        yield workers
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def check_finite(step, **values):
    """DivergedError where one of the values is no finite number."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise DivergedError(f"the {name} became {value} in step {step + 1}")


def negative_log_likelihood(params, ids, n_head, n_seq, workers=map, stop=None):
    """How surprised the model is by ids [n_ids], in nats in total: -Σ log p(ids[t] | before) over
    all but the first. The text is cut into windows of n_seq tokens, and each token is predicted
    from those before it in its window. When stop.is_set(), the rest is left out and the result is
    NaN."""
    ids = np.asarray(ids)
    starts = range(0, len(ids) - 1, n_seq)

    def work(start):
        if stop is not None and stop.is_set():
            return math.nan
        inputs = ids[start : min(start + n_seq, len(ids) - 1)]
        targets = ids[start + 1 : start + n_seq + 1]
        logs = log_softmax(gpt2(inputs, **params, n_head=n_head))
        return -float(np.take_along_axis(logs, targets[..., None], axis=-1).sum(dtype=np.float64))

    return sum(workers(work, starts))


# Where the packages are not installed, `uv run train.py` gets them.
# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy>=2.4.0", "regex>=2023.8.8", "requests>=2.31.0", "tqdm>=4.66.0"]
# ///
