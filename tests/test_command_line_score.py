"""--score, as a user meets it."""

import numpy as np
import pytest

from command_line import score
from command_line.score import group_by_length, score_all
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


@pytest.mark.parametrize("n_ctx", [3, 20, 64, 96, 160])
def test_texts_side_by_side_score_as_they_do_alone(random_params, n_ctx):
    """Shorter and longer than the context, which is no multiple of anything."""
    params = random_params(n_ctx=n_ctx, dtype=np.float64)
    rng = np.random.default_rng(0)
    lengths = [1, 2, n_ctx, n_ctx + 1, n_ctx + 2, 3, 200, 7, 0, 65, 64, 129, 130, 40, 41]
    texts = [rng.integers(0, 61, n).tolist() for n in lengths]
    done = []
    together = list(score_all(texts, params, 3, done.append))
    assert len(together) == len(texts) and sum(done) == sum(max(0, n - 1) for n in lengths)
    for ids, logs in zip(texts, together, strict=True):
        alone = log_probs(ids, params, 3) if len(ids) > 1 else []
        assert len(logs) == len(alone)
        assert np.allclose(logs, alone, rtol=1e-10, atol=1e-10)


def test_any_number_of_texts_is_scored_in_order(random_params, monkeypatch):
    monkeypatch.setattr(score, "N_SORTED", 4)
    params, rng = random_params(dtype=np.float64), np.random.default_rng(0)
    texts = [rng.integers(0, 61, n).tolist() for n in rng.integers(2, 9, 11)]
    together = list(score_all(texts, params, 3, lambda n: None))
    for ids, logs in zip(texts, together, strict=True):
        assert np.allclose(logs, log_probs(ids, params, 3), rtol=1e-10)


def test_groups_are_of_like_lengths_and_bounded():
    def lengths_of(lengths, n_ctx=1024):
        texts = [[0] * n for n in lengths]
        return [[lengths[i] for i in group] for group in group_by_length(texts, n_ctx)]

    assert lengths_of([5700, 2, 3, 4]) == [[5700], [3, 4], [2]]
    assert lengths_of([100, 90, 60, 51, 50]) == [[51, 60, 90, 100], [50]]
    assert lengths_of([10] * 60) == [[10] * 25, [10] * 25, [10] * 10]
    assert lengths_of([70] * 9) == [[70] * 4, [70] * 4, [70]]
    assert lengths_of([1, 0, 2]) == [[2]]
    assert lengths_of([26, 25, 22], n_ctx=24) == [[26], [22, 25]]
