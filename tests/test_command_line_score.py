"""--score, as a user meets it."""

import numpy as np
import pytest
from programs import run_generate

from gpt2_numpy import log_probs
from utils import load_encoder_hparams_and_params


def test_score_prints_each_log_probability_the_total_and_the_perplexity(tiny_model):
    status, out, _ = run_generate(tiny_model, "--score", "the the")
    encoder, hparams, params = load_encoder_hparams_and_params(str(tiny_model))
    ids = encoder.encode("the the")
    logs = log_probs(ids, params, hparams["n_head"])
    lines = out.splitlines()
    assert status == 0 and len(lines) == len(ids) + 3
    assert [line.split()[0] for line in lines[2:-2]] == [f"{x:.4f}" for x in logs]
    assert [line.split()[1] for line in lines[2:-2]] == [f"{p:.2%}" for p in np.exp(logs)]
    assert [line.split()[2] for line in lines[1:-2]] == [str(i) for i in ids]
    assert lines[-2].startswith(f"{logs.sum():9.4f}  nats")
    perplexity = float(lines[-1].split()[0])
    assert perplexity == pytest.approx(2.718281828 ** -logs.mean(), rel=1e-4)


def test_score_needs_two_tokens(tiny_model):
    status, out, err = run_generate(tiny_model, "--score", "a")
    assert (status, out) == (1, "") and "two tokens or more" in err and err.count("\n") == 1
