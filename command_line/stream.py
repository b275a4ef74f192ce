"""Streaming: a prompt and its continuation go to standard output token by token."""

import sys
import time

from command_line.continuation import END_OF_TEXT, LENGTH, STOP, Continuation
from files.messages import notice


class OutputError(Exception):
    """Standard output cannot be written to; the cause is the OSError."""


def write(text):
    """Write to stdout at once. OutputError."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        raise OutputError from error


def stream(encoder, prompt, n_prompt, steps, n_samples, n_tokens, stops=()):
    """Write the prompt and its first continuation as it comes; further samples follow it whole.

    steps is what `generate` makes of the prompt of n_prompt tokens: n_tokens arrays [n_samples].
    Whatever breaks it off, Ctrl-C or an error, what was generated until then is written.
    """
    samples = [Continuation(encoder, stops) for _ in range(n_samples)]
    times = [time.perf_counter()]  # of the start, then after each step: seconds
    try:
        write(heading(("sample", 1, n_samples)) + prompt)
        for step in steps:
            times.append(time.perf_counter())
            pieces = [
                sample.add(token_id) if sample.finish_reason is None else ""
                for sample, token_id in zip(samples, step.tolist(), strict=True)
            ]
            write(pieces[0])
            if all(sample.finish_reason for sample in samples):
                break  # what nobody will read is not computed
    finally:
        rests = [sample.end(LENGTH) if sample.finish_reason is None else "" for sample in samples]
        write(rests[0] + "\n")
        n_steps = len(times) - 1
        if n_steps or n_tokens == 0:  # else the first step has failed
            write_further_samples(prompt, samples)
        report_speed(n_prompt, sum(len(sample.ids) for sample in samples), n_samples, times)
    report_endings(samples)


def report_endings(samples):
    """Say of which of the samples the end came before it had all its tokens, and why."""
    for reason, ending in ENDINGS.items():
        lengths = [len(sample.ids) for sample in samples if sample.finish_reason == reason]
        if lengths and len(samples) == 1:
            notice(f"{ending} after {lengths[0]} tokens")
        elif lengths:
            notice(f"{ending}: in {len(lengths)} of {len(samples)} samples")


ENDINGS = {
    END_OF_TEXT: "the model ended its text with <|endoftext|>",
    STOP: "a stop text came",
}


def write_further_samples(prompt, samples):
    """Write all samples but the first, each with its prompt."""
    for number, sample in enumerate(samples[1:], start=2):
        write(f"\n{heading(('sample', number, len(samples)))}{prompt}{sample.text}\n")


def heading(*places):
    """The line above a text, of [(what, number, of how many), ...], where there are several."""
    parts = [f"{what} {number} of {n}" for what, number, n in places if n > 1]
    return f"--- {', '.join(parts)} ---\n" if parts else ""


def report_speed(n_prompt, n_tokens, n_samples, times):
    """Say how fast it went: n_tokens came in all, n_samples of them first; times are those of the
    start and after each step, in seconds."""
    if len(times) > 2:
        rate = max(0, n_tokens - n_samples) / (times[-1] - times[1])
        notice(
            f"{n_tokens} tokens, {rate:.1f} tokens/s; the first after {times[1] - times[0]:.2f} s, "
            f"for a prompt of {n_prompt}"
        )
