"""How many threads BLAS should compute with: found by trying, again and again.

A matrix product is shared out among the threads of BLAS, and is done when the slowest has done its
part. On cores that have nothing else to do that is fastest. But where another program keeps a core
busy, the thread there waits for its turn, and all others for that thread, in every product: then
one thread alone is faster, often several times. Nothing but the clock tells which it is, and it may
change while a text is generated.
"""

import time

import numpy as np

from command_line.process import blas_threads, get_blas_threads, set_blas_threads

LONG_PROMPT = 64  # tokens: from here on it pays to choose before the prompt is read
WINDOW = 0.1  # seconds over which a pace is measured: a busy core does not show in every step
PATIENCE, LONGEST_PATIENCE = 0.25, 30.0  # seconds between two trials: each time twice as many
COST = 0.02  # of the time may be lost by trials, as far as the longest patience allows


def choose_blas_threads():
    """As many threads as BLAS has now, if they are faster than one alone just now, else 1; None
    where BLAS takes no orders. It takes a twentieth of a second to find out."""
    n_most = get_blas_threads()
    if n_most is None or n_most == 1:
        return n_most
    rows, matrix = np.ones((128, 768), np.float32), np.ones((768, 768), np.float32)
    rates = {1: [], n_most: []}  # matrix products a second, in each turn
    for n_threads, duration in [(1, 0.003), (n_most, 0.006)] * 6:
        with blas_threads(n_threads):
            rows @ matrix  # wakes the threads up
            start, n = time.perf_counter(), 0
            while (seconds := time.perf_counter() - start) < duration or n == 0:
                rows @ matrix
                n += 1
        rates[n_threads].append(n / seconds)
    # Beside a busy core the first turns of a new process are often as fast as on quiet cores, so
    # the slowest counts: where no core is busy, even that one is much faster.
    return n_most if min(rates[n_most]) > 1.2 * max(rates[1]) else 1


class KeepPace:
    """The iterator `steps`, with as many BLAS threads for each step as is fastest just now: 1, or
    as many as BLAS has at the start. Now and then the other number is tried for a few steps.

    The first step reads the prompt, n_prompt tokens.
    """

    def __init__(self, steps, n_prompt):
        self.steps, self.n_most = iter(steps), get_blas_threads()
        self.n_prompt = n_prompt
        self.n_threads, self.is_trial, self.has_begun = None, False, False
        self.paces = {}  # {number of threads: seconds a step, when it was last measured}
        self.n_steps, self.seconds = 0, 0.0  # in this window
        self.since_trial, self.patience = 0.0, PATIENCE  # seconds

    def __iter__(self):
        return self

    def __next__(self):
        if self.n_most is None or self.n_most == 1:
            return next(self.steps)
        if self.n_threads is None:
            is_long = self.n_prompt >= LONG_PROMPT
            self.set_threads(choose_blas_threads() if is_long else self.n_most)
        start = time.perf_counter()
        step = next(self.steps)
        if self.has_begun:  # else it was the prompt, which takes longer than what follows
            self.account(time.perf_counter() - start)
        self.has_begun = True
        return step

    def account(self, seconds):
        """Take a step's time into account. Where that completes a window, decide how to go on."""
        n, other = self.n_threads, 1 if self.n_threads > 1 else self.n_most
        self.n_steps, self.seconds = self.n_steps + 1, self.seconds + seconds
        is_hopeless = self.is_trial and seconds > 2 * self.paces[other]
        if self.seconds < WINDOW and not is_hopeless:
            return
        self.paces[n] = self.seconds / self.n_steps
        self.since_trial += self.seconds
        if self.is_trial:
            lost = self.seconds - self.n_steps * self.paces[other]
            self.patience = min(max(2 * self.patience, lost / COST), LONGEST_PATIENCE)
            self.is_trial, self.since_trial = False, 0.0
            self.set_threads(n if self.paces[n] < 0.97 * self.paces[other] else other)
        elif n > 1 and self.paces[n] > self.paces.get(1, np.inf):  # a core has become busy
            self.set_threads(1)
        elif self.since_trial > self.patience:
            self.is_trial = True
            self.set_threads(other)
        else:
            self.set_threads(n)

    def set_threads(self, n):
        """Begin a window with so many threads."""
        if n != self.n_threads:
            set_blas_threads(n)
        self.n_threads, self.n_steps, self.seconds = n, 0, 0.0


def keep_choosing(seconds=5.0):
    """A function to be called between two pieces of work that are too unlike to be compared: when
    that long has passed since it last did, and at first, it chooses as many threads as are fastest,
    of 1 and as many as BLAS has now."""
    n_most, due = get_blas_threads(), 0.0

    def choose():
        nonlocal due
        if n_most is not None and n_most > 1 and time.monotonic() >= due:
            set_blas_threads(n_most)
            set_blas_threads(choose_blas_threads())
            due = time.monotonic() + seconds

    return choose
