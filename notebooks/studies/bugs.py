"""Seven bugs that one could make in writing the gradients of GPT-2 by hand, and what comes of them.

A bug is one line of the project, or a part of it, replaced by another. So what a notebook shows is
what runs.
"""

import contextlib
import inspect
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import NamedTuple
from unittest import mock

import numpy as np

import backward
import gpt2_numpy
import train
from encoder import train_bpe

SMALL = {"n_vocab": 512, "n_ctx": 64, "n_embd": 64, "n_head": 4, "n_layer": 2}


class Bug(NamedTuple):
    name: str
    module: str
    function: str
    right: str  # what stands in its source, once
    wrong: str  # what stands there instead


BUGS = [
    Bug(
        "layer norm keeps the mean",
        "backward",
        "layer_norm_vjp",
        "(d_normed - d_normed.mean(axis=-1, keepdims=True) - normed * along) / std",
        "(d_normed - normed * along) / std",
    ),
    Bug("√d forgotten", "backward", "attention_vjp", "d_scores /= root", "pass"),
    Bug("no way past attention", "backward", "block_vjp", "return dy + dx, {", "return dx, {"),
    Bug("no way through attention", "backward", "block_vjp", "return dy + dx, {", "return dy, {"),
    Bug("table's part of wte lost", "backward", "embed_vjp", "np.add.at(d_wte, ids, dy)", "pass"),
    Bug(
        "logits' part of wte lost",
        "backward",
        "gpt2_vjp",
        "embed_back(drop(dx), d_wte)",
        "embed_back(drop(dx))",
    ),
    Bug(
        "mask off by one",
        "gpt2_numpy",
        "causal_mask",
        "np.tri(n_seq, n_keys, n_keys - n_seq, dtype=bool)",
        "np.tri(n_seq, n_keys, n_keys - n_seq + 1, dtype=bool)",
    ),
]
RIGHT = "the right code"
NAMES = [RIGHT, *(bug.name for bug in BUGS)]


@contextlib.contextmanager
def planted(name):
    """with planted(name): the code has the bug of this name; the right code has none."""
    if name not in NAMES:
        raise ValueError(f"there is no bug {name!r}")
    with contextlib.ExitStack() as stack:
        for bug in BUGS:
            if bug.name == name:
                function = rewritten(bug)
                for module in (backward, gpt2_numpy):  # the first imports from the second
                    if hasattr(module, bug.function):
                        stack.enter_context(mock.patch.object(module, bug.function, function))
        yield


def rewritten(bug):
    """The project's function, with the wrong line in the place of the right one."""
    module = sys.modules[bug.module]
    source = inspect.getsource(getattr(module, bug.function))
    if source.count(bug.right) != 1:
        raise ValueError(f"{bug.function} does not hold {bug.right!r} once")
    made = {}
    exec(source.replace(bug.right, bug.wrong), vars(module), made)
    return made[bug.function]


def help_pages():
    """The help pages of Python as ids of a vocabulary of 512 tokens: those to train on, and the
    first 4,097 of the last tenth, which is held out."""
    from common import python_manual  # not above, since common imports this

    text = python_manual()
    cut = text.rindex("\n\n", 0, int(0.9 * len(text)))
    encoder = train_bpe(text[:cut], SMALL["n_vocab"])
    ids, held_out = (np.array(encoder.encode(part)) for part in (text[:cut], text[cut:]))
    return ids, held_out[:4097]


class Run(NamedTuple):
    """A training: losses on the held-out text in nats per token, always of the same tokens."""

    name: str
    seed: int
    steps: np.ndarray  # after how many steps it was measured
    seen: np.ndarray  # what the code with the bug said then
    true: float  # what the right code says of the weights at the end


def train_one(task, ids, held_out, n_steps):
    """The Run of a task (name of a bug, seed)."""
    name, seed = task
    params = train.init_params(SMALL, seed)
    settings = train.Settings(
        n_seq=64, batch_size=8, n_steps=n_steps, lr=2e-3, warmup=n_steps // 10, final_lr=2e-4,
        micro_batch=4, seed=seed,
    )  # fmt: skip

    def loss():
        nats = train.negative_log_likelihood(params, held_out, SMALL["n_head"], SMALL["n_ctx"])
        return nats / (len(held_out) - 1)

    with planted(name):
        steps, seen = [0], [loss()]
        for step in train.train(params, ids, SMALL["n_head"], settings):
            if step.number % 20 == 0 or step.number == n_steps:
                steps.append(step.number)
                seen.append(loss())
    return Run(name, seed, np.array(steps), np.array(seen), loss())


def train_all(tasks, ids, held_out, n_steps):
    """The Runs of all tasks [(name of a bug, seed)], in processes side by side."""
    work = partial(train_one, ids=ids, held_out=held_out, n_steps=n_steps)
    n_workers = min(len(tasks), os.cpu_count() or 1)
    with ProcessPoolExecutor(n_workers, mp_context=get_context("spawn")) as pool:
        return list(pool.map(work, tasks))


CULPRIT = "pjv_uleg"[::-1]  # an exercise asks for it


@contextlib.contextmanager
def tampered():
    """with tampered(): one of the functions of backward.py hands back a dx that is a hundredth too
    large; the gradients of its own parameters, if it has any, are right."""
    sound = getattr(backward, CULPRIT)

    def unsound(*args, **settings):
        y, back = sound(*args, **settings)

        def too_much(dy):
            result = back(dy)
            return (1.01 * result[0], *result[1:]) if type(result) is tuple else 1.01 * result

        return y, too_much

    with mock.patch.object(backward, CULPRIT, unsound):
        yield
