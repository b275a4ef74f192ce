"""What the page may ask, and what it is told when a question makes no sense."""

import base64
import json

import numpy as np
import pytest

from explorer import answers as module
from explorer.answers import AnswerError, Answers, spell
from gpt2_numpy import GPT2Error, gpt2
from look_inside import trace
from utils import load_encoder_hparams_and_params

PROMPT = "the hen saw the hill"


@pytest.fixture(scope="module")
def model(tiny_model):
    return load_encoder_hparams_and_params(str(tiny_model))


@pytest.fixture
def answers(model):
    return Answers("tiny", *model)


@pytest.fixture
def ids(answers):
    return answers.answer("tokens", {"text": PROMPT})["ids"]


def decode(answer):
    data = base64.b64decode(answer["data"])
    return np.frombuffer(data, answer["dtype"]).reshape(answer["shape"])


def find_value(answers, ids, function, name, layer=0):
    """The number of the value that a function's variable has at its last assignment."""
    run = answers.answer("run", {"ids": ids})
    call = next(c for c in run["calls"] if c["function"] == function and c["layer"] == layer)
    return [ns[-1] for key, ns in call["uses"].items() if key.split()[1:] == [name, "1"]][-1]


def test_arrays_are_those_of_trace(answers, model, ids):
    seen = trace(ids, model[2], n_head=3)
    for layer in (0, 1):
        for name in ("q", "k", "v", "weights", "scores"):
            number = find_value(answers, ids, "attention", name, layer)
            answer = answers.answer("array", {"ids": ids, "value": number})
            array = seen["blocks"][layer]["attention"][name]
            assert np.array_equal(decode(answer), array)
            finite = array[np.isfinite(array)]
            assert answer["statistics"]["max"] == finite.max()
            assert np.isclose(answer["statistics"]["mean"], finite.mean(), atol=1e-6)
            assert answer["statistics"]["n_hidden"] == array.size - finite.size


def test_the_average_of_the_heads(answers, model, ids):
    number = find_value(answers, ids, "attention", "weights")
    answer = answers.answer("array", {"ids": ids, "value": number, "average": True})
    weights = trace(ids, model[2], n_head=3)["blocks"][0]["attention"]["weights"]
    assert np.array_equal(decode(answer), weights.mean(axis=0))


def test_of_a_vocabulary_the_likeliest_tokens_are_sent(answers, model, ids):
    number = find_value(answers, ids, "gpt2", "return", None)
    answer = answers.answer("array", {"ids": ids, "value": number, "position": 2})
    logits = gpt2(ids, **model[2], n_head=3)
    kept = answer["kept"][1]
    assert set(np.argsort(-logits[2])[:40]) <= set(kept) and ids[3] in kept
    assert np.array_equal(decode(answer), logits[:, kept])
    assert answer["statistics"]["min"] == logits.min()


def test_of_the_embeddings_the_prompts_rows_are_sent(answers, model, ids):
    for name, table, kept in (
        ("wte", model[2]["wte"], list(dict.fromkeys(ids))),
        ("wpe", model[2]["wpe"], list(range(len(ids)))),
    ):
        answer = answers.answer(
            "array", {"ids": ids, "value": find_value(answers, ids, "embed", name, None)}
        )
        assert answer["kept"] == {0: kept} and np.array_equal(decode(answer), table[kept])


def test_a_very_large_array_is_cut(answers, model, ids, monkeypatch):
    monkeypatch.setattr(module, "MOST_CELLS", 100)
    number = find_value(answers, ids, "block", "x")
    answer = answers.answer("array", {"ids": ids, "value": number})
    assert answer["kept"] == {0: [0, 1, 2, 3]} and answer["shape"] == [4, 24]


def test_logits_and_vocabulary(answers, model, ids):
    logits = gpt2(ids, **model[2], n_head=3)
    assert np.array_equal(decode(answers.answer("logits", {"ids": ids, "position": 1})), logits[1])
    tokens = answers.answer("vocabulary", {})["tokens"]
    assert len(tokens) == 260 and tokens[ids[0]] == "the"[: len(tokens[ids[0]])]


def test_a_part_of_a_character_is_written_as_bytes(answers):
    ids = answers.answer("tokens", {"text": "🐔"})["ids"]
    assert [spell(answers.encoder, i) for i in ids] == ["\\xf0", "\\x9f", "\\x90", "\\x94"]
    assert answers.answer("text", {"ids": ids})["text"] == "🐔"


