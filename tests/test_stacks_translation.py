"""Cross-attention, the decoder and the search for translations: against PyTorch, finite
differences, brute force, and what they must not depend on."""

import itertools

import numpy as np
import pytest

from gpt2_numpy import GPT2Error, attention, causal_mask, log_softmax
from helpers import assert_all_close, assert_close, assert_gradients, stacks_golden, stir
from look_inside import look
from stacks.encoder import encode_ids
from stacks.padding import PADDING, mask_from_ids, mask_from_lengths
from stacks.translation import (
    beam_search,
    cross_attention,
    cross_attention_vjp,
    decode_ids,
    decoder_block,
    decoder_block_vjp,
    init_transformer,
    join_heads,
    new_decoder_cache,
    project_memory,
    split_heads,
    transformer,
    transformer_loss_and_gradients,
    transformer_vjp,
    translate,
)

START, END = 1, 2
SOURCE = np.array([[5, 2, 9, 2, 3], [7, 7, PADDING, PADDING, PADDING]])
TARGET = np.array([[1, 4, 4, 8], [1, 6, PADDING, PADDING]])
ANSWERS = np.array([[4, 4, 8, 2], [6, 2, PADDING, PADDING]])


def make_params(dtype=np.float32, n_vocab=11, seed=0):
    return stir(init_transformer(n_vocab, n_embd=12, n_layer=2, rng=seed), dtype, seed)


def make_block(dtype=np.float32):
    return make_params(dtype)["decoder"]["blocks"][0]


def draw(*shape, dtype=np.float64, seed=1):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def test_cross_attention_and_its_gradients_equal_pytorchs():
    golden, params, gradients = stacks_golden("attention")
    x, memory, n_head = golden["x"], golden["memory"], int(golden["n_head"])
    mask = mask_from_lengths(golden["lengths"], memory.shape[1])
    y, seen = look(cross_attention, x, memory, **params, n_head=n_head, mask=mask)
    assert y.dtype == np.float32
    assert_close(y, golden["y"])
    assert_close(seen["attention"][0]["weights"], golden["weights"])
    paired, back = cross_attention_vjp(x, memory, **params, n_head=n_head, mask=mask)
    assert np.array_equal(paired, y)
    dx, d_memory, found = back(golden["dy"])
    assert_close(dx, golden["d_x"])
    assert_close(d_memory, golden["d_memory"])
    assert_all_close(found, gradients)


def test_a_decoder_block_and_its_gradients_equal_pytorchs():
    golden, params, gradients = stacks_golden("decoder")
    x, memory = golden["x"], golden["memory"]
    masks = {
        "mask": causal_mask(x.shape[1]),
        "memory_mask": mask_from_lengths(golden["lengths"], memory.shape[1]),
    }
    n_head = int(golden["n_head"])
    y = decoder_block(x, memory, **params, n_head=n_head, **masks)
    assert y.dtype == np.float32
    assert_close(y, golden["y"])
    paired, back = decoder_block_vjp(x, memory, **params, n_head=n_head, **masks)
    assert np.array_equal(paired, y)
    dx, d_memory, found = back(golden["dy"])
    assert_close(dx, golden["d_x"])
    assert_close(d_memory, golden["d_memory"])
    assert_all_close(found, gradients)


def test_the_whole_model_and_its_gradients_equal_pytorchs():
    golden, params, gradients = stacks_golden("transformer")
    source, ids, targets = golden["source"], golden["ids"], golden["targets"]
    n_head, mask = int(golden["n_head"]), mask_from_ids(source)
    logits = transformer(source, ids, **params, n_head=n_head, source_mask=mask)
    is_token = ids != PADDING
    assert_close(logits[is_token], golden["logits"][is_token])
    loss, found = transformer_loss_and_gradients(params, source, ids, targets, n_head)
    assert type(loss) is float and abs(loss - golden["loss"]) < 1e-5 * golden["loss"]
    assert_all_close(found, gradients)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize("masked", [False, True])
