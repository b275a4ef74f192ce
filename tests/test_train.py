"""The lesson: each part of training against PyTorch's, and the loop that joins them."""

import gc
import json
import math
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import train
from backward import loss_and_gradients
from gpt2_numpy import log_probs
from utils import leaves, load_encoder_hparams_and_params, shapes, tree_map

ROOT = Path(train.__file__).resolve().parent
FIXTURES = Path(__file__).parent / "fixtures"
SIZES = {"n_vocab": 61, "n_ctx": 20, "n_embd": 24, "n_head": 3, "n_layer": 2}


@pytest.fixture(autouse=True)
def no_thread_waits_for_ever(monkeypatch):
    """A thread that nobody meets at a barrier would keep this process from ending: it gives up
    after some seconds, and the test fails."""
    gave_up, aborted = [], []

    class Limited(threading.Barrier):
        def wait(self, timeout=10):
            try:
                return super().wait(timeout)
            except threading.BrokenBarrierError:
                gave_up.append(self)
                raise

        def abort(self):
            aborted.append(self)
            super().abort()

    monkeypatch.setattr(threading, "Barrier", Limited)
    yield
    assert set(gave_up) <= set(aborted)


def assert_same_bits(tree, other):
    for array, exact in zip(leaves(tree), leaves(other), strict=True):
        assert array.dtype == exact.dtype and np.array_equal(array, exact, equal_nan=True)


def test_learning_rates_clipping_and_adamw_equal_pytorchs():
    golden = np.load(FIXTURES / "optimiser.npz")
    n_steps, n_warmup, peak, final = golden["settings"]
    n_steps, n_warmup = int(n_steps), int(n_warmup)

    def nested(kind, step):
        arrays = {name: golden[f"{step}/{kind}/{name}"].copy() for name in ("wte", "wpe", "g")}
        return {
            "wte": arrays["wte"],
            "wpe": arrays["wpe"],
            "blocks": [],
            "ln_f": {"g": arrays["g"]},
        }

    params = nested("params", 0)
    moments = train.new_moments(params)
    for step in range(n_steps):
        rate = train.learning_rate(step, n_steps, peak, n_warmup, final)
        assert abs(rate - golden["rates"][step]) < 1e-12
        gradients = nested("gradients", step)
        norm = train.clip_gradients(gradients, 5.0)
        assert abs(norm - golden["norms"][step]) < 1e-5 * norm
        train.adamw(params, gradients, moments, step, rate, (0.8, 0.97), 1e-6, 0.2)
        for array, exact in zip(leaves(params), leaves(nested("params", step + 1)), strict=True):
            assert array.dtype == np.float32
            assert np.abs(array - exact).max() < 2e-6, step


def test_learning_rate_ends_where_it_should():
    assert train.learning_rate(0, 100, 1.0, 10, 0.0) == 0.1
    assert train.learning_rate(9, 100, 1.0, 10, 0.0) == 1.0
    assert train.learning_rate(10, 100, 1.0, 10, 0.0) == 1.0
    assert abs(train.learning_rate(100, 100, 1.0, 10, 0.2) - 0.2) < 1e-12
    assert train.learning_rate(0, 5, 1.0, 0, 0.0) == 1.0
    assert train.learning_rate(3, 4, 1.0, 4, 0.0) == 1.0  # all of it warm-up


def test_adamw_in_pieces_equals_adamw_on_the_whole():
    """Matrices are updated in groups of rows: no row may be left out or updated twice."""
    rng = np.random.default_rng(1)
    sizes = [(1000, 300), (3, 300), (100_000,), (70, 40, 50), (1, 90_000), (0, 5)]
    params = {"some": [rng.standard_normal(shape).astype(np.float32) for shape in sizes]}
    gradients = {"some": [rng.choice(np.float32([-1, 1]), shape) for shape in sizes]}
    before = tree_map(np.copy, params)
    train.adamw(params, gradients, train.new_moments(params), 0, 0.1, weight_decay=0.5)
    for array, start, gradient in zip(*map(leaves, (params, before, gradients)), strict=True):
        decayed = start * (0.95 if array.ndim > 1 else 1.0)
        expected = decayed - 0.1 * gradient  # the first step: m / sqrt(v) is the sign
        assert np.allclose(array, expected, rtol=0, atol=1e-5)


