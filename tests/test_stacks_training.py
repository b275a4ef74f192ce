"""What all stacks share: padding, parameters to begin with, and one training loop."""

import functools
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest

import train
from backward import loss_and_gradients
from gpt2_numpy import GPT2Error
from helpers import assert_gradients, stir
from stacks.encoder import encoder_only_loss_and_gradients, init_encoder_only
from stacks.initialisation import block_shapes, draw_params
from stacks.padding import (
    PADDING,
    check_padded_ids,
    mask_from_ids,
    mask_from_lengths,
    pad,
    padded_cross_entropy,
)
from stacks.recurrent import init_lstm, lstm_loss_and_gradients
from stacks.training import batches_of, gpt2_loss_and_gradients, train_any
from stacks.translation import init_transformer, transformer_loss_and_gradients
from stacks.vision import init_vit, vit_loss_and_gradients
from utils import leaves, shapes, tree_map

HPARAMS = {"n_vocab": 11, "n_ctx": 12, "n_embd": 12, "n_head": 3, "n_layer": 2}
N_EXAMPLES = 10
RNG = np.random.default_rng(0)
SEQUENCES = [RNG.integers(3, 11, 2 + i % 4) for i in range(N_EXAMPLES)]
SOURCE = pad(SEQUENCES)
IDS = pad([[1, *sequence[::-1]] for sequence in SEQUENCES])
TARGETS = pad([[*sequence[::-1], 2] for sequence in SEQUENCES])
TEXTS = pad([[*sequence, 1, *sequence[::-1]] for sequence in SEQUENCES])
AFTER = pad([[PADDING] * len(sequence) + [*sequence[::-1], 2] for sequence in SEQUENCES])
IMAGES = RNG.standard_normal((N_EXAMPLES, 4, 6)).astype(np.float32)
LABELS = np.arange(N_EXAMPLES) % 5

# Of each model: how its parameters begin, its loss, and all examples.
MODELS = {
    "encoder": (
        lambda std=0.02: init_encoder_only(11, 12, 2, 0, std),
        functools.partial(encoder_only_loss_and_gradients, n_head=3),
        (SOURCE, SOURCE),
    ),
    "transformer": (
        lambda std=0.02: init_transformer(11, 12, 2, 0, std),
        functools.partial(transformer_loss_and_gradients, n_head=3),
        (SOURCE, IDS, TARGETS),
    ),
    "vit": (
        lambda std=0.02: init_vit(6, 4, 12, 2, 5, 0, std),
        functools.partial(vit_loss_and_gradients, n_head=3, patch_size=2),
        (IMAGES, LABELS),
    ),
    "lstm": (
        lambda std=0.02: init_lstm(11, 12, 2, 0, std),
        lstm_loss_and_gradients,
        (TEXTS, AFTER),
    ),
    "gpt2": (
        lambda std=0.02: train.init_params(HPARAMS, 0),
        functools.partial(gpt2_loss_and_gradients, n_head=3),
        (TEXTS, AFTER),
    ),
}


def test_sequences_are_filled_up_and_their_padding_is_masked():
    ids = pad([[5, 6, 7], [8], np.array([9, 9])])
    assert ids.tolist() == [[5, 6, 7], [8, PADDING, PADDING], [9, 9, PADDING]]
    mask = mask_from_ids(ids)
    assert mask.shape == (3, 1, 1, 3)
    assert mask[:, 0, 0].tolist() == [[True] * 3, [True, False, False], [True, True, False]]
    assert np.array_equal(mask_from_lengths([3, 1, 2], 3), mask)
    assert np.array_equal(mask_from_ids(np.where(ids == PADDING, 0, ids), padding=0), mask)
    assert mask_from_lengths(2, 3).shape == mask_from_ids([4, 4, PADDING]).shape == (1, 1, 3)


def test_rows_of_padding_alone_are_refused():
    with pytest.raises(GPT2Error, match="nothing but padding"):
        mask_from_ids([[1, 2], [PADDING, PADDING]])
    for length in (0, 4):
        with pytest.raises(GPT2Error, match="1 to 3"):
            mask_from_lengths([2, length], 3)


def test_padded_ids_are_checked_and_copied():
    ids = np.array([[1, PADDING], [10, 0]], np.int32)
    checked = check_padded_ids(ids, {"wte": np.zeros((11, 2))})
    assert np.array_equal(checked, ids) and checked is not ids
    for wrong in ([-2], [11], [1.5], []):
        with pytest.raises(GPT2Error):
            check_padded_ids(wrong, {"wte": np.zeros((11, 2))})


