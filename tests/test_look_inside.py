"""Every variable of the forward pass by its own name, and nothing disturbed by looking."""

import bdb
import profile
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

import gpt2_numpy
from gpt2_numpy import GPT2Error, attention, block, causal_mask, ffn, gelu, gpt2, layer_norm, mha
from helpers import GOLDEN, assert_close, golden
from look_inside import LookError, look, trace

ROOT = Path(gpt2_numpy.__file__).parent


@pytest.mark.parametrize("name", GOLDEN)
def test_residual_stream_and_attention_weights_equal_those_of_transformers(name):
    answers, params, n_head = golden(name)
    seen = trace(answers["ids"], params, n_head)
    assert_close(seen["logits"], answers["logits"])
    assert len(seen["residual"]) == 2 * len(params["blocks"]) + 1
    for ours, exact in zip(seen["residual"][::2], answers["residual"], strict=True):
        assert_close(ours, exact)
    for layer, exact in zip(seen["blocks"], answers["weights"], strict=True):
        assert_close(layer["attention"]["weights"], exact)


def test_it_is_the_untouched_forward_pass(random_params):
    params, ids = random_params(), np.arange(5)
    assert np.array_equal(trace(ids, params, 3)["logits"], gpt2(ids, **params, n_head=3))


def test_each_layer_has_the_variables_of_its_functions(random_params):
    params, ids = random_params(), np.arange(5)
    seen = trace(ids, params, 3)
    x = params["wte"][ids] + params["wpe"][:5]
    for layer, parameters in zip(seen["blocks"], params["blocks"], strict=True):
        ln_1, ln_2 = (layer_norm(x, **parameters["ln_1"]), layer["ln_2"])
        assert np.array_equal(layer["ln_1"]["x"], x)
        assert np.array_equal(layer["ln_1"]["mean"], x.mean(-1, keepdims=True))
        assert np.allclose(layer["ln_1"]["variance"], x.var(-1, keepdims=True), atol=1e-5)
        assert np.allclose(layer["ln_1"]["normed"].mean(-1), 0, atol=1e-5)
        assert np.array_equal(layer["mha"]["x"], ln_1)
        q, k, v, scores, weights = (
            layer["attention"][name] for name in ("q", "k", "v", "scores", "weights")
        )
        assert q.shape == k.shape == v.shape == (3, 5, 8)
        assert np.array_equal(np.isinf(scores[0]), np.triu(np.ones((5, 5), bool), 1))
        exact = attention(q, k, v, causal_mask(5))
        assert np.array_equal(layer["attention"]["return"], exact)
        assert np.array_equal(layer["softmax"]["return"], weights)
        assert np.array_equal(layer["mha"]["heads"], np.concatenate(list(exact), axis=-1))
        x = x + mha(ln_1, **parameters["attn"], n_head=3, mask=causal_mask(5))
        assert np.array_equal(ln_2["x"], x)
        assert np.array_equal(gelu(layer["gelu"]["x"]), layer["ffn"]["activation"])
        assert layer["gelu"]["tanh"].shape == (5, 96)
        assert np.array_equal(layer["ffn"]["x"], ln_2["return"])
        x = x + ffn(ln_2["return"], **parameters["mlp"])
        assert np.array_equal(layer["block"]["x"], x)
    assert np.array_equal(seen["ln_f"]["x"], x)
    assert np.array_equal(seen["gpt2"]["mask"], causal_mask(5)) and seen["gpt2"]["n_head"] == 3
    assert np.array_equal(seen["embed"]["return"], seen["residual"][0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_array_on_the_way_has_the_parameters_dtype(random_params, dtype):
    _, seen = look(gpt2, np.arange(6), **random_params(dtype=dtype), n_head=3)
    arrays = {
        f"{function}/{name}": value
        for function, calls in seen.items()
        for variables in calls
        for name, value in variables.items()
        if isinstance(value, np.ndarray) and value.dtype.kind == "f"
    }
    assert len(arrays) > 30
    assert {name: array.dtype for name, array in arrays.items() if array.dtype != dtype} == {}


def test_only_the_names_that_are_asked_for_are_kept(random_params):
    seen = trace(np.arange(5), random_params(), 3, names={"weights", "x"})
    assert list(seen["blocks"][0]["attention"]) == ["weights"]
    assert list(seen["ln_f"]) == ["x"] and seen["gpt2"].keys() == {"x"}
    assert len(seen["residual"]) == 5
    assert trace(np.arange(5), random_params(), 3, names={"weights"})["residual"] == []


def test_any_use_of_the_functions_can_be_looked_into(random_params):
    params = random_params()
    x = params["wpe"][:5]
    y, seen = look(block, x, **params["blocks"][0], n_head=3)
    assert np.array_equal(y, block(x, **params["blocks"][0], n_head=3))
    assert [list(seen), len(seen["layer_norm"])] == [
        ["layer_norm", "linear", "softmax", "attention", "mha", "gelu", "ffn", "block"],
        2,
    ]
    assert np.array_equal(seen["layer_norm"][1]["x"], x + seen["mha"][0]["return"])
    assert seen["attention"][0]["mask"] is None


def encoder_stack(x, blocks, n_head):
    """An encoder of this file: no mask, and a variable of its own in each layer."""
    for parameters in blocks:
        before = x
        x = block(x, **parameters, n_head=n_head)
    return layer_norm(x - before, 1.0, 0.0)


def test_a_stack_of_ones_own_shows_its_variables_beside_the_models(random_params):
    params = random_params()
    y, seen = look(encoder_stack, params["wpe"][:7], params["blocks"], 3)
    assert len(seen["attention"]) == 2 and len(seen["layer_norm"]) == 5
    assert not np.isinf(seen["attention"][1]["scores"]).any()
    (stack,) = seen["encoder_stack"]
    assert np.array_equal(stack["return"], y)
    assert np.array_equal(stack["before"], seen["block"][0]["return"])


def test_methods_have_their_class_before_them_and_parts_of_functions_are_not_listed(random_params):
    params = random_params()
    ids, seen = look(lambda: list(gpt2_numpy.generate([1, 2], params, 3, 4)))
    assert len(ids) == len(seen["Context.read"]) == len(seen["gpt2"]) == 4
    assert not [name for name in seen if "steps" in name or "<" in name]


def test_inside_another_look_both_see_everything(random_params):
    params, ids = random_params(), np.arange(5)

    def both():
        return trace(ids, params, 3), gpt2(ids, **params, n_head=3)

    (inner, logits), outer = look(both)
    assert np.array_equal(inner["logits"], logits)
    assert len(outer["attention"]) == 4 and len(inner["blocks"]) == 2
    for layer, calls in zip(inner["blocks"], outer["attention"], strict=False):
        assert layer["attention"]["weights"] is calls["weights"]


def test_each_thread_sees_its_own_calls(random_params):
    params, seen, barrier = random_params(), {}, threading.Barrier(4)

    def run(i):
        barrier.wait()
        for _ in range(20):
            seen[i] = trace(np.full(3 + i, i), params, 3)
            gpt2(np.arange(9), **params, n_head=3)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sys.getprofile() is None
    for i in range(4):
        assert [len(layer["ln_1"]["x"]) for layer in seen[i]["blocks"]] == [3 + i] * 2
        assert len(seen[i]["blocks"]) == 2 and len(seen[i]["residual"]) == 5


def test_another_hook_goes_on_seeing_everything_and_is_there_again_afterwards(random_params):
    params, calls = random_params(), []

    def hook(frame, event, argument):
        calls.append((event, frame.f_code.co_name))

    sys.setprofile(hook)
    try:
        trace(np.arange(5), params, 3)
        assert sys.getprofile() is hook
        with pytest.raises(GPT2Error):
            trace(np.zeros(21, int), params, 3)
        assert sys.getprofile() is hook
    finally:
        sys.setprofile(None)
    assert calls.count(("return", "attention")) == calls.count(("call", "attention")) == 2


@pytest.mark.parametrize("ids, message", [(np.zeros(21, int), "21 pos"), ([-1], "-1 is not in")])
def test_after_an_error_there_is_no_hook(random_params, ids, message):
    with pytest.raises(GPT2Error, match=message):
        trace(ids, random_params(), 3)
    assert sys.getprofile() is None


def test_an_interrupt_leaves_no_hook(random_params, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(gpt2_numpy, "gelu", interrupt)
    with pytest.raises(KeyboardInterrupt):
        trace(np.arange(3), random_params(), 3)
    assert sys.getprofile() is None


def test_a_hook_that_was_set_meanwhile_is_a_clear_error(random_params, monkeypatch):
    """What it would have hidden is not handed out as if it were everything."""

    def start_profiler(x):
        sys.setprofile(lambda *event: None)
        return gelu(x)

    monkeypatch.setattr(gpt2_numpy, "gelu", start_profiler)
    with pytest.raises(LookError, match="started while looking"):
        trace(np.arange(3), random_params(), 3)
    assert sys.getprofile() is None


def test_under_pythons_profile_the_profile_is_whole(random_params):
    params = random_params()
    profiler = profile.Profile()
    seen = profiler.runcall(trace, np.arange(5), params, 3)
    assert len(seen["blocks"]) == 2
    profiler.create_stats()
    counts = {name: calls for (_, _, name), (calls, *_) in profiler.stats.items()}
    assert counts["attention"] == 2 and counts["layer_norm"] == 5


def test_inside_a_debugger(random_params):
    params, lines = random_params(), []

    class Debugger(bdb.Bdb):
        def user_line(self, frame):
            lines.append(frame.f_code.co_name)
            self.set_step()

    names = {"trace": trace, "ids": np.arange(5), "params": params}
    Debugger().run("seen = trace(ids, params, 3)", names)
    assert len(names["seen"]["blocks"]) == 2 and "layer_norm" in lines
    assert sys.getprofile() is None


PROGRAM = """
import sys
import numpy as np
from look_inside import LookError, trace
from utils import shapes, tree_map
hparams = dict(n_vocab=7, n_ctx=5, n_embd=4, n_head=2, n_layer=2)
params = tree_map(lambda shape: np.ones(shape, np.float32), shapes(hparams))
"""


def run_program(program):
    """The words that it prints, in a process of its own, after PROGRAM."""
    program = PROGRAM + textwrap.dedent(program)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_under_cprofile_it_works_or_says_that_it_cannot():
    """Before Python 3.12 cProfile has the only hook that there is."""
    words = run_program("""
        import cProfile, pstats
        profiler = cProfile.Profile()
        profiler.enable()
        try:
            print(len(trace([1, 2], params, 2)["blocks"]))
        except LookError as error:
            print("Profile" in str(error))
        "a call after it".strip()
        profiler.disable()
        stats = pstats.Stats(profiler).stats
        counts = {name: n for (_, _, name), (n, *_) in stats.items()}
        print(counts.get("trace"), counts.get("attention"))
        print(sum(n for name, n in counts.items() if "strip" in name))
        print(len(trace([1, 2], params, 2)["blocks"]), sys.getprofile())
    """)
    together = ["2", "1", "2"] if sys.version_info >= (3, 12) else ["True", "1", "None"]
    assert words == [*together, "1", "2", "None"]


def test_under_coverage_it_works_and_so_does_coverage(tmp_path):
    pytest.importorskip("coverage", reason="needs coverage, which is not among the requirements")
    words = run_program(f"""
        import coverage, gpt2_numpy
        path = gpt2_numpy.__file__
        measured = coverage.Coverage(data_file={str(tmp_path / "data")!r}, include=[path])
        measured.start()
        print(len(trace([1, 2], params, 2)["blocks"]))
        measured.stop()
        _, lines, _, missing, _ = measured.analysis2(path)
        print(0 < len(missing) < len(lines))
    """)
    assert words == ["2", "True"]