def test_cross_attention_back_is_the_product_with_the_jacobian(batch, masked):
    params = make_block(np.float64)["cross_attn"]
    x, memory, dy = draw(*batch, 4, 12), draw(*batch, 6, 12, seed=2), draw(*batch, 4, 12, seed=3)
    mask = mask_from_lengths(np.random.default_rng(4).integers(1, 7, batch), 6) if masked else None
    y, back = cross_attention_vjp(x, memory, **params, n_head=3, mask=mask)
    assert np.array_equal(y, cross_attention(x, memory, **params, n_head=3, mask=mask))
    dx, d_memory, gradients = back(dy)

    def loss():
        return np.sum(dy * cross_attention(x, memory, **params, n_head=3, mask=mask))

    arrays = {"x": x, "memory": memory, **params}
    assert_gradients(loss, arrays, {"x": dx, "memory": d_memory, **gradients})


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize("masked", [False, True])
def test_decoder_block_back_is_the_product_with_the_jacobian(batch, masked):
    params, masks = make_block(np.float64), {}
    x, memory, dy = draw(*batch, 4, 12), draw(*batch, 6, 12, seed=2), draw(*batch, 4, 12, seed=3)
    if masked:
        lengths = np.random.default_rng(4).integers(1, 7, batch)
        masks = {"mask": causal_mask(4), "memory_mask": mask_from_lengths(lengths, 6)}
    y, back = decoder_block_vjp(x, memory, **params, n_head=3, **masks)
    assert np.array_equal(y, decoder_block(x, memory, **params, n_head=3, **masks))
    dx, d_memory, gradients = back(dy)

    def loss():
        return np.sum(dy * decoder_block(x, memory, **params, n_head=3, **masks))

    arrays = {"x": x, "memory": memory, **params}
    assert_gradients(loss, arrays, {"x": dx, "memory": d_memory, **gradients})


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_every_parameter_against_finite_differences(dropout):
    params, batch = make_params(np.float64), (SOURCE, TARGET, ANSWERS)

    def loss():
        return transformer_loss_and_gradients(params, *batch, 3, dropout, rng=4)[0]

    gradients = transformer_loss_and_gradients(params, *batch, 3, dropout, rng=4)[1]
    assert_gradients(loss, params, gradients)


@pytest.mark.parametrize("place", [slice(None), 0, np.s_[:, None]])
def test_the_paired_forward_pass_gives_the_same_bits(place):
    params, source, target = make_params(), SOURCE[place], TARGET[place]
    settings = {"n_head": 3, "source_mask": mask_from_ids(source)}
    logits = transformer(source, target, **params, **settings)
    assert logits.shape == (*target.shape, 11) and logits.dtype == np.float32
    assert np.array_equal(transformer_vjp(source, target, **params, **settings)[0], logits)


def test_the_loss_is_the_mean_over_the_targets():
    params = make_params(np.float64)
    logits = transformer(SOURCE, TARGET, **params, n_head=3, source_mask=mask_from_ids(SOURCE))
    logs = log_softmax(logits)
    chosen = [logs[row, t, ANSWERS[row, t]] for row, t in np.argwhere(ANSWERS != PADDING)]
    loss, _ = transformer_loss_and_gradients(params, SOURCE, TARGET, ANSWERS, 3)
    assert len(chosen) == 6 and abs(loss + np.mean(chosen)) < 1e-12


def test_cross_attention_is_attention_from_one_sequence_to_the_other():
    """Head by head, with the matrices cut out by hand."""
    params, x, memory = make_block(np.float64)["cross_attn"], draw(4, 12), draw(6, 12, seed=2)
    c_q, c_kv, c_proj = params["c_q"], params["c_kv"], params["c_proj"]
    heads = []
    for head in range(3):
        of_q, of_v = slice(4 * head, 4 * head + 4), slice(12 + 4 * head, 16 + 4 * head)
        q = x @ c_q["w"][:, of_q] + c_q["b"][of_q]
        k = memory @ c_kv["w"][:, of_q] + c_kv["b"][of_q]
        v = memory @ c_kv["w"][:, of_v] + c_kv["b"][of_v]
        heads.append(attention(q, k, v))
    expected = np.concatenate(heads, axis=-1) @ c_proj["w"] + c_proj["b"]
    assert np.allclose(cross_attention(x, memory, **params, n_head=3), expected, atol=1e-12)


def test_heads_are_split_and_joined_again():
    x = draw(2, 5, 12)
    heads = split_heads(x, 3)
    assert heads.shape == (2, 3, 5, 4)
    assert np.array_equal(heads[1, 2, 4], x[1, 4, 8:])
    assert np.array_equal(join_heads(heads), x)


def test_keys_and_values_of_the_memory_can_be_computed_once():
    params, x, memory = make_block()["cross_attn"], draw(4, 12), draw(6, 12, seed=2)
    kv = project_memory(memory, params["c_kv"], 3)
    once = cross_attention(x, None, **params, n_head=3, kv=kv)
    assert np.array_equal(once, cross_attention(x, memory, **params, n_head=3))


