"""A forward pass recorded line by line: the numbers of `trace`, and the order of the lines."""

import ast
import sys

import numpy as np
import pytest

from explorer.source import statement_at, statements
from explorer.steps import record
from gpt2_numpy import GPT2Error, gpt2
from look_inside import trace


@pytest.fixture(scope="module")
def recorded(random_params):
    params, ids = random_params(), np.array([5, 3, 3, 60, 0, 17])
    logits, steps = record(gpt2, ids, **params, n_head=3)
    return params, ids, logits, steps


def test_where_a_function_returns_it_saw_what_trace_sees_to_the_same_bits(recorded):
    params, ids, logits, steps = recorded
    seen = trace(ids, params, n_head=3)
    assert np.array_equal(logits, seen["logits"])
    of = {name: [c for c in steps.calls if c.function == name] for name in ("attention", "gelu")}
    norms = [call for call in steps.calls if call.function == "layer_norm"]
    for layer, block in enumerate(seen["blocks"]):
        pairs = [(of["attention"][layer], block["attention"]), (of["gelu"][layer], block["gelu"])]
        pairs += [(norms[2 * layer], block["ln_1"]), (norms[2 * layer + 1], block["ln_2"])]
        for call, variables in pairs:
            assert np.array_equal(call.returned, variables["return"])
            for name, array in variables.items():
                if isinstance(array, np.ndarray) and name != "return":
                    assert np.array_equal(call.after[-1][name], array), name


def test_scores_before_the_mask_are_not_those_after_it(recorded):
    call = next(c for c in recorded[3].calls if c.function == "attention")
    first, second = [k for k, after in enumerate(call.after) if "scores" in after][:2]
    assert np.all(np.isfinite(call.after[first]["scores"]))
    masked = next(after["scores"] for after in call.after if "weights" in after)
    assert np.isinf(masked[0, 0, 1]) and first < second


def test_the_lines_are_in_the_order_in_which_they_run(recorded):
    steps = recorded[3]
    names = [call.function for call in steps.calls]
    block = "block layer_norm mha linear attention softmax linear layer_norm ffn linear gelu linear"
    assert names == ["gpt2", "embed", "causal_mask", *2 * block.split(), "layer_norm", "linear"]
    begun = [index for index, k in steps.order if k == 0]
    assert begun == list(range(len(names)))
    assert sorted(steps.order) == sorted(steps.ends)
    assert steps.ends[-1] == (0, len(steps.calls[0].lines) - 1)  # gpt2 ends last


def test_lines_that_did_not_run_are_not_there_and_a_loop_runs_for_every_layer(recorded):
    calls = recorded[3].calls
    ran = {c.function: c.lines for c in calls}
    shown = [ast.unparse(statements("mha")[line]) for line in ran["mha"]]
    assert "heads = attention(q, k, v, mask)" in shown
    assert not [line for line in shown if "remember" in line and not line.startswith("if")]
    loop = [line for line in ran["gpt2"] if ran["gpt2"].count(line) > 1]
    assert len(loop) == 3 + 2  # its head once more than its body


def test_a_statement_of_several_lines_is_one_step(monkeypatch, random_params):
    def on_one_line(function_name):
        places = statement_at(function_name)
        return dict.fromkeys(places, min(places)) if function_name == "gelu" else places

    monkeypatch.setattr("explorer.steps.statement_at", on_one_line)
    _, steps = record(gpt2, np.array([5, 3]), **random_params(), n_head=3)
    gelu = next(call for call in steps.calls if call.function == "gelu")
    assert len(gelu.lines) == len(gelu.before) == len(gelu.after) == 1
    assert {"x", "tanh"} <= gelu.after[0].keys() and "tanh" not in gelu.before[0]


def test_each_call_knows_the_line_that_called_it(recorded):
    calls = recorded[3].calls
    softmax = next(c for c in calls if c.function == "softmax")
    attention = calls[softmax.parent]
    line = attention.lines[softmax.parent_step]
    assert attention.function == "attention"
    assert statements("attention")[line].targets[0].id == "weights"


def test_whoever_traced_before_traces_again_also_after_an_error(random_params):
    def tracer(frame, event, argument):
        return None

    params, before = random_params(), sys.gettrace()
    sys.settrace(tracer)
    try:
        with pytest.raises(GPT2Error):
            record(gpt2, np.zeros(21, int), **params, n_head=3)
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)
