"""A run on its way to the last step: log, evaluations and checkpoints around `train`."""

import math
import time

from command_line.log import begin_log, write_log
from command_line.process import reuse_memory
from command_line.progress import advance, progress_bar, report, spell_duration
from command_line.run_state import save
from command_line.signals import watch_for_stop
from gpt2_numpy import generate
from train import DivergedError, TrainError, negative_log_likelihood, thread_map, train

SAMPLE_TOKENS = 60


def carry_out(settings, corpus, state):
    """Train until the last step or until Ctrl-C, and save; return whether it was the last step."""
    s, n_tokens = settings.optimisation, settings.tokens_per_step
    began = time.monotonic() - state.seconds
    reuse_memory()
    saved = save_checkpoint(settings, corpus, state)
    log = begin_log(settings.out, state.step)
    with (
        watch_for_stop() as stop,
        thread_map(s.threads) as workers,
        progress_bar(s.n_steps, n_tokens, state.step) as bar,
    ):
        if state.step == 0:
            evaluate(settings, corpus, state, log, bar, workers, stop)
        steps = train(state.params, corpus.train, settings.n_head, s, state.moments, state.step)
        try:
            for step in steps:
                state.step, state.seconds = step.number, time.monotonic() - began
                state.losses.append(step.loss)
                advance(bar, n_tokens, step.loss)
                done = step.number == s.n_steps
                if done or step.number % settings.log_every == 0:
                    log_losses(log, state, n_tokens, step)
                if done or step.number % settings.eval_every == 0:
                    evaluate(settings, corpus, state, log, bar, workers, stop)
                last = done or stop.is_set()  # asked once: a signal may come at any moment
                if last or step.number % settings.save_every == 0:
                    saved = save_checkpoint(settings, corpus, state, saved, bar, must=last)
                if last:
                    break
        except DivergedError as error:
            raise TrainError(
                f"{error}; the checkpoint of step {saved} in {settings.out} is good: go on from it "
                f"with --init-from {settings.out}, another --out, and an --lr below {s.lr}"
            ) from error
    return state.step == s.n_steps


def log_losses(log, state, n_tokens, step):
    """Add a line to the log: the mean loss since the last one, and what `train` told of the
    newest step, of n_tokens."""
    loss = sum(state.losses) / len(state.losses)
    of_step = {"step": step.number, "tokens": step.number * n_tokens}
    write_log(log, **of_step, loss=loss, norm=step.norm, lr=step.lr, seconds=state.seconds)
    state.losses.clear()


def evaluate(settings, corpus, state, log, bar, workers, stop):
    """Measure the loss on held-out text and let the model speak, unless there is no time left."""
    n_seq, n_steps = settings.optimisation.n_seq, settings.optimisation.n_steps
    nats = negative_log_likelihood(state.params, corpus.val, settings.n_head, n_seq, workers, stop)
    if not math.isfinite(nats):
        return
    bits = nats / math.log(2) / corpus.val_bytes
    write_log(log, step=state.step, val_loss=nats / (len(corpus.val) - 1), bits_per_byte=bits)
    left = ""
    if 0 < state.step < n_steps:
        left = f", {spell_duration((n_steps / state.step - 1) * state.seconds)} left"
    report(
        bar,
        f"step {state.step} of {n_steps}, {spell_duration(state.seconds)}: "
        f"{bits:.4f} bits per byte held out{left}",
    )
    report(bar, f"    {speak(settings, corpus.encoder, state)!r}")


def speak(settings, encoder, state):
    """A sample: the prompt and what follows it."""
    prompt = (encoder.encode(settings.sample) or [encoder.eot or 0])[-settings.n_ctx :]
    n_tokens = min(SAMPLE_TOKENS, max(1, settings.n_ctx - len(prompt)))
    rng = [settings.optimisation.seed, state.step, 2]
    new = generate(
        prompt, state.params, settings.n_head, n_tokens, temperature=0.8, top_k=40, rng=rng
    )
    return encoder.decode([*prompt, *new])


def save_checkpoint(settings, corpus, state, saved=None, bar=None, must=True):
    """Save; return the step of the newest checkpoint, which was `saved` until now. TrainError.

    Weights that give no finite loss are not saved over ones that do. Where nothing can be written
    and it need not be (must), training goes on and the next attempt may succeed.
    """
    check_weights(settings, corpus, state, saved)
    try:
        save(settings, corpus.encoder, state)
        return state.step
    except TrainError as error:
        kept = f"the last checkpoint is of step {saved}"
        if must:
            raise TrainError(error if saved is None else f"{error}; {kept}") from error
        report(bar, f"step {state.step}: {error}; training goes on, {kept}")
        return saved


def check_weights(settings, corpus, state, saved):
    """TrainError where the weights give no finite loss, a DivergedError where those of the step
    `saved` did."""
    n_seq = settings.optimisation.n_seq
    some = corpus.val[: n_seq + 1]
    loss = negative_log_likelihood(state.params, some, settings.n_head, n_seq)
    if math.isfinite(loss):
        return
    if saved is None:
        raise TrainError(f"the held-out loss of the first weights is {loss}; they are damaged")
    raise DivergedError(f"the held-out loss became {loss} in step {state.step}")