def test_matrices_are_cut_into_groups_that_fit_a_cache_and_share_their_memory():
    matrix = np.zeros((1000, 300), np.float32)
    groups = train.split_rows(matrix, matrix.copy())
    assert len(groups) == 5 and [len(group) for group in groups] == [2] * 5
    assert all(part.size <= 2**16 for group in groups for part in group)
    for part, _ in groups:
        part += 1
    assert np.all(matrix == 1)


def make_two_stacks(random_params):
    """A tree that is no GPT-2's: two stacks, one inside a list inside a dict."""
    return {
        "encoder": random_params(seed=1),
        "decoder": {"blocks": [random_params(seed=2)["blocks"], {"g": np.ones(3, np.float32)}]},
    }


def test_any_nesting_of_dicts_and_lists_is_clipped_and_updated(random_params):
    params, gradients = make_two_stacks(random_params), make_two_stacks(random_params)
    alone = tree_map(np.copy, params["decoder"]["blocks"][0])
    before = leaves(tree_map(np.copy, gradients))
    norm = train.clip_gradients(gradients, 0.5)
    assert math.isclose(norm, math.sqrt(sum(float((g * g).sum()) for g in before)), rel_tol=1e-5)
    for array, start in zip(leaves(gradients), before, strict=True):
        assert np.allclose(array, start * 0.5 / norm, rtol=1e-5)
    train.adamw(params, gradients, train.new_moments(params), 0, 0.1)
    clipped = gradients["decoder"]["blocks"][0]
    train.adamw(alone, clipped, train.new_moments(alone), 0, 0.1)
    assert_same_bits(params["decoder"]["blocks"][0], alone)


def make_block(square, wide, tall):
    """Matrices in the places that Muon looks for them in, beside parameters that it leaves alone.
    Of c_attn's three the lengths differ, which no orthogonal factor shows."""

    def linear(w):
        return {"w": w, "b": np.ones(w.shape[1], np.float32)}

    return {
        "ln_1": {"g": np.ones(2, np.float32), "b": np.ones(2, np.float32)},
        "attn": {
            "c_attn": linear(np.concatenate([square, 3 * square, 0.2 * square], axis=1)),
            "c_proj": linear(square.copy()),
        },
        "ln_2": {"g": np.ones(2, np.float32), "b": np.ones(2, np.float32)},
        "mlp": {"c_fc": linear(wide.copy()), "c_proj": linear(tall.copy())},
    }


def make_golden_tree(golden, place):
    """The tree around the matrices of the fixture muon.npz at this place in it."""
    names = ("square", "wide", "tall")
    blocks = [make_block(*(golden[f"{place}/{name}"] for name in names)) for _ in range(2)]
    ones = np.ones((4, 2), np.float32)
    return {"wte": ones, "wpe": ones.copy(), "blocks": blocks, "ln_f": {"g": ones[0].copy()}}


def test_muon_equals_pytorchs():
    golden = np.load(FIXTURES / "muon.npz")
    n_steps, lr, momentum, decay = golden["settings"].tolist()
    params = make_golden_tree(golden, "0/params")
    moments = train.new_moments(params)
    for step in range(int(n_steps)):
        gradients = make_golden_tree(golden, f"{step}/gradients")
        before = params["blocks"][1]["attn"]["c_attn"]["w"].copy()
        train.muon(
            params, gradients, moments, step, 1e-3, lr, momentum=momentum, weight_decay=decay
        )
        for block in params["blocks"]:
            found = [block["attn"]["c_proj"], block["mlp"]["c_fc"], block["mlp"]["c_proj"]]
            for linear, name in zip(found, ("square", "wide", "tall"), strict=True):
                w, exact = linear["w"], golden[f"{step + 1}/params/{name}"]
                assert w.dtype == np.float32
                assert np.abs(w - exact).max() < 3e-6, (step, name)
                if step + 1 == n_steps:
                    assert 3e-6 < np.abs(w - golden[f"bfloat16/{name}"]).max() < 4e-3
            moved = block["attn"]["c_attn"]["w"] - (1 - lr * decay) * before
            square = (
                golden[f"{step + 1}/params/square"]
                - (1 - lr * decay) * golden[f"{step}/params/square"]
            )
            for part in np.split(moved, 3, axis=1):  # for queries, for keys, for values
                assert np.abs(part - square).max() < 5e-6


