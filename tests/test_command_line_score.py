"""--score, as a user meets it."""

import numpy as np
import pytest

from gpt2_numpy import log_probs
from programs import run_generate
from utils import load_encoder_hparams_and_params


def test_score_prints_each_log_probability_the_total_and_the_perplexity(tiny_model):
    status, out, _ = run_generate(tiny_model, "--score", "the the")
    encoder, hparams, params = load_encoder_hparams_and_params(str(tiny_model))
    ids = encoder.encode("the the")
    logs = log_probs(ids, params, hparams["n_head"])
    lines = out.splitlines()
    assert status == 0 and len(lines) == len(ids) + 4
    assert [line.split()[0] for line in lines[2:-3]] == [f"{x:.4f}" for x in logs]
    assert [line.split()[1] for line in lines[2:-3]] == [f"{p:.2%}" for p in np.exp(logs)]
    assert [line.split()[2] for line in lines[1:-3]] == [str(i) for i in ids]
    assert lines[-3].startswith(f"{logs.sum():9.4f}  nats")
    perplexity = float(lines[-2].split()[0])
    assert perplexity == pytest.approx(2.718281828 ** -logs.mean(), rel=1e-4)
    bits = float(lines[-1].split()[0])
    assert bits == pytest.approx(-logs.sum() / np.log(2) / len("he the"), rel=1e-4)
    assert lines[-1].endswith("bits per byte, -total / ln 2 / 6")


def test_score_needs_two_tokens(tiny_model):
    status, out, err = run_generate(tiny_model, "--score", "a")
    assert (status, out) == (1, "") and "two tokens or more" in err and err.count("\n") == 1


def test_lines_come_as_soon_as_they_are_known(tiny_model, monkeypatch, capsys):
    """The first are written before the last are computed."""
    import gpt2_numpy
    from command_line.generate import main

    written, read = [], gpt2_numpy.Context.read

    def watched(context, *arguments, **settings):
        written.append(capsys.readouterr().out.count("\n"))
        return read(context, *arguments, **settings)

    monkeypatch.setattr(gpt2_numpy.Context, "read", watched)
    assert main(["--model", str(tiny_model), "--score", "the " * 200]) == 0
    assert written[0] == 0 and len(written) > 3, written
    assert all(n > 10 for n in written[1:])