def test_every_answer_goes_into_json(answers, ids):
    number = find_value(answers, ids, "attention", "scores")
    asked = {"ids": ids, "position": 1, "value": number, "cell": 3, "text": PROMPT}
    asked["changes"] = [{"kind": "mask"}, {"kind": "head", "layer": 1, "head": 0}]
    numbers = {"terms": find_value(answers, ids, "attention", "return")}
    for question in module.QUESTIONS:
        given = asked | ({"value": numbers[question]} if question in numbers else {})
        json.dumps(answers.answer(question, given), allow_nan=False)
    for prompt in ("t", "th"):
        one = answers.answer("tokens", {"text": prompt})["ids"]
        for question in ("run", "stream", "lens", "habits", "gradients", "logits"):
            json.dumps(answers.answer(question, {"ids": one}), allow_nan=False)


def test_tokens_need_not_wait_for_a_run(answers):
    with answers.lock:
        assert len(answers.answer("tokens", {"text": "hhh"})["ids"]) == 3


def test_gradients_are_of_the_token_that_follows_or_of_the_likeliest(answers, model, ids):
    first = answers.answer("gradients", {"ids": ids, "position": 0})
    assert first["target"] == ids[1] and not first["is_guess"]
    last = answers.answer("gradients", {"ids": ids, "position": len(ids) - 1})
    assert last["target"] == gpt2(ids, **model[2], n_head=3)[-1].argmax() and last["is_guess"]
    assert np.isclose(first["total"][0], np.linalg.norm(first["sizes"][0]))


def test_the_newest_runs_are_kept_and_a_large_one_alone(answers, ids, monkeypatch):
    for n in range(1, 6):
        answers.answer("run", {"ids": ids[:n]})
    assert [len(key) for key in answers.runs] == [3, 4, 5]
    first = answers.runs[tuple(ids[:3])]
    assert answers.run({"ids": ids[:3]}) is first
    monkeypatch.setattr(module, "LARGE", 1)
    answers.answer("run", {"ids": ids})
    assert list(answers.runs) == [tuple(ids)]


@pytest.mark.parametrize(
    ("question", "asked", "words"),
    [
        ("anything", {}, "no such question"),
        ("tokens", {}, "must be a text"),
        ("tokens", {"text": ""}, "the prompt is empty"),
        ("tokens", {"text": "a" * 65}, "65 tokens, but the model's context has 64"),
        ("tokens", {"text": "a" * 60_000}, "60,000 characters; 50,000 are the most"),
        ("tokens", {"text": "\ud800"}, "surrogate"),
        ("run", {}, "a list of whole numbers"),
        ("run", {"ids": [1.5]}, "a list of whole numbers"),
        ("run", {"ids": [True]}, "a list of whole numbers"),
        ("run", {"ids": []}, "the prompt is empty"),
        ("run", {"ids": [260]}, "token id 260 is not in the vocabulary"),
        ("run", {"ids": [-1]}, "token id -1 is not in the vocabulary"),
        ("run", {"ids": [10**30]}, "not"),
        ("array", {"value": "x"}, "no such array"),
        ("array", {"value": None}, "no such array"),
        ("array", {"value": "9.9.9"}, "no such array"),
        ("array", {"value": 0, "position": 99}, "no such position"),
        ("array", {"value": 0, "position": "0"}, "no such position"),
        ("why", {"value": 10**9}, "no such value"),
        ("why", {"value": "3"}, "no such value"),
        ("terms", {"value": 0, "cell": 0}, "no sum of products"),
        ("terms", {"value": 0}, "cell must be a whole number"),
        ("what_if", {}, "changes must be a list"),
        ("what_if", {"changes": []}, "changes must be a list"),
        ("what_if", {"changes": ["mask"]}, "changes must be a list"),
        ("what_if", {"changes": [{"kind": "nonsense"}]}, "no change called nonsense"),
        ("gradients", {"position": -1}, "no such position"),
    ],
)
def test_nonsense_is_one_line(answers, question, asked, words):
    asked = ({} if "ids" in asked or question == "run" else {"ids": [0, 1, 2]}) | asked
    with pytest.raises((AnswerError, GPT2Error), match=words) as caught:
        answers.answer(question, asked)
    assert "\n" not in str(caught.value)
