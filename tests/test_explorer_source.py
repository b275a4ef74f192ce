"""The source that the explorer shows: the file as it stands, and what in it can be opened."""

import ast

from explorer.source import (
    PATH,
    describe,
    list_locals,
    model_calls,
    name_call,
    occurrences,
    read_functions,
    statement_at,
    statements,
)

LINES = PATH.read_text("utf-8").splitlines()


def line_of(text):
    """The number of the one line that has this text."""
    (number,) = [i for i, line in enumerate(LINES, 1) if text in line]
    return number


def test_the_functions_are_those_of_the_forward_pass_in_the_order_of_the_file():
    names = "gelu softmax layer_norm linear attention causal_mask mha ffn block embed gpt2"
    assert list(read_functions()) == names.split()


def test_every_line_is_shown_as_it_stands_in_the_file():
    described = describe()
    for function in described["functions"]:
        for number in range(function["first"], function["last"] + 1):
            shown = "".join(word[0] for word in described["lines"][number])
            assert shown == LINES[number - 1], number


def test_comments_behind_a_function_belong_to_it_and_docstrings_are_known():
    functions = {f["name"]: f for f in describe()["functions"]}
    assert functions["linear"]["last"] == line_of("few: one by one, two samples of 124M")
    first, last = functions["layer_norm"]["docstring"]
    assert "Each position on its own" in LINES[first - 1] and "1607.06450" in LINES[last - 1]
    assert functions["causal_mask"]["docstring"] is not None


def test_every_occurrence_points_at_its_name():
    n = 0
    for function in read_functions():
        for line, column, name, _, _ in occurrences(function):
            assert LINES[line - 1][column:].startswith(name)
            n += 1
    assert n > 150


def test_a_name_that_is_assigned_means_what_comes_after_and_one_that_is_read_what_was_before():
    line = line_of("scores = np.where(mask, scores, -np.inf)")
    found = [
        (name, is_after) for at, _, name, _, is_after in occurrences("attention") if at == line
    ]
    assert found == [("scores", True), ("mask", False), ("scores", False)]


def test_what_is_no_variable_of_the_function_cannot_be_opened():
    assert "i" not in list_locals(read_functions()["mha"])  # of the generator in it
    names = {name for function in read_functions() for _, _, name, _, _ in occurrences(function)}
    assert not names & {"np", "math", "softmax", "GPT2Error", "optimize", "axis"}
    assert {"q", "qkv", "scores", "variance", "return", "ln_1", "mask"} <= names


def test_a_line_in_the_middle_belongs_to_its_statement_and_a_loop_to_its_head():
    function = read_functions()["gpt2"]
    loop = next(node for node in ast.walk(function) if isinstance(node, ast.For))
    places = statement_at("gpt2")
    assert places[loop.lineno] == loop.lineno
    assert places[loop.body[0].lineno] == loop.body[0].lineno != loop.lineno


def test_calls_are_listed_as_they_run_and_named_for_what_they_do():
    line = line_of("x = x + mha(layer_norm(x, **ln_1)")
    calls = list(model_calls(statements("block")[line]))
    assert [call.func.id for call in calls] == ["layer_norm", "mha"]
    assert [name_call(call) for call in calls] == ["ln_1", "attn"]
    last = line_of("return linear(layer_norm(x, **ln_f), wte.T, b=0.0)")
    assert [name_call(c) for c in model_calls(statements("gpt2")[last])] == ["ln_f", "wte.T"]


def test_a_name_in_the_source_that_calls_a_function_leads_to_it():
    line = line_of("weights = softmax(scores)")
    words = {word[0]: word[1:] for word in describe()["lines"][line] if len(word) > 2}
    assert words["softmax"] == ["call", "softmax", line]
    assert words["weights"] == ["open", "weights", line, True]