@pytest.mark.parametrize("shape", [(9, 9), (5, 30), (30, 5), (1, 7), (7, 1)])
def test_orthogonalize_keeps_the_singular_vectors_and_evens_out_the_values(shape):
    matrix = np.random.default_rng(7).standard_normal(shape)
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    s = np.geomspace(1.0, 0.004, len(s))
    made = train.orthogonalize(u * s @ vt)
    diagonal = u.T @ made @ vt.T
    values = s / np.sqrt((s * s).sum())
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    assert np.abs(diagonal - np.diag(values)).max() < 1e-6
    assert np.abs(made - u * values @ vt).max() < 1e-6
    assert 0.68 < values.min() and values.max() < 1.21
    assert np.abs(made - u @ vt).max() < 0.32  # U Vᵀ itself, nearly
    longer = train.orthogonalize(1e6 * (u * s @ vt))
    assert np.abs(longer - made).max() < 1e-9  # the length is of no matter


def test_singular_values_end_where_it_is_said():
    """All that a matrix can have, as a diagonal: from 1/500 of its length up, and less below."""
    for part, low, high in [(1 / 500, 0.68, 1.21), (0.3, 0.68, 1.21), (1e-4, 0.0, 0.1)]:
        for small in np.geomspace(part, part / 2 if part < 1 / 500 else 0.7, 200):
            matrix = np.diag([math.sqrt(1 - small * small), small])
            assert low < train.orthogonalize(matrix)[1, 1] < high
    assert not train.orthogonalize(np.zeros((2, 3), np.float32)).any()  # and 0 stays


def test_muon_leaves_the_rest_to_adamw_and_nothing_out(random_params):
    params, gradients = random_params(seed=1), random_params(seed=2)
    before, other = tree_map(np.copy, params), tree_map(np.copy, params)
    moments, moments_of_other = train.new_moments(params), train.new_moments(params)
    for step in range(2):
        train.muon(params, gradients, moments, step, 0.1, 0.3, 0.9, (0.8, 0.97), 0.5)
        train.adamw(other, gradients, moments_of_other, step, 0.1, (0.8, 0.97), 1e-8, 0.5)

    def name_leaves(path, node):
        if isinstance(node, dict):
            return {key: name_leaves(f"{path}/{key}", child) for key, child in node.items()}
        if isinstance(node, list):
            return [name_leaves(f"{path}/{i}", child) for i, child in enumerate(node)]
        return path

    def check(path, array, start, by_adamw, v):
        is_hidden = "/blocks/" in path and path.endswith("/w")
        assert np.array_equal(array, by_adamw) != is_hidden, path
        assert np.abs(array - start).min() > 0 and array.dtype == start.dtype, path
        assert v.any() != is_hidden, path

    tree_map(check, name_leaves("", params), params, before, other, moments["v"])


def test_muon_computes_the_same_bits_on_any_number_of_threads(random_params):
    gradients, results = random_params(seed=2), []
    for n_threads in (1, 3):
        params = random_params(seed=1)
        moments = train.new_moments(params)
        with train.thread_map(n_threads) as workers:
            for step in range(2):
                train.muon(params, gradients, moments, step, 0.1, workers=workers)
        results.append({"params": params, **moments})
    assert_same_bits(*results)