def test_the_decoder_is_causal_and_sees_the_whole_source():
    params, source, target = make_params(np.float64), SOURCE[0], np.array([1, 4, 4, 8, 3])
    logits = transformer(source, target, **params, n_head=3)
    for place in range(5):
        changed = target.copy()
        changed[place] = 9
        moved = transformer(source, changed, **params, n_head=3) - logits
        assert np.all(moved[:place] == 0) and np.all(np.abs(moved[place:]).max(axis=-1) > 1e-3)
        changed = source.copy()
        changed[place] = 10
        moved = transformer(changed, target, **params, n_head=3) - logits
        assert np.all(np.abs(moved).max(axis=-1) > 1e-6)


def test_the_padding_of_a_source_and_of_a_target_changes_nothing():
    params = make_params(np.float64)
    settings = {"n_head": 3, "source_mask": mask_from_ids(SOURCE)}
    logits = transformer(SOURCE, TARGET, **params, **settings)
    alone = transformer(SOURCE[1, :2], TARGET[1, :2], **params, n_head=3)
    assert np.allclose(logits[1, :2], alone, atol=1e-12)
    other = np.where(SOURCE == PADDING, 8, SOURCE), np.where(TARGET == PADDING, 3, TARGET)
    found = transformer(*other, **params, **settings)
    assert np.array_equal(found[1, :2], logits[1, :2])
    without = transformer(other[0], TARGET, **params, n_head=3)  # the mask is what does it
    assert not np.allclose(without[1, :2], logits[1, :2], atol=1e-3)
    _, gradients = transformer_loss_and_gradients(params, SOURCE, TARGET, ANSWERS, 3)
    _, longer = transformer_loss_and_gradients(
        params, np.pad(SOURCE, ((0, 0), (0, 2)), constant_values=PADDING), TARGET, ANSWERS, 3
    )
    assert np.allclose(longer["wte"], gradients["wte"], atol=1e-12)


@pytest.mark.parametrize("pieces", [[1] * 6, [2, 4], [3, 1, 2], [6]])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_decoding_with_a_cache_equals_decoding_at_once(pieces, batch):
    params = make_params()
    source, mask = (SOURCE, mask_from_ids(SOURCE)) if batch else (SOURCE[0], None)
    target = np.random.default_rng(8).integers(0, 11, (*batch, 6))
    logits = transformer(source, target, **params, n_head=3, source_mask=mask)
    memory = encode_ids(source, params["wte"], **params["encoder"], n_head=3, mask=mask)
    cache = new_decoder_cache(memory, params, 3, n_positions=6, batch=batch)
    found = [
        decode_ids(
            piece, None, params["wte"], **params["decoder"], n_head=3, memory_mask=mask, cache=cache
        )
        for piece in np.split(target, np.cumsum(pieces)[:-1], axis=-1)
    ]
    assert_close(np.concatenate(found, axis=-2), logits)


def translate_slowly(source, params, n_tokens):
    """Without a cache, one source at a time."""
    ids = [START]
    while len(ids) <= n_tokens and (len(ids) == 1 or ids[-1] != END):
        logits = transformer(source, np.array(ids), **params, n_head=3)
        ids.append(int(logits[-1].argmax()))
    return ids[1:]


def find_ending_models():
    """Models, by their seeds, whose translations of SOURCE end at different lengths."""
    for seed in itertools.count():
        params = make_params(n_vocab=11, seed=seed)
        lengths = [len(translate_slowly(row[row >= 0], params, 9)) for row in SOURCE]
        if len(set(lengths)) > 1:
            yield params


def test_greedy_decoding_equals_decoding_without_a_cache():
    for params in itertools.islice(find_ending_models(), 5):
        found = translate(SOURCE, params, 3, START, END, n_tokens=9)
        slowly = [translate_slowly(row[row >= 0], params, 9) for row in SOURCE]
        assert found.shape == (2, max(map(len, slowly)))
        for row, ids, source in zip(found, slowly, SOURCE, strict=True):
            assert row.tolist() == ids + [PADDING] * (len(row) - len(ids))
            alone = translate(source[source >= 0], params, 3, START, END, n_tokens=9)
            assert alone.tolist() == ids
        nested = translate(SOURCE[:, None], params, 3, START, END, n_tokens=9)
        assert np.array_equal(nested[:, 0], found)


def test_beam_search_with_one_beam_is_greedy():
    for params in itertools.islice(find_ending_models(), 5):
        greedy = translate(SOURCE, params, 3, START, END, n_tokens=9)
        ids, totals = beam_search(SOURCE, params, 3, START, END, n_tokens=9, n_beams=1)
        assert ids.shape == (2, 1, greedy.shape[1]) and totals.shape == (2, 1)
        assert np.array_equal(ids[:, 0], greedy)


