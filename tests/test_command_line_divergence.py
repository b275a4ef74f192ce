"""What a run is told after it has diverged, and whether that helps."""

import numpy as np
import pytest

from command_line.divergence import find_fault, suggest_option
from command_line.run_state import State
from command_line.settings import MINUTES, nest_settings
from programs import TINY, make_options, run_train
from utils import SIZES, load_encoder_hparams_and_params, save_model


def settings_of(**changes):
    return nest_settings(MINUTES | TINY | dict(corpus="/text", out="m", n_seq=16) | changes)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        (dict(), "an --lr below 0.003, such as 0.001"),
        (dict(lr=0.004), "an --lr below 0.004, such as 0.00133"),
        (dict(lr=30.0), "an --lr below 30, such as 0.003"),  # the usual decay, the lr is at fault
        (dict(lr=30.0, preset="tales"), "an --lr below 30, such as 0.0015"),
        (dict(final_lr=1.0), "a --final-lr not above the --lr, 0.003 (it was 1)"),
        (
            dict(weight_decay=3000.0),
            "a --weight-decay far below 333, that is 1 / --lr, such as 0.1 (it was 3000)",
        ),
        (
            dict(beta_2=0.0),
            "a --beta-2 above 0.81, the square of --beta-1, such as 0.95 (it was 0)",
        ),
        (
            dict(beta_1=0.99, beta_2=0.95),
            "a --beta-2 above 0.98, the square of --beta-1, such as 0.99 (it was 0.95)",
        ),
        (dict(final_lr=0.003), "an --lr below 0.003, such as 0.001"),  # constant, as it may be
        (
            dict(lr=0.5, weight_decay=2.0),
            "a --weight-decay far below 2, that is 1 / --lr, such as 0.1 (it was 2)",
        ),
        (dict(lr=0.5, weight_decay=1.9), "an --lr below 0.5, such as 0.003"),
        (dict(beta_1=0.95, beta_2=0.91), "an --lr below 0.003, such as 0.001"),  # above 0.9025
        (dict(optimizer="muon"), "an --lr below 0.003, such as 0.001"),
        (dict(optimizer="muon", muon_lr=3.0), "a --muon-lr below 3, such as 0.02"),
        (dict(optimizer="muon", muon_lr=0.03), "a --muon-lr below 0.03, such as 0.01"),
        (dict(optimizer="muon", muon_lr=3.0, lr=30.0), "an --lr below 30, such as 0.003"),
        (dict(muon_lr=3.0), "an --lr below 0.003, such as 0.001"),  # AdamW has no use for it
        (
            dict(optimizer="muon", weight_decay=60.0),
            "a --weight-decay far below 50, that is 1 / --muon-lr, such as 0.1 (it was 60)",
        ),
        (dict(clip=1e30), "an --lr below 0.003, such as 0.001"),  # AdamW's steps have a length
    ],
)
def test_the_option_at_fault_is_named(changes, fault):
    assert find_fault(settings_of(**changes)) == fault


@pytest.mark.parametrize(
    ("wrong", "right", "words"),
    [
        (dict(lr=1e4), dict(lr=0.003), "an --lr below 10000"),
        (dict(weight_decay=1e5), dict(weight_decay=0.1), "a --weight-decay far below 333"),
        (dict(lr=1, beta_2=0), dict(lr=1, beta_2=0.95), "a --beta-2 above 0.81"),
        (dict(final_lr=1e5), dict(final_lr=0.003), "a --final-lr not above the --lr, 0.003"),
    ],
)
def test_a_run_that_follows_the_advice_does_not_diverge(
    story, tmp_path, capsys, wrong, right, words
):
    options = dict(n_steps=100, eval_every=100, save_every=2, warmup=0, dropout=0.0)
    with np.errstate(all="ignore"):
        wrong = make_options(**options | wrong)
        assert run_train(story, "--out", tmp_path / "wrong", *wrong) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"; begin again, with another --out and {words}" in line
    options["n_steps"] = 30
    assert run_train(story, "--out", tmp_path / "right", *make_options(**options | right)) == 0


def test_weights_that_a_step_has_changed_are_not_at_fault_themselves():
    settings = settings_of(init_from="tales")
    advice = suggest_option(settings, None, State({}, {}, step=1), saved=0)
    assert advice == "begin again, with another --out and an --lr below 0.003, such as 0.001"


def test_weights_that_no_step_has_changed_are_at_fault_themselves(story, trained, tmp_path, capsys):
    encoder, hparams, params = load_encoder_hparams_and_params(trained)
    params["ln_f"]["g"] = params["ln_f"]["g"] * np.float32(1e25)
    save_model(tmp_path / "huge", encoder, hparams, params)
    options = make_options(**dict.fromkeys(SIZES))
    arguments = ["--init-from", tmp_path / "huge", *options]
    assert run_train(story, "--out", tmp_path / "m", *arguments) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.endswith(
        f"no step has changed the weights of {tmp_path / 'huge'}; begin with another model"
    )