def test_gradients_are_told_apart_by_their_names_not_by_their_order():
    params = {"g": np.zeros(2, np.float32), "b": np.zeros(2, np.float32)}
    gradients = {"b": np.full(2, -1, np.float32), "g": np.ones(2, np.float32)}
    train.adamw(params, gradients, train.new_moments(params), 0, 0.1)
    assert np.all(params["g"] < 0) and np.all(params["b"] > 0)


def test_muon_tells_gradients_apart_by_their_names_too(random_params):
    def reverse(node):
        if isinstance(node, dict):
            return {key: reverse(node[key]) for key in reversed(node)}
        return [reverse(child) for child in node] if isinstance(node, list) else node

    params, again, gradients = random_params(), random_params(), random_params(seed=2)
    train.muon(params, gradients, train.new_moments(params), 0, 0.1)
    train.muon(again, reverse(gradients), train.new_moments(again), 0, 0.1)
    assert_same_bits(params, again)


def test_gradients_that_are_short_enough_are_left_alone():
    gradients = {"w": np.float32([[3, 0], [0, 4]])}
    assert train.clip_gradients(gradients, 5.0) == 5.0
    assert gradients["w"].tolist() == [[3, 0], [0, 4]]


def test_moments_are_shaped_like_the_parameters(random_params):
    params = random_params()
    moments = train.new_moments(params)
    assert set(moments) == {"m", "v"}
    for tree in moments.values():
        tree_map(
            lambda array, p: np.testing.assert_array_equal(array, np.zeros_like(p)), tree, params
        )
        assert all(array.dtype == np.float32 for array in leaves(tree))
    moments["m"]["wte"] += 1
    assert not moments["v"]["wte"].any()


def test_initial_parameters_are_distributed_as_those_of_transformers():
    golden = np.load(FIXTURES / "optimiser.npz")
    sizes = {"n_vocab": 500, "n_ctx": 200, "n_embd": 128, "n_head": 4, "n_layer": 3}
    params = train.init_params(sizes, 0)

    def check(name, array):
        mean, std = golden[name]
        assert array.dtype == np.float32
        assert abs(array.std() - std) < 0.03 * std + 1e-12, name
        assert abs(array.mean() - mean) < 0.05 * std + 1e-12, name
        return name

    def names(scope, node):
        if isinstance(node, dict):
            return {key: names(f"{scope}/{key}", child) for key, child in node.items()}
        return scope

    by_name = names("init", {key: node for key, node in params.items() if key != "blocks"})
    by_name["blocks"] = [names(f"init/h{i}", block) for i, block in enumerate(params["blocks"])]
    checked = leaves(tree_map(check, by_name, params))
    assert set(checked) == {name for name in golden.files if name.startswith("init/")}


def test_initial_parameters_follow_from_the_sizes_and_the_seed():
    params = train.init_params(SIZES, 0)
    tree_map(
        lambda array, shape: np.testing.assert_equal(array.shape, shape), params, shapes(SIZES)
    )
    assert_same_bits(params, train.init_params(SIZES, np.random.default_rng(0)))
    assert not np.array_equal(params["wte"], train.init_params(SIZES, 1)["wte"])
    rng = np.random.default_rng(0)  # one draw for each matrix, in this order
    drawn = [params["wte"], params["wpe"]]
    for block in params["blocks"]:
        attn, mlp = block["attn"], block["mlp"]
        drawn += [attn["c_attn"]["w"], attn["c_proj"]["w"], mlp["c_fc"]["w"], mlp["c_proj"]["w"]]
    for i, array in enumerate(drawn):
        std = 0.01 if i in (3, 5, 7, 9) else 0.02
        assert np.array_equal(array, (std * rng.standard_normal(array.shape)).astype(np.float32))


