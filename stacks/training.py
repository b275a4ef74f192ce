"""Training any of these models, with train.py's own parts.

objective = functools.partial(transformer_loss_and_gradients, n_head=4)
batches = batches_of((source, ids, targets), n_batch=32, seed=0)
for step in train_any(params, objective, batches, Settings(n_steps=1000)):
    print(step.number, step.loss)
"""

import numpy as np

from backward import gpt2_vjp
from stacks.padding import PADDING, check_pair, padded_cross_entropy
from train import TrainError, add_up, descend


def train_any(params, objective, batches, settings, moments=None, first_step=0):
    """Train any tree of parameters with any loss: an iterator that takes a step whenever it is
    asked for one, changes params and moments in place, and tells the `Step`.

    objective  loss, gradients = objective(params, *arrays, rng=..., n_tokens=...), such as
               `lstm_loss_and_gradients`, or a functools.partial of one with n_head
    batches    batches(step) is a tuple of arrays with one row for each example; the last of them
               are the targets, and those that are not PADDING are what the loss is a mean of
    settings   `train.Settings`; micro_batch are the examples that a thread processes at once, and
               n_seq, batch_size and dropout are not looked at: batches and objective know them

    The rest, and what is raised, is as in `train.train`.
    """
    s = settings

    def differentiate(step, workers):
        arrays = batches(step)
        n_tokens = int(np.count_nonzero(arrays[-1] != PADDING))

        def part(start):
            rows = [array[start : start + s.micro_batch] for array in arrays]
            rng = [s.seed, step, start, 1]  # 1 is for dropout, so that nothing else draws the same
            return objective(params, *rows, rng=rng, n_tokens=n_tokens)

        starts = range(0, len(arrays[-1]), s.micro_batch)
        return add_up(part, starts, workers, s.threads)

    return descend(params, differentiate, settings, moments, first_step)


def batches_of(arrays, n_batch, seed):
    """A function from the step to its n_batch rows of each of the arrays, which have one row for
    each example. Each epoch goes through all of them in another random order; the step and the seed
    say where in which epoch a step is, as in `train.batch`. TrainError where there is no example.
    """
    n_examples = len(arrays[0])
    if n_examples == 0 or any(len(array) != n_examples for array in arrays):
        raise TrainError(f"{[len(array) for array in arrays]} examples are not as many of each")

    def rows_of(step):
        rows = np.arange(step * n_batch, (step + 1) * n_batch)
        epochs, places = np.divmod(rows, n_examples)
        for epoch in np.unique(epochs):
            order = np.random.default_rng([seed, epoch]).permutation(n_examples)
            rows[epochs == epoch] = order[places[epochs == epoch]]
        return tuple(array[rows] for array in arrays)

    return rows_of


def gpt2_loss_and_gradients(params, ids, targets, n_head, dropout=0.0, rng=None, n_tokens=None):
    """`backward.loss_and_gradients` for texts of different lengths: ids may end in PADDING, and
    where targets hold it nothing is asked, such as at a question, of which only the answer counts.
    n_tokens is by default the number of targets that are no padding."""
    ids, targets = check_pair(ids, targets, params)
    rng = np.random.default_rng(rng)
    logits, back = gpt2_vjp(ids, **params, n_head=n_head, dropout=dropout, rng=rng)
    loss, d_logits = padded_cross_entropy(logits, targets, n_tokens)
    return loss, back(d_logits)