def every_target(source, params, n_vocab, n_tokens):
    """{ids: log-probability} of all targets that end, or are n_tokens long."""
    logs_of = {}
    for ids in itertools.product(range(n_vocab), repeat=n_tokens):
        n_found = ids.index(END) + 1 if END in ids else n_tokens
        target = np.array([START, *ids[: n_found - 1]])
        logs = log_softmax(transformer(source, target, **params, n_head=3))
        logs_of[ids[:n_found]] = sum(logs[t, ids[t]] for t in range(n_found))
    return logs_of


@pytest.mark.parametrize("seed", range(4))
def test_beam_search_with_enough_beams_finds_the_most_probable_targets(seed):
    params, n_vocab, n_tokens = make_params(np.float64, n_vocab=4, seed=seed), 4, 3
    source = np.array([[0, 3, 1, 0], [3, PADDING, PADDING, PADDING]])
    ids, totals = beam_search(source, params, 3, START, END, n_tokens, n_beams=40)
    for row, tokens, found in zip(source, ids, totals, strict=True):
        logs_of = every_target(row[row >= 0], params, n_vocab, n_tokens)
        assert len(logs_of) == 1 + 3 + 9 * 4
        exact = sorted(logs_of.values(), reverse=True)
        assert np.allclose(found[: len(exact)], exact, atol=1e-9)
        for beam, total in zip(tokens, found, strict=True):
            assert abs(logs_of[tuple(beam[beam >= 0].tolist())] - total) < 1e-9
        assert abs(sum(np.exp(found)) - 1) < 1e-9  # all of them together


def test_beams_stay_with_their_own_past_and_their_own_source():
    """Of few beams, each one's log-probability is that of its own tokens, after its own source."""
    better = 0
    for seed in range(8):
        params = make_params(np.float64, seed=seed)
        greedy = translate(SOURCE, params, 3, START, END, n_tokens=7)
        ids, totals = beam_search(SOURCE, params, 3, START, END, n_tokens=7, n_beams=3)
        assert np.all(np.diff(totals, axis=-1) <= 0)
        for source, beams, found, other in zip(SOURCE, ids, totals, greedy, strict=True):
            source = source[source >= 0]
            exact = [total_of(source, beam, params) for beam in beams]
            assert np.allclose(found, exact, atol=1e-9)
            better += exact[0] > total_of(source, other, params) + 1e-9
        alone, _ = beam_search(SOURCE[1, :2], params, 3, START, END, n_tokens=7, n_beams=3)
        n_found = alone.shape[-1]
        assert np.array_equal(ids[1, 0, :n_found], alone[0])
    assert better > 0  # else nothing was searched


def total_of(source, ids, params):
    """The log-probability of a target that may end in PADDING."""
    ids = ids[ids >= 0]
    logs = log_softmax(transformer(source, np.array([START, *ids[:-1]]), **params, n_head=3))
    return logs[np.arange(len(ids)), ids].sum()


def test_nothing_is_written_where_nothing_is_asked_for():
    params = make_params()
    assert translate(SOURCE, params, 3, START, END, n_tokens=0).shape == (2, 0)
    ids, totals = beam_search(SOURCE, params, 3, START, END, n_tokens=0, n_beams=2)
    assert ids.shape == (2, 2, 0) and totals.shape == (2, 2)


def test_what_makes_no_sense_is_refused():
    params = make_params()
    with pytest.raises(GPT2Error, match="not in the vocabulary"):
        translate([3, 11], params, 3, START, END, 5)
    with pytest.raises(GPT2Error, match="not in the vocabulary"):
        translate(SOURCE, params, 3, START, 11, 5)
    with pytest.raises(GPT2Error, match="nothing but padding"):
        beam_search([[1, 2], [PADDING, PADDING]], params, 3, START, END, 5, 2)
    with pytest.raises(GPT2Error, match="0 beams"):
        beam_search(SOURCE, params, 3, START, END, 5, 0)
    with pytest.raises(GPT2Error, match="not of one shape"):
        transformer_loss_and_gradients(params, SOURCE, TARGET, ANSWERS[:, :2], 3)
    with pytest.raises(GPT2Error, match="as many rows"):
        transformer_loss_and_gradients(params, SOURCE[:1], TARGET, ANSWERS, 3)
    params["wte"][:] = np.nan
    for search in (translate, beam_search):
        beams = {"n_beams": 2} if search is beam_search else {}
        with pytest.raises(GPT2Error, match="damaged"):
            search(SOURCE, params, 3, START, END, 5, **beams)