def test_an_epoch_visits_every_window_once_and_the_next_cuts_elsewhere():
    ids, n_seq = np.arange(1003), 10
    n_windows, slack = train.count_windows(len(ids), n_seq)
    assert n_windows == 99 and slack == 12
    starts = []
    for step in range(66):
        inputs, targets = train.batch(ids, n_seq, 3, step, seed=4)
        assert inputs.shape == targets.shape == (3, n_seq)
        assert np.array_equal(targets, inputs + 1)  # the next id, here the number
        assert np.array_equal(inputs, inputs[:, :1] + np.arange(n_seq))
        starts += list(inputs[:, 0])
    first, second = starts[:99], starts[99:]
    for epoch in (first, second):
        assert np.array_equal(np.diff(np.sort(epoch)), np.full(98, n_seq))
    assert first != sorted(first)
    assert min(first) != min(second)
    assert starts[99:102] == list(train.batch(ids, n_seq, 3, 33, seed=4)[0][:, 0])


@pytest.mark.parametrize("n_ids", [11, 12, 20, 21, 25, 31])
def test_a_batch_never_leaves_a_short_text(n_ids):
    ids = np.arange(n_ids)
    seen = set()
    for step in range(60):
        inputs, targets = train.batch(ids, 10, 2, step, seed=0)
        assert np.array_equal(targets, inputs + 1)
        seen |= set(targets[:, -1])
    assert max(seen) == n_ids - 1  # the last token is a target, too


@pytest.mark.parametrize("n_ids", [0, 1, 9, 10])
def test_a_text_too_short_for_a_window_is_refused(n_ids):
    with pytest.raises(
        train.TrainError, match=f"^{n_ids} tokens are not enough for a window of 10"
    ):
        train.batch(np.arange(n_ids), 10, 2, 0, seed=0)


def test_a_shared_out_batch_gives_the_same_loss_and_gradients(random_params):
    params = random_params(dtype=np.float64)
    ids, targets = np.random.default_rng(2).integers(0, 61, (2, 7, 9))
    loss, gradients = loss_and_gradients(params, ids, targets, 3)
    with ThreadPoolExecutor(3) as pool:
        for n_micro, n_workers in [(1, 1), (2, 2), (3, 3), (7, 1), (7, 3), (1, 3)]:
            part, shared = train.share_out(
                params, ids, targets, 3, n_micro, workers=pool.map, n_workers=n_workers
            )
            assert abs(part - loss) < 1e-12
            for array, exact in zip(leaves(shared), leaves(gradients), strict=True):
                assert np.allclose(array, exact, rtol=1e-9, atol=1e-13)


def test_held_out_loss_is_each_tokens_given_those_before_it_in_its_window(random_params):
    params = random_params()
    ids = np.random.default_rng(3).integers(0, 61, 50)
    windows = [ids[start : start + 21] for start in range(0, 49, 20)]  # each with its last target
    expected = -sum(float(log_probs(window, params, 3).sum()) for window in windows)
    found = train.negative_log_likelihood(params, ids, 3, 20)
    assert abs(found - expected) < 1e-3 * found


def test_held_out_loss_of_the_reference_model_is_what_was_measured(shared):
    folder = shared("reference-model")
    encoder, hparams, params = load_encoder_hparams_and_params(str(folder))
    answers = json.loads((folder / "answers.json").read_text())
    text = shared("corpus/fairy_tales_val.txt").read_text("utf-8")
    ids = encoder.encode(text)
    assert len(ids) == answers["tokens_val"]
    nats = train.negative_log_likelihood(params, ids, hparams["n_head"], hparams["n_ctx"])
    assert math.isclose(nats / math.log(2) / len(text), answers["bits_per_byte_val"], abs_tol=1e-4)


def test_an_evaluation_is_broken_off_when_the_run_is_to_stop(random_params):
    stop = threading.Event()
    stop.set()
    ids = np.zeros(50, int)
    assert math.isnan(train.negative_log_likelihood(random_params(), ids, 3, 20, stop=stop))


