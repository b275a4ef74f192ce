"""Streaming: a prompt and its continuation go to standard output token by token."""

import itertools
import sys
import time
from dataclasses import dataclass, field

import numpy as np

from files.messages import notice


def write(text):
    """Write to stdout at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


@dataclass
class Generated:
    """What has been generated so far: after each step its new ids, one of each sample, and the
    time. end is the id that ends a text."""

    n_samples: int
    end: int
    ids: list = field(default_factory=list)  # [n_steps][n_samples]
    times: list = field(default_factory=list)  # of the start, then after each step: seconds

    def record(self, steps):
        """Hand on the ids of each step [n_samples] as a list, until every sample has ended."""
        self.times.append(time.perf_counter())
        has_ended = np.zeros(self.n_samples, bool)
        for step in steps:
            self.times.append(time.perf_counter())
            self.ids.append(step.tolist())
            yield self.ids[-1]
            has_ended |= step == self.end
            if has_ended.all():
                return

    def sample(self, i):
        """The ids of sample i, up to where it ended its text."""
        return until_end((step[i] for step in self.ids), self.end)


def until_end(ids, end):
    """The ids before the first end-of-text token, which begins another, unrelated document."""
    return itertools.takewhile(lambda token_id: token_id != end, ids)


def stream(encoder, prompt, n_prompt, steps, n_samples, n_tokens):
    """Write the prompt and its first continuation as it comes; further samples follow it whole.

    steps is what `generate` makes of the prompt of n_prompt tokens: n_tokens arrays [n_samples].
    Whatever breaks it off, Ctrl-C or an error, what was generated until then is written.
    """
    generated = Generated(n_samples, encoder.eot)
    recorded = generated.record(steps)
    first_sample = until_end((step[0] for step in recorded), encoder.eot)
    try:
        write(heading(1, n_samples) + prompt)
        for piece in encoder.decode_stream(first_sample):
            write(piece)
        for _ in recorded:  # the first sample has ended its text, others may not have
            pass
    finally:
        write("\n")
        if generated.ids or n_tokens == 0:  # else the first step has failed
            write_further_samples(encoder, prompt, generated)
        report_speed(n_prompt, n_samples, generated.times)
    if len(generated.ids) < n_tokens:
        notice(f"the model ended its text with <|endoftext|> after {len(generated.ids)} tokens")


def write_further_samples(encoder, prompt, generated):
    """Write all samples but the first, each with its prompt."""
    for i in range(1, generated.n_samples):
        text = encoder.decode(generated.sample(i))
        write(f"\n{heading(i + 1, generated.n_samples)}{prompt}{text}\n")


def heading(number, n_samples):
    """The line above a sample, where there are several."""
    return f"--- sample {number} of {n_samples} ---\n" if n_samples > 1 else ""


def report_speed(n_prompt, n_samples, times):
    """Say how fast it went: times are those of the start and after each step, in seconds."""
    if len(times) > 2:
        rate = n_samples * (len(times) - 2) / (times[-1] - times[1])
        notice(
            f"{n_samples * (len(times) - 1)} tokens, {rate:.1f} tokens/s; the first after "
            f"{times[1] - times[0]:.2f} s, for a prompt of {n_prompt}"
        )
