"""What to do after a run has diverged, as far as its settings and its checkpoint tell."""

import math
import shlex

from command_line.run_state import load
from command_line.settings import MINUTES, PRESETS
from train import TrainError, negative_log_likelihood


def suggest_option(settings, corpus, state, saved):
    """The advice of a run that diverged after state.step, whose newest checkpoint is of the step
    `saved`."""
    if state.step == 0 and settings.init_from is not None:
        return f"no step has changed the weights of {settings.init_from}; begin with another model"
    fault = find_fault(settings)
    folder = shlex.quote(settings.out)
    if saved > 0 and is_good(settings, corpus):
        return (
            f"the checkpoint of step {saved} in {settings.out} is good: go on from it with "
            f"--init-from {folder}, another --out, and {fault}"
        )
    return f"begin again, with another --out and {fault}"


def is_good(settings, corpus):
    """Whether the checkpoint's model knows more than nothing: by guessing each token is as likely
    as any other, and the loss log(n_vocab)."""
    n_seq = settings.optimisation.n_seq
    window = corpus.val[: n_seq + 1]
    try:
        params = load(settings.out)[2].params
    except TrainError:
        return False
    nats = negative_log_likelihood(params, window, settings.n_head, n_seq)
    return nats / (len(window) - 1) < math.log(settings.n_vocab)


def find_fault(settings):
    """The option that is likely at fault, and what to give instead.

    AdamW shrinks a matrix to 1 - lr * weight_decay of itself: beyond a weight decay of 1 / lr it
    turns round. It divides m, which remembers gradients for as long as beta_1 says, by sqrt(v):
    where v forgets them sooner, beta_2 < beta_1^2, there is no bound to m / sqrt(v). Where neither
    is so, every step is about as long as the learning rate, whatever the gradient. Of the matrices
    that Muon updates, the same is true with its rate: they shrink by it, and its steps are as long.
    """
    s = settings.optimisation
    usual = PRESETS[settings.preset] if settings.preset in PRESETS else MINUTES
    if s.final_lr > s.lr:
        return f"a --final-lr not above the --lr, {s.lr:g} (it was {s.final_lr:g})"
    rates = {"an --lr": (s.lr, usual["lr"])}
    if s.optimizer == "muon":
        rates["a --muon-lr"] = (s.muon_lr, usual["muon_lr"])
    option, (rate, _) = max(rates.items(), key=lambda item: item[1])
    if rate * s.weight_decay >= 1 and s.weight_decay > usual["weight_decay"]:
        return (
            f"a --weight-decay far below {1 / rate:.3g}, that is 1 / {option.split()[1]}, such as "
            f"{usual['weight_decay']:g} (it was {s.weight_decay:g})"
        )
    if s.beta_2 < s.beta_1**2:
        return (
            f"a --beta-2 above {s.beta_1**2:.3g}, the square of --beta-1, such as "
            f"{max(usual['beta_2'], s.beta_1):g} (it was {s.beta_2:g})"
        )
    option, (rate, common) = max(rates.items(), key=lambda item: item[1][0] / item[1][1])
    less = common if rate > 2 * common else rate / 3
    return f"{option} below {rate:g}, such as {less:.3g}"