@pytest.mark.parametrize("optimizer", [train.adamw, train.muon])
def test_one_batch_is_learned_by_heart(optimizer):
    sizes = {"n_vocab": 40, "n_ctx": 16, "n_embd": 32, "n_head": 4, "n_layer": 2}
    params = train.init_params(sizes, 0)
    moments = train.new_moments(params)
    ids, targets = np.random.default_rng(4).integers(0, 40, (2, 4, 16))
    ids[:, 0] = range(4)  # else two rows that begin alike could not both be learned
    first = None
    for step in range(150):
        loss, gradients = loss_and_gradients(params, ids, targets, 4)
        first = first or loss
        train.clip_gradients(gradients, 1.0)
        optimizer(params, gradients, moments, step, 1e-2, weight_decay=0.0)
    assert abs(first - math.log(40)) < 0.05  # at the start, every token is equally likely
    assert loss < 0.01


IDS = np.random.default_rng(5).integers(0, 61, 400)
SETTINGS = train.Settings(
    optimizer="muon",
    muon_lr=0.05,
    n_seq=10,
    batch_size=5,
    n_steps=6,
    lr=0.02,
    warmup=2,
    final_lr=1e-3,
    weight_decay=0.3,
    beta_1=0.8,
    beta_2=0.9,
    clip=0.5,
    dropout=0.2,
    seed=9,
    micro_batch=2,
    threads=2,
)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_loop_is_its_parts_joined_by_its_settings(optimizer):
    """By hand, with no setting at its default, the same weights come out."""
    params = train.init_params(SIZES, 9)
    moments = train.new_moments(params)
    rates = [
        0.01,
        0.02,
        0.02,
        *(1e-3 + 0.0095 * (1 + math.cos(math.pi * i / 4)) for i in (1, 2, 3)),
    ]
    told = []
    for step, rate in enumerate(rates):
        inputs, targets = train.batch(IDS, 10, 5, step, 9)
        losses, shares = [], []
        for starts in ([0, 4], [2]):  # what each of two threads does
            share = None
            for start in starts:
                rows = slice(start, start + 2)
                loss, part = loss_and_gradients(
                    params, inputs[rows], targets[rows], 3, 0.2, [9, step, start, 1], n_tokens=50
                )
                losses.append(loss)
                share = part if share is None else train.add_gradients(share, part)
            shares.append(share)
        gradients = train.add_gradients(*shares)
        norm = train.clip_gradients(gradients, 0.5)
        assert norm > 0.5
        if optimizer == "adamw":
            train.adamw(params, gradients, moments, step, rate, (0.8, 0.9), weight_decay=0.3)
        else:
            rates = (rate, 2.5 * rate)  # 0.02 and 0.05 at the peak
            train.muon(params, gradients, moments, step, *rates, betas=(0.8, 0.9), weight_decay=0.3)
        told.append((step + 1, sum(losses), norm, rate))
    ours = train.init_params(SIZES, 9)
    steps = list(train.train(ours, IDS, 3, replace(SETTINGS, optimizer=optimizer)))
    assert [step.number for step in steps] == [1, 2, 3, 4, 5, 6]
    assert np.allclose(steps, told, rtol=1e-5)
    for array, exact in zip(leaves(ours), leaves(params), strict=True):
        assert np.allclose(array, exact, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_that_goes_on_equals_one_that_was_never_stopped(optimizer):
    settings = replace(SETTINGS, optimizer=optimizer)
    whole, cut = train.init_params(SIZES, 0), train.init_params(SIZES, 0)
    told = list(train.train(whole, IDS, 3, settings))
    moments = train.new_moments(cut)
    first = train.train(cut, IDS, 3, settings, moments)
    again = [next(first), next(first)]
    again += train.train(cut, IDS, 3, settings, moments, first_step=2)
    assert again == told
    assert_same_bits(cut, whole)


def fail_to_start_after(n, monkeypatch):
    """Let n more threads be started, and none after them."""
    start, started = threading.Thread.start, []

    def start_some(thread):
        if len(started) == n:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_some)
    return started


