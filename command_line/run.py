"""A run on its way to the last step: log, evaluations and checkpoints around `train`."""

import math
import time
from pathlib import Path

from command_line.best import keep_best
from command_line.divergence import suggest_option
from command_line.log import begin_log, write_log
from command_line.process import reuse_memory
from command_line.progress import advance, progress_bar, report, spell_duration
from command_line.run_state import go_on, is_finished, is_saved, write_model, write_state
from command_line.signals import watch_for_stop
from files.openai_folder import STATE_FILE
from gpt2_numpy import generate
from train import DivergedError, TrainError, negative_log_likelihood, thread_map, train

SAMPLE_TOKENS = 60


def carry_out(settings, corpus, state):
    """Train until the last step or until Ctrl-C, and save; return whether the run is complete."""
    s, n_tokens = settings.optimisation, settings.tokens_per_step
    began = time.monotonic() - state.seconds
    reuse_memory()
    saved = state.step if Path(settings.out, STATE_FILE).exists() else None
    if not is_saved(settings):
        saved = save_checkpoint(settings, corpus, state, saved)
    owed = is_evaluation_owed(settings, state)
    log = begin_log(settings.out, state.step, evaluated=not owed)
    with (
        watch_for_stop() as stop,
        thread_map(s.threads) as workers,
        progress_bar(s.n_steps, n_tokens, state.step) as bar,
    ):
        if owed:
            evaluate(settings, corpus, state, log, bar, workers, stop)
        last = state.step >= s.n_steps or stop.is_set()
        if last:
            saved = save_checkpoint(settings, corpus, state, saved, bar)
        steps = train(state.params, corpus.train, settings.n_head, s, state.moments, state.step)
        try:
            while not last:
                step = next(steps)
                state.step, state.seconds = step.number, time.monotonic() - began
                state.losses.append(step.loss)
                advance(bar, n_tokens, step.loss)
                if step.number == s.n_steps or step.number % settings.log_every == 0:
                    log_losses(log, state, n_tokens, step)
                if is_evaluation_owed(settings, state):
                    evaluate(settings, corpus, state, log, bar, workers, stop)
                # Asked once: a signal may come at any moment.
                last = step.number == s.n_steps or stop.is_set()
                if last or step.number % settings.save_every == 0:
                    saved = save_checkpoint(settings, corpus, state, saved, bar, must=last)
        except DivergedError as error:
            raise TrainError(
                f"{error}; {suggest_option(settings, corpus, state, saved)}"
            ) from error
    return is_finished(settings, state)


def log_losses(log, state, n_tokens, step):
    """Add a line to the log: the mean loss since the last one, and what `train` told of the
    newest step, of n_tokens."""
    loss = sum(state.losses) / len(state.losses)
    of_step = {"step": step.number, "tokens": step.number * n_tokens}
    write_log(log, **of_step, loss=loss, norm=step.norm, lr=step.lr, seconds=state.seconds)
    state.losses.clear()


def is_evaluation_owed(settings, state):
    """Whether this step is one to be evaluated after, and it has not been done: Ctrl-C gives an
    evaluation up, and then the run that goes on begins with it."""
    due = state.step % settings.eval_every == 0 or state.step >= settings.optimisation.n_steps
    return due and state.evaluated != state.step


def evaluate(settings, corpus, state, log, bar, workers, stop):
    """Measure the loss on held-out text and let the model speak, unless there is no time left."""
    n_seq, n_steps = settings.optimisation.n_seq, settings.optimisation.n_steps
    nats = negative_log_likelihood(state.params, corpus.val, settings.n_head, n_seq, workers, stop)
    if stop.is_set() and not math.isfinite(nats):
        return
    state.evaluated = state.step
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
    if settings.keep_best:
        try:
            keep_best(settings, corpus.encoder, state, bits)
        except TrainError as error:
            report(bar, f"step {state.step}: {error}; training goes on, what was there stays")


def speak(settings, encoder, state):
    """A sample: the prompt and what follows it."""
    prompt = (encoder.encode(settings.sample) or [encoder.eot or 0])[-settings.n_ctx :]
    n_tokens = min(SAMPLE_TOKENS, max(1, settings.n_ctx - len(prompt)))
    rng = [settings.optimisation.seed, state.step, 2]
    continuation = generate(
        prompt, state.params, settings.n_head, n_tokens, temperature=0.8, top_k=40, rng=rng
    )
    return encoder.decode([*prompt, *continuation])


def save_checkpoint(settings, corpus, state, saved=None, bar=None, must=True):
    """Save; return the step of the newest checkpoint, which was `saved` until now. TrainError.

    Weights that give no finite loss are not saved over ones that do. Where nothing can be written
    and it need not be (must), training goes on and the next attempt may succeed. Where it must, and
    only the model finds room, that is saved alone.
    """
    check_weights(settings, corpus, state, saved)
    try:
        write_state(settings, corpus.encoder, state)
    except TrainError as error:
        kept = f"the last checkpoint is of step {saved}"
        if saved is None:
            raise TrainError(f"{error}; make room there or give another --out") from error
        if must:
            alone = save_model_alone(settings, corpus, state) if state.step > saved else ""
            raise TrainError(f"{error}{alone}; {kept}; {go_on(settings, error)}") from error
        report(bar, f"step {state.step}: {error}; training goes on, {kept}")
        return saved
    try:
        write_model(settings, corpus.encoder, state)
    except TrainError as error:
        if must:
            kept = f"{STATE_FILE} holds step {state.step}"
            raise TrainError(f"{error}; {kept}; {go_on(settings, error)}") from error
        report(bar, f"step {state.step}: {error}; training goes on, {STATE_FILE} holds this step")
    return state.step


def save_model_alone(settings, corpus, state):
    """Save the model where its state found no room; what is to be said about it."""
    try:
        write_model(settings, corpus.encoder, state)
        return f", but the model alone was saved, as it is after step {state.step}"
    except TrainError:
        return ""


def check_weights(settings, corpus, state, saved):
    """TrainError where the weights give no finite loss, a DivergedError where those of the step
    `saved` did."""
    n_seq = settings.optimisation.n_seq
    window = corpus.val[: n_seq + 1]
    loss = negative_log_likelihood(state.params, window, settings.n_head, n_seq)
    if math.isfinite(loss):
        return
    if saved is None:
        raise TrainError(f"the held-out loss of the first weights is {loss}; they are damaged")
    raise DivergedError(f"the held-out loss became {loss} in step {state.step}")