def test_padding_among_the_targets_is_not_asked_for():
    logits = RNG.standard_normal((2, 3, 5))
    targets = np.array([[4, PADDING, 0], [PADDING, PADDING, 1]])
    loss, gradient = padded_cross_entropy(logits, targets)
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    assert abs(loss + np.log(p[0, 0, 4] * p[0, 2, 0] * p[1, 2, 1]) / 3) < 1e-12
    assert np.all(gradient[targets == PADDING] == 0)
    assert_gradients(
        lambda: padded_cross_entropy(logits, targets)[0], {"logits": logits}, {"logits": gradient}
    )
    half, _ = padded_cross_entropy(logits, targets, n_tokens=6)
    assert abs(half - loss / 2) < 1e-12
    nothing, gradient = padded_cross_entropy(logits[0, 1:2], targets[0, 1:2], n_tokens=6)
    assert nothing == 0 and not gradient.any()  # such a part of a batch adds nothing


def test_gpt2_without_padding_is_gpt2():
    params = stir(train.init_params(HPARAMS, 0), np.float64)
    ids, targets = RNG.integers(0, 11, (2, 3, 6))
    for ours, exact in zip(
        gpt2_loss_and_gradients(params, ids, targets, 3, 0.1, 5),
        loss_and_gradients(params, ids, targets, 3, 0.1, 5),
        strict=True,
    ):
        for array, other in zip(leaves(ours), leaves(exact), strict=True):
            assert np.allclose(array, other, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", sorted(MODELS.keys() - {"vit"}))
def test_padding_at_the_end_of_a_batch_changes_no_gradient(name):
    init, objective, examples = MODELS[name]
    params = stir(init(), np.float64)
    loss, gradients = objective(params, *examples)
    wider = [np.pad(array, ((0, 0), (0, 1)), constant_values=PADDING) for array in examples]
    same, found = objective(params, *wider)
    assert abs(same - loss) < 1e-12
    tree_map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), found, gradients)


@pytest.mark.parametrize("name", MODELS)
def test_float32_stays_float32_and_nothing_given_is_changed(name):
    init, objective, examples = MODELS[name]
    params, kept = init(), [array.copy() for array in examples]
    for array in (*leaves(params), *examples):
        array.flags.writeable = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            _, gradients = objective(params, *examples, dropout=0.1, rng=0)
        assert {array.dtype for array in leaves(gradients)} == {np.dtype(np.float32)}
        tree_map(lambda g, p: np.testing.assert_equal(g.shape, p.shape), gradients, params)
        assert all(map(np.array_equal, examples, kept))
    finally:
        for array in examples:
            array.flags.writeable = True