@pytest.mark.parametrize("n", [0, 1])
def test_where_threads_cannot_be_started_one_computes_the_same(monkeypatch, n):
    alone, together = train.init_params(SIZES, 0), train.init_params(SIZES, 0)
    told = list(train.train(together, IDS, 3, SETTINGS))
    started = fail_to_start_after(n, monkeypatch)
    assert list(train.train(alone, IDS, 3, SETTINGS)) == told
    assert_same_bits(alone, together)
    for thread in started:  # none waits for one that was never started
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_one_thread_alone_needs_no_pool(monkeypatch):
    fail_to_start_after(0, monkeypatch)
    with train.thread_map(1) as workers:
        assert workers is map


def test_several_threads_work_at_once():
    both = threading.Barrier(2, timeout=10)
    with train.thread_map(2) as workers:
        assert sorted(workers(lambda _: both.wait(), range(2))) == [0, 1]


def test_what_breaks_off_a_step_waits_for_no_thread():
    release = threading.Event()

    def work(i):
        if i == 0:
            raise KeyboardInterrupt
        assert release.wait(timeout=10)

    try:
        with pytest.raises(KeyboardInterrupt), train.thread_map(2) as workers:
            list(workers(work, range(2)))
        assert not release.is_set()
        assert any(thread.name.startswith("ThreadPool") for thread in threading.enumerate())
    finally:
        release.set()


def test_a_step_is_taken_only_when_it_is_asked_for():
    params = train.init_params(SIZES, 0)
    steps = train.train(params, IDS, 3, SETTINGS)
    assert_same_bits(params, train.init_params(SIZES, 0))
    next(steps)
    assert not np.array_equal(params["wte"], train.init_params(SIZES, 0)["wte"])
    steps.close()


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_gradients_are_let_go_of_before_the_next_ones_are_computed(monkeypatch, optimizer):
    clip, seen = train.clip_gradients, []

    def watch(gradients, max_norm):
        seen.extend(map(weakref.ref, leaves(gradients)))
        return clip(gradients, max_norm)

    monkeypatch.setattr(train, "clip_gradients", watch)
    settings = replace(SETTINGS, optimizer=optimizer)
    steps = train.train(train.init_params(SIZES, 0), IDS, 3, settings)
    next(steps)
    gc.collect()
    assert seen and all(gradient() is None for gradient in seen)


@pytest.mark.parametrize("ruin", ["loss", "gradient"])
def test_a_step_whose_loss_or_gradient_is_no_number_changes_nothing(
    random_params, monkeypatch, ruin
):
    params = random_params()
    if ruin == "loss":
        params["wte"][3] = np.nan
    else:
        monkeypatch.setattr(train, "clip_gradients", lambda gradients, max_norm: math.inf)
    moments, before = train.new_moments(params), tree_map(np.copy, params)
    steps = train.train(params, np.arange(100) % 61, 3, SETTINGS, moments, first_step=4)
    value = {"loss": "nan", "gradient": "inf"}[ruin]
    with (
        np.errstate(all="ignore"),
        pytest.raises(train.DivergedError, match=f"^the {ruin} became {value} in step 5$"),
    ):
        next(steps)
    assert_same_bits(params, before)
    assert not any(array.any() for array in leaves(moments))


def test_the_readmes_training_loop_runs_and_learns():
    readme = (ROOT / "README.md").read_text("utf-8")
    code = readme.partition("From Python, a training loop")[2].split("```")[1]
    assert code.startswith("python\nfrom train import") and "train(" in code
    hparams = {"n_vocab": 20, "n_ctx": 64, "n_embd": 16, "n_head": 2, "n_layer": 1}
    names = {"hparams": hparams, "ids": np.tile(np.arange(20), 50)}
    exec(code.removeprefix("python\n").replace("lr=1e-3", "lr=1e-2"), names)
    assert names["step"].number == 100
    assert names["step"].loss < 1.0 < math.log(20)


def test_the_lesson_needs_nothing_but_the_model():
    import ast
    import sys

    tree = ast.parse((ROOT / "train.py").read_text("utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {getattr(node, "module", None) or node.names[0].name for node in imports}
    top = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names)
    assert top == {"numpy", "backward", "gpt2_numpy", "utils"}
