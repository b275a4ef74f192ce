"""Many prompts side by side: each is continued as if it were alone."""

import warnings

import numpy as np
import pytest

from command_line.side_by_side import Rows, continue_all
from encoder import get_encoder
from gpt2_numpy import ContextWarning, generate, gpt2, log_probs

N_HEAD, N_VOCAB, N_CTX = 3, 260, 20


@pytest.fixture
def params(random_params):
    """Of float64, so that rounding cannot change which token is drawn."""
    return random_params(n_vocab=N_VOCAB, n_ctx=N_CTX, dtype=np.float64)


@pytest.fixture
def encoder(tiny_model):
    return get_encoder(tiny_model)


def draw_prompts(*lengths):
    rng = np.random.default_rng(1)
    return [rng.integers(0, N_VOCAB - 1, length).tolist() for length in lengths]


def continue_alone(prompt, params, n_tokens, end, n_samples, **settings):
    """The ids of each sample, up to where it ends."""
    steps = generate(prompt, params, N_HEAD, n_tokens, n_samples=n_samples, **settings)
    samples = np.array([step.tolist() for step in steps]).T.tolist()
    return [ids[: ids.index(end)] if end in ids else ids for ids in samples]


@pytest.mark.parametrize("n_samples", [1, 3])
@pytest.mark.parametrize("n_rows", [1, 3, 50])
@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 0.0},
        {"temperature": 1.3, "top_k": 50, "top_p": 0.9},
    ],
)
def test_each_text_is_the_one_it_would_be_alone(params, encoder, sampling, n_rows, n_samples):
    """Also beyond the context, for prompts longer than it, and where a text ends early."""
    prompts = draw_prompts(1, 7, 2, 19, 20, 21, 45, 3, 3, 12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ContextWarning)
        together = dict(
            continue_all(prompts, encoder, params, N_HEAD, 30, n_samples, (), 5, n_rows, **sampling)
        )
        assert sorted(together) == list(range(len(prompts)))
        for place, prompt in enumerate(prompts):
            alone = continue_alone(prompt, params, 30, encoder.eot, n_samples, rng=5, **sampling)
            assert [sample.ids for sample in together[place]] == alone


def test_a_text_that_ends_early_makes_room_and_changes_no_other(params, encoder):
    """Stop texts end some, at different steps; what takes their rows is what it is alone."""
    prompts, sampling = draw_prompts(*range(1, 13)), dict(temperature=4.0)
    alone = [
        continue_alone(prompt, params, 9, encoder.eot, 1, rng=5, **sampling)[0]
        for prompt in prompts
    ]
    stops = [encoder.decode([alone[place][step]]) for place, step in [(0, 1), (4, 3), (7, 5)]]
    found = dict(continue_all(prompts, encoder, params, N_HEAD, 9, 1, stops, 5, 3, **sampling))
    assert len({len(samples[0].ids) for samples in found.values()}) > 2
    for place, ids in enumerate(alone):
        (sample,) = found[place]
        assert sample.ids == ids[: len(sample.ids)]
        assert sample.finish_reason == ("stop" if len(sample.ids) < 9 else "length")


def test_samples_of_a_prompt_end_each_on_its_own(params, encoder):
    """A text has ended when all its samples have."""
    (prompt,), sampling = draw_prompts(4), dict(temperature=4.0)
    alone = continue_alone(prompt, params, 9, encoder.eot, 3, rng=5, **sampling)
    stops = [encoder.decode([alone[0][2]]), encoder.decode([alone[1][5]])]
    ((_, samples),) = continue_all([prompt], encoder, params, N_HEAD, 9, 3, stops, 5, **sampling)
    lengths = [len(sample.ids) for sample in samples]
    assert lengths[0] == 3 and len(set(lengths)) > 1
    for sample, ids in zip(samples, alone, strict=True):
        assert sample.ids == ids[: len(sample.ids)]
        assert sample.finish_reason == ("stop" if len(sample.ids) < 9 else "length")


def test_log_probabilities_are_the_models_own(params, encoder):
    prompts = draw_prompts(4, 2)
    settings = dict(temperature=0.3, top_k=5)
    for place, (sample,) in continue_all(prompts, encoder, params, N_HEAD, 9, seed=2, **settings):
        prompt = prompts[place]
        exact = log_probs(prompt + sample.ids, params, N_HEAD)[len(prompt) - 1 :]
        assert len(sample.log_probs) == len(sample.ids) == 9
        assert np.allclose(sample.log_probs, exact, rtol=1e-9)


def test_no_tokens_are_no_work(encoder):
    found = list(continue_all([[1], [2, 3]], encoder, None, N_HEAD, 0, n_samples=2))
    assert [place for place, _ in found] == [0, 1]
    for _, samples in found:
        assert [(s.ids, s.text, s.finish_reason) for s in samples] == [([], "", "length")] * 2


def test_the_logits_of_rows_are_those_of_the_whole_texts(params):
    """While rows come and go."""
    prompts = draw_prompts(3, 9, 1)
    rows = Rows(params, N_HEAD, 3, 2, 20)
    rng = np.random.default_rng(0)
    texts = []
    for prompt in prompts:
        logits = rows.append(prompt)
        assert np.allclose(logits, gpt2(prompt, **params, n_head=N_HEAD)[-1], atol=1e-9)
        texts.append([prompt, prompt])
    for step in range(6):
        if step == 3:
            rows.remove(0)
            texts[0] = texts.pop()
        newest = rng.integers(0, N_VOCAB, (len(texts), 2))
        logits = rows.step(newest)
        for row, samples in enumerate(texts):
            for i in range(2):
                samples[i] = [*samples[i], int(newest[row, i])]
                exact = gpt2(samples[i], **params, n_head=N_HEAD)[-1]
                assert np.allclose(logits[row, i], exact, atol=1e-9)


def test_what_no_text_has_written_yet_cannot_matter(params, monkeypatch):
    """Fresh memory may hold NaN, which a weight of 0 does not take away."""
    from command_line import side_by_side

    def with_nan(*arguments):
        cache = new_cache(*arguments)
        for layer in cache:
            layer["k"][:], layer["v"][:] = np.nan, np.nan
        return cache

    new_cache = side_by_side.new_cache
    monkeypatch.setattr(side_by_side, "new_cache", with_nan)
    rows = Rows(params, N_HEAD, 2, 1, 20)
    for prompt in draw_prompts(2, 9):
        rows.append(prompt)
    assert np.all(np.isfinite(rows.step(np.array([[1], [2]]))))


def test_a_full_context_is_warned_of(params, encoder):
    with pytest.warns(ContextWarning, match="the context of 20 tokens is full"):
        list(continue_all(draw_prompts(18), encoder, params, N_HEAD, 9, temperature=0.0))
    with pytest.warns(ContextWarning):
        list(continue_all(draw_prompts(25), encoder, params, N_HEAD, 1, temperature=0.0))


@pytest.mark.parametrize("prompts", [(25, 30), (18, 19), (25, 18)])
def test_a_full_context_is_warned_of_once(params, encoder, prompts):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        list(continue_all(draw_prompts(*prompts), encoder, params, N_HEAD, 30, temperature=0.0))
    assert [warning.category for warning in caught] == [ContextWarning]


def test_something_can_be_done_between_two_steps(params, encoder):
    calls = []
    list(
        continue_all(
            draw_prompts(2), encoder, params, N_HEAD, 4, between_steps=lambda: calls.append(1)
        )
    )
    assert len(calls) == 4
