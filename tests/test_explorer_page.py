"""The page as one file: whole, self-contained, and not older than what it was made from."""

import base64
import json
import re

import numpy as np
import pytest

from command_line.explore import PROMPT
from explorer import page as module
from explorer.answers import Answers
from explorer.page import fingerprint, join_modules, make_page, read_fingerprint
from explorer.server import STATIC
from look_inside import trace
from programs import ROOT
from utils import load_encoder_hparams_and_params

TEXT = "the <b>hen</b></script>"
COMMITTED = ROOT / "docs" / "explorer.html"


@pytest.fixture(scope="module")
def answers(tiny_model):
    return Answers("tiny", *load_encoder_hparams_and_params(str(tiny_model)))


@pytest.fixture(scope="module")
def html(answers):
    return make_page(answers, TEXT)


def embedded(html):
    found = re.search(r'<script type="application/json" id="embedded">(.*?)</script>', html, re.S)
    return json.loads(found[1])


def test_it_needs_nothing_else(html):
    assert not re.search(r"\b(src|href)=(?!\"data:)", html)
    assert not re.search(r"^\s*(import|export)\b", html, re.M)
    assert not re.search(
        r"(https?:)?//(?!www\.w3\.org/2000/svg)[a-z]+\.[a-z]", html.split("embedded")[0]
    )
    assert html.count("<script") == html.count("</script>") == 2
    assert "default-src 'none'" in html


def test_a_prompt_with_markup_stays_text(html):
    assert "<b>hen" not in html and embedded(html)["prompt"] == TEXT


def test_modules_are_joined_each_once_and_after_what_they_need():
    text = join_modules("main.js")
    names = re.findall(r"^(?:async )?(?:function|class|const|let) (\w+)", text, re.M)
    assert len(names) == len(set(names)) > 100
    for path in STATIC.glob("*.js"):
        first = next(line for line in path.read_text("utf-8").splitlines() if "function" in line)
        assert text.count(first.removeprefix("export ")) == 1, path.name
    assert text.index("function make(") < text.index("function drawOpened(")


def test_its_arrays_are_those_of_trace_within_half_precision(html, answers):
    data = embedded(html)
    seen = trace(data["ids"], answers.params, n_head=3)
    run, arrays = data["answers"]["run"], data["answers"]["array"]
    for layer in (0, 1):
        call = next(c for c in run["calls"] if c["function"] == "attention" and c["layer"] == layer)
        for name in ("weights", "q"):
            (number,) = {ns[-1] for key, ns in call["uses"].items() if key.split()[1] == name}
            one = arrays[str(number)]
            bytes_of = base64.b64decode(one.get("data") or arrays[one["same"]]["data"])
            array = np.frombuffer(bytes_of, one["dtype"]).reshape(one["shape"])
            exact = seen["blocks"][layer]["attention"][name]
            assert np.allclose(array, exact, rtol=1e-3, atol=1e-4)


def test_everything_that_the_page_asks_for_is_there(html, answers):
    data = embedded(html)
    n = len(data["ids"])
    for question in ("logits", "stream", "gradients"):
        assert list(data["answers"][question]) == [str(position) for position in range(n)]
    assert len(data["answers"]["what_if"]) == 5 + 2 * (2 + 3)
    arrays = data["answers"]["array"]
    for answer in data["answers"]["why"].values():
        for line in (answer["why"] or {}).get("lines", []):
            for part in line["parts"]:
                name = part if isinstance(part, str) else str(part[1])
                assert isinstance(part, str) or name in arrays or f"{name}@0" in arrays, line
    assert set(data["answers"]["terms"]) <= set(arrays)


def test_what_does_not_fit_is_left_out(answers, html, monkeypatch):
    whole = embedded(html)["answers"]
    needed = {name: whole[name] for name in whole.keys() - {"array", "terms", "why"}}
    monkeypatch.setattr(module, "ROOM", len(json.dumps(needed)) + 50_000)
    small = embedded(make_page(answers, TEXT))["answers"]
    assert 5 < len(small["array"]) < len(whole["array"])
    sizes = [len(array.get("data", "")) for array in small["array"].values()]
    assert 30_000 < sum(sizes) <= 50_000
    (weights,) = {
        ns[-1]
        for call in whole["run"]["calls"]
        if call["function"] == "attention" and call["layer"] == 1
        for key, ns in call["uses"].items()
        if " weights 1" in key
    }
    assert str(weights) in small["array"]  # what matters first is there


def test_numbers_too_large_for_half_precision_keep_their_size():
    array = np.array([[1.0, 70_000.0, -np.inf]], np.float32)
    packed = module.pack(module.encode(array))
    assert packed["dtype"] == "float32"
    assert module.pack(module.encode(array[:, ::2]))["dtype"] == "float16"


def test_the_fingerprint_is_of_the_code_the_prompt_and_the_model(
    answers, html, monkeypatch, tmp_path
):
    ours = fingerprint(answers, TEXT)
    assert read_fingerprint(html) == ours and read_fingerprint("<p>") is None
    assert fingerprint(answers, "another") != ours
    wte = answers.params["wte"].copy()
    wte[3, 3] += 1
    other = Answers("tiny", answers.encoder, answers.hparams, answers.params | {"wte": wte})
    assert fingerprint(other, TEXT) != ours
    for path in STATIC.iterdir():
        (tmp_path / "static" / path.name).parent.mkdir(exist_ok=True)
        (tmp_path / "static" / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(module, "STATIC", tmp_path / "static")
    for name in ("gpt2_numpy.py", "backward.py", "look_inside.py"):
        (tmp_path.parent / name).write_bytes((ROOT / name).read_bytes())
    before = fingerprint(answers, TEXT)
    with open(tmp_path / "static" / "style.css", "a") as style:
        style.write("/* another */")
    assert fingerprint(answers, TEXT) != before


def test_the_committed_page_is_not_stale():
    answers = Answers("tales", *load_encoder_hparams_and_params("tales"))
    html = COMMITTED.read_text("utf-8")
    is_fresh = read_fingerprint(html) == fingerprint(answers, PROMPT)
    assert is_fresh, "write it anew: python -m explorer --out docs/explorer.html"
    assert len(html.encode()) < 3_000_000
    assert embedded(html)["answers"]["model"]["name"] == "tales"