@pytest.mark.parametrize("name", MODELS)
def test_dropout_is_drawn_by_its_own_generator(name):
    init, objective, examples = MODELS[name]
    losses = [objective(init(None), *examples, dropout=0.5, rng=seed)[0] for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_a_block_has_the_shapes_of_gpt2s():
    assert block_shapes(12) == shapes(HPARAMS)["blocks"][0]


@pytest.mark.parametrize("std", [0.02, None])
def test_parameters_begin_as_gpt2s_or_as_wide_as_their_inputs_are_many(std):
    params = init_transformer(n_vocab=400, n_embd=64, n_layer=3, rng=0, std=std)
    for stack, n_sums in (("encoder", 6), ("decoder", 9)):
        for block in params[stack]["blocks"]:
            for sublayer in (block["attn"], block["mlp"], block.get("cross_attn", {})):
                for name, linear in sublayer.items():
                    w, b = linear["w"], linear["b"]
                    expected = std or 1 / math.sqrt(w.shape[0])
                    if name == "c_proj":
                        expected /= math.sqrt(n_sums)
                    assert abs(w.std() - expected) < 0.05 * expected, name
                    assert w.dtype == b.dtype == np.float32 and not b.any()
            assert np.all(block["ln_2"]["g"] == 1) and not block["ln_2"]["b"].any()
    assert abs(params["wte"].std() - (std or 1 / 8)) < 0.03 * (std or 1 / 8)
    again = init_transformer(400, 64, 3, np.random.default_rng(0), std)
    assert all(map(np.array_equal, leaves(params), leaves(again)))


def test_gpt2s_own_start_is_the_same():
    theirs = train.init_params(HPARAMS, 0)
    ours = draw_params(shapes(HPARAMS), np.random.default_rng(0), n_sums=4)
    for array, exact in zip(leaves(ours), leaves(theirs), strict=True):
        assert np.allclose(array, exact, rtol=1e-6) and array.dtype == exact.dtype


def test_every_epoch_goes_through_all_examples_in_another_order():
    numbers = np.arange(7)
    rows_of = batches_of((numbers, -numbers), n_batch=3, seed=5)
    seen = []
    for step in range(14):  # six epochs
        batch, negative = rows_of(step)
        assert np.array_equal(batch, -negative) and len(batch) == 3
        seen += batch.tolist()
    epochs = [seen[7 * i : 7 * i + 7] for i in range(6)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 6
    assert rows_of(4)[0].tolist() == seen[12:15]  # whenever it is asked for
    assert batches_of((numbers,), 20, 5)(0)[0].tolist() == seen[:20]
    assert batches_of((numbers,), 20, 6)(0)[0].tolist() != seen[:20]
    for wrong in ((numbers, numbers[1:]), (numbers[:0],)):
        with pytest.raises(train.TrainError):
            batches_of(wrong, 3, 5)


SETTINGS = train.Settings(n_steps=6, lr=0.01, warmup=2, micro_batch=3, threads=2, seed=9)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_each_model_learns_its_few_examples_by_heart(name, optimizer):
    init, objective, examples = MODELS[name]
    params = init(None)
    batches = batches_of(examples, n_batch=10, seed=0)
    n_steps = 250 if name == "lstm" else 120
    settings = replace(
        SETTINGS, optimizer=optimizer, lr=0.02, weight_decay=0.0, n_steps=n_steps, micro_batch=10
    )
    log = list(train_any(params, objective, batches, settings))
    assert [step.number for step in log] == list(range(1, n_steps + 1))
    assert log[0].loss > 1 and log[-1].loss < 0.1
    assert abs(objective(params, *examples)[0] - log[-1].loss) < 0.05


@pytest.mark.parametrize("name", MODELS)
def test_parts_of_a_batch_add_up_to_the_whole(name):
    init, objective, examples = MODELS[name]
    batches, results = batches_of(examples, n_batch=8, seed=0), []
    for n_micro, n_threads in [(8, 1), (1, 1), (3, 2)]:
        params = stir(init(), np.float64)
        settings = replace(SETTINGS, micro_batch=n_micro, threads=n_threads)
        log = list(train_any(params, objective, batches, settings))
        results.append(([step.loss for step in log], leaves(params)))
    for losses, arrays in results[1:]:
        assert np.allclose(losses, results[0][0], rtol=1e-9)
        for array, exact in zip(arrays, results[0][1], strict=True):
            assert np.allclose(array, exact, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_that_goes_on_equals_one_that_was_never_stopped(optimizer):
    init, objective, examples = MODELS["transformer"]
    objective = functools.partial(objective, dropout=0.1)
    settings, batches = replace(SETTINGS, optimizer=optimizer), batches_of(examples, 5, seed=0)
    whole, cut = init(), init()
    told = list(train_any(whole, objective, batches, settings))
    moments = train.new_moments(cut)
    first = train_any(cut, objective, batches, settings, moments)
    again = [next(first), next(first)]
    again += train_any(cut, objective, batches, settings, moments, first_step=2)
    assert again == told
    assert all(map(np.array_equal, leaves(cut), leaves(whole)))
    other = list(train_any(init(), objective, batches, replace(settings, seed=10)))
    assert other != told


def test_it_is_the_loop_that_trains_gpt2():
    """With GPT-2's own batches and loss, the same bits come out."""
    text = np.random.default_rng(3).integers(0, 11, 200)
    settings = replace(SETTINGS, n_seq=6, batch_size=5, dropout=0.1)
    theirs, ours = train.init_params(HPARAMS, 0), train.init_params(HPARAMS, 0)
    told = list(train.train(theirs, text, 3, settings))
    objective = functools.partial(loss_and_gradients, n_head=3, dropout=0.1)
    found = train_any(ours, objective, lambda step: train.batch(text, 6, 5, step, 9), settings)
    assert list(found) == told
    assert all(map(np.array_equal, leaves(ours), leaves(theirs)))


def test_a_batch_without_a_target_is_refused():
    init, objective, (ids, targets) = MODELS["lstm"]
    nothing = np.full_like(targets, PADDING)
    steps = train_any(init(), objective, batches_of((ids, nothing), 4, 0), SETTINGS)
    with pytest.raises(GPT2Error, match="nothing to learn"):
        next(steps)


def test_muon_finds_the_matrices_inside_the_blocks_of_every_stack():
    for name, n_hidden in {"transformer": 2 * 6 + 2 * 10, "vit": 2 * 6, "lstm": 2 * 8}.items():
        params = MODELS[name][0]()
        hidden, rest = train.split_hidden(params)
        assert len(hidden) == n_hidden and all(matrix.ndim == 2 for matrix in hidden)
        assert {matrix.shape for matrix in hidden} <= {(12, 12), (12, 48), (48, 12)}
        n_numbers = sum(array.size for array in leaves(params))
        assert sum(array.size for array in (*hidden, *rest)) == n_numbers
        assert all(any(np.shares_memory(part, p) for p in leaves(params)) for part in hidden)
