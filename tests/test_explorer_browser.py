"""The page in a real browser: what a person does there, and the numbers that they then see."""

import re
import threading

import numpy as np
import pytest

import gpt2_numpy
from browser import Browser, find_browser
from explorer.answers import Answers, spell
from explorer.gradients import stream_gradients
from explorer.page import make_page
from explorer.run import make_run
from explorer.server import Server
from explorer.views import measure_norms, measure_stream
from explorer.what_if import compare, list_changes, run_changed
from gpt2_numpy import draw, gpt2, layer_norm, log_probs, softmax
from look_inside import trace
from utils import load_encoder_hparams_and_params

pytestmark = pytest.mark.skipif(find_browser() is None, reason="needs chromium")

PROMPT = "Once upon a time there was a king"
LAYER, HEAD = 2, 1


@pytest.fixture(scope="module")
def model():
    return load_encoder_hparams_and_params("tales")


@pytest.fixture(scope="module")
def url(model):
    answers = Answers("tales", *model)

    def answer(question, asked):
        return answers.answer(question, asked) | ({"prompt": PROMPT} if question == "model" else {})

    with Server(0, answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.url
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def open_page(browser, url, **settings):
    page = browser.open(url, **settings)
    page.settle()
    return page


@pytest.fixture(scope="module")
def tab(browser):
    return browser.open("about:blank")


@pytest.fixture
def page(tab, url):
    """The page with PROMPT, as it is at first; at a test's end it must be without errors."""
    tab.go(url)
    tab.settle()
    yield tab
    assert tab.complaints() == []


def type_prompt(page, text):
    """Type a prompt over the one that is there."""
    page.run("document.querySelector('#prompt').focus()")
    page.run("document.querySelector('#prompt').select()")
    page.write(text)
    page.settle()


def show_tab(page, tab):
    page.click(f"#tab-{tab}")
    page.settle()
    assert page.run("document.querySelector('#panel').dataset.tab") == tab


TABS = ("array", "attention", "stream", "next", "what-if", "gradients")


def tokens_of(page):
    return [int(text) for text in page.texts(".chip .id")]


def choose(page, group, number):
    page.click(f"#{group} button:nth-of-type({number + 1})")


def open_name(page, function, line_text, name, is_after):
    """Click a name in the code, on the line that has this text."""
    page.run(f"""(() => {{
        const rows = [...document.querySelectorAll("[data-function={function}] .row")];
        const row = rows.find((one) => one.innerText.includes({line_text!r}));
        const end = " {name} {int(is_after)}";
        const button = [...row.querySelectorAll(".name")].find((b) => b.dataset.key.endsWith(end));
        button.id = "to-click";
    }})()""")
    page.click("#to-click")
    page.run("document.getElementById('to-click').id = ''")
    page.wait(f"document.querySelector('#panel .heading h2')?.innerText === '{name}'")
    page.settle()


def point_at(page, row, column, n_rows, n_columns):
    """Point at a cell of the picture: its number as it is written."""
    page.point(".picture canvas[role]", (column + 0.5) / n_columns, (row + 0.5) / n_rows)
    return page.text(".reading .cell strong")


def percent(p):
    """A probability as the page writes it."""
    if 0 < 100 * p < 0.1:
        return "< 0.1 %"
    return "100 %" if 100 * p >= 99.95 else f"{100 * p:.1f} %"


def number(text):
    return float(text.replace("−", "-").replace("∞", "inf").replace(" ", ""))


def test_tokens_appear_as_they_are_typed(page, model):
    type_prompt(page, "The hen laid an egg.")
    ids = model[0].encode("The hen laid an egg.")
    assert tokens_of(page) == ids
    assert "".join(page.texts(".chip .piece")).replace("·", " ") == "The hen laid an egg."
    assert page.run("document.querySelector('.chip[aria-pressed=true] .id').innerText") == str(
        ids[-1]
    )


def test_scores_of_a_layer_and_head_are_those_of_trace(page, model):
    ids = model[0].encode(PROMPT)
    n = len(ids)
    seen = trace(ids, model[2], model[1]["n_head"])["blocks"][LAYER]["attention"]
    choose(page, "layers", LAYER)
    choose(page, "heads", HEAD)
    open_name(page, "attention", "np.where(mask, scores", "scores", is_after=True)
    for row, column in ((0, 0), (n - 1, 0), (n - 1, n - 2), (4, 2)):
        shown = number(point_at(page, row, column, n, n))
        assert np.isclose(shown, seen["scores"][HEAD, row, column], rtol=1e-3, atol=1e-4)
    assert point_at(page, 1, 5, n, n) == "−∞"
    assert "Hidden by the mask" in page.text(".reading")
    facts = page.text(".facts")
    assert f"n_head {model[1]['n_head']} × n_queries {n} × n_keys {n}" in facts
    assert f"{(seen['scores'] == -np.inf).sum()} are −∞" in facts


def test_a_score_is_taken_apart_into_products_of_q_and_k(page, model):
    ids = model[0].encode(PROMPT)
    n = len(ids)
    seen = trace(ids, model[2], model[1]["n_head"])["blocks"][0]["attention"]
    choose(page, "layers", 0)
    choose(page, "heads", 0)
    open_name(page, "attention", "scores = np.einsum", "scores", is_after=True)
    point_at(page, 5, 3, n, n)
    page.wait("document.querySelectorAll('.terms tbody tr').length > 2")
    products = seen["q"][0, 5] * seen["k"][0, 3]
    rows = page.texts(".terms tbody tr:not(.quiet)")
    best = np.argsort(-np.abs(products), kind="stable")[: len(rows)]
    assert [int(re.search(r"feature (\d+)", row)[1]) for row in rows] == best.tolist()
    shown = [number(row.split("\t")[3]) for row in rows]
    assert np.allclose(shown, products[best], rtol=1e-3)


def test_a_normalised_feature_shows_its_formula(page, model):
    ids = model[0].encode(PROMPT)
    open_name(page, "layer_norm", "return normed", "return", is_after=True)
    page.click("[data-function=layer_norm] .calls button:nth-of-type(2)")
    page.wait("document.querySelector('#panel .heading').innerText.includes('ln_2')")
    page.settle()
    x = trace(ids, model[2], model[1]["n_head"])["blocks"][0]["ln_2"]
    point_at(page, 0, 0, len(ids), model[1]["n_embd"])
    text = page.text(".reading")
    for name in ("normed", "centred", "variance", "mean"):
        assert re.search(rf"^{name} =", text, re.M)
    assert np.isclose(number(page.text(".cell strong")), x["return"][0, 0], rtol=1e-3)
    formula = re.search(r"centred = x − mean\n= (\S+) − \(?([^\s)]+)\)? = (\S+)", text)
    parts = [x["x"][0, 0], x["mean"][0, 0], x["centred"][0, 0]]
    assert np.allclose([number(part) for part in formula.groups()], parts, rtol=1e-3, atol=1e-6)


def test_every_variable_of_every_function_opens_something(page):
    n = page.run("document.querySelectorAll('#code .name:not(:disabled)').length")
    assert n > 130
    opened = page.run("""(async () => {
        const failed = [], tried = new Set();
        for (const button of document.querySelectorAll("#code .name:not(:disabled)")) {
            const [functionName, line, name] = button.dataset.key.split(" ");
            if (tried.has(`${functionName} ${name}`)) continue;
            tried.add(`${functionName} ${name}`);
            button.click();
            const isThere = () => document.querySelector("#panel h2")?.innerText === name
                && document.querySelector("#panel .reading strong, #panel .single, #panel ul");
            for (let i = 0; i < 100 && !isThere(); i++) await new Promise((r) => setTimeout(r, 10));
            if (!isThere()) failed.push(button.dataset.key);
        }
        return failed;
    })()""")
    assert opened == []
    disabled = page.texts("#code .name:disabled")
    assert {"k", "v", "cache"} <= set(disabled)  # there is no cache, so that this did not run


def test_thumbnails_of_all_heads_lead_to_each(page, model):
    show_tab(page, "attention")
    n_layer, n_head = model[1]["n_layer"], model[1]["n_head"]
    assert page.run("document.querySelectorAll('.thumbnail').length") == n_layer * n_head
    page.click(f"[aria-label='Layer {LAYER}, head {HEAD}']")
    page.settle()
    ids = model[0].encode(PROMPT)
    weights = trace(ids, model[2], n_head)["blocks"][LAYER]["attention"]["weights"][HEAD]
    before = np.mean([weights[t, t - 1] for t in range(2, len(ids))])
    assert f"{100 * before:.1f} % at the token before" in page.text(".habits")
    shown = point_at(page, 4, 1, len(ids), len(ids))
    assert abs(number(shown.removesuffix("%")) - 100 * weights[4, 1]) < 0.06
    point = f"""(() => {{
        const canvas = document.querySelector("[aria-label='Layer {LAYER}, head {HEAD}'] canvas");
        const at = (i, j) => [...canvas.getContext("2d").getImageData(j, i, 1, 1).data];
        return [at(0, 0), at(0, {len(ids) - 1})];
    }})()"""
    first, hidden = page.run(point)
    assert first[:3] == [0, 48, 77]  # a weight of 1, the darkest blue
    assert hidden[:3] == [241, 242, 243]  # what the mask hides is no weight
    page.click(".controls .choice:nth-child(1) button:nth-of-type(2)")
    mean = trace(ids, model[2], n_head)["blocks"][LAYER]["attention"]["weights"].mean(axis=0)
    page.settle()
    shown = point_at(page, 4, 1, len(ids), len(ids))
    assert abs(number(shown.removesuffix("%")) - 100 * mean[4, 1]) < 0.06


def test_the_head_that_looks_most_at_the_token_before_is_named(page, model):
    blocks = trace(model[0].encode(PROMPT), model[2], model[1]["n_head"])["blocks"]
    weights = np.array([block["attention"]["weights"] for block in blocks])
    before = np.diagonal(weights, -1, axis1=-2, axis2=-1)[..., 1:].mean(axis=-1)  # from position 2
    layer, head = np.unravel_index(before.argmax(), before.shape)
    show_tab(page, "attention")
    said = f"the token before: layer {layer}, head {head} ({percent(before.max())})"
    assert said in page.text("#panel")


def test_lines_of_the_chosen_token_lead_to_what_it_looks_at(page, model):
    ids = model[0].encode(PROMPT)
    show_tab(page, "attention")
    page.click(".controls .choice:nth-child(2) button:nth-of-type(2)")
    page.settle()
    weights = trace(ids, model[2], model[1]["n_head"])["blocks"][0]["attention"]["weights"][0]
    lines = page.run("""[...document.querySelectorAll("svg line.chosen")].map((line) =>
        [line.getBBox().height > 0 || line.y1.baseVal.value === line.y2.baseVal.value,
         Number(line.getAttribute("stroke-opacity"))])""")
    expected = [max(0.12, weight) for weight in weights[-1] if weight >= 0.02]
    assert all(is_drawn for is_drawn, _ in lines)
    assert np.allclose([opacity for _, opacity in lines], expected, atol=1e-6)


class Grid:
    """Instead of a random number, numbers that lie evenly between 0 and 1."""

    def __init__(self, n):
        self.numbers = iter((np.arange(n) + 0.5) / n)

    def random(self):
        return next(self.numbers)


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(1, 0, 1), (0.5, 0, 1), (1.5, 12, 1), (1, 0, 0.6), (0.8, 5, 0.7), (0, 40, 1)],
)
def test_the_sliders_show_what_sample_draws_from(page, model, temperature, top_k, top_p):
    show_tab(page, "next")
    for name, value in (("temperature", temperature), ("top-k", top_k), ("top-p", top_p)):
        page.run(f"""(() => {{
            const slider = document.getElementById("{name}");
            slider.value = {value};
            slider.dispatchEvent(new Event("input"));
        }})()""")
    logits = gpt2(model[0].encode(PROMPT), **model[2], n_head=model[1]["n_head"])[-1]
    n, grid = 1000, Grid(1000)
    if temperature == 0:
        drawn = np.full(n, gpt2_numpy.sample(logits))
    else:
        drawn = np.array([draw(logits, temperature, top_k, top_p, grid) for _ in range(n)])
    rows = page.run("""[...document.querySelectorAll(".bars .bar-row")].map(
        (row) => [Number(row.dataset.token), row.querySelector(".bar-text").innerText])""")
    assert len(rows) == 14
    for token, text in rows:
        share = 100 * np.mean(drawn == token)
        shown = {"out": 0.0, "< 0.1 %": 0.05}.get(text)
        shown = number(text.removesuffix("%")) if shown is None else shown
        assert abs(shown - share) < 0.16, (token, text, share)


def test_one_is_drawn_and_appended(page, model):
    show_tab(page, "next")
    before = tokens_of(page)
    page.click("#draw")
    page.settle()
    after = tokens_of(page)
    assert after[:-1] == before
    assert page.run("document.querySelector('#prompt').value") == model[0].decode(after)
    assert page.text("#panel h2 code").replace("·", " ") == model[0].decode(after[-1:])


def test_surprise_is_that_of_log_probs(page, model):
    show_tab(page, "next")
    titles = page.run("[...document.querySelectorAll('.surprise')].map((one) => one.title)")
    ids = model[0].encode(PROMPT)
    bits = -log_probs(ids, model[2], model[1]["n_head"]) / np.log(2)
    shown = [float(title.split()[0]) for title in titles[1:]]
    assert np.allclose(shown, bits, atol=0.006) and "nothing to predict" in titles[0]


def test_every_what_if_shows_what_the_change_does_in_python(page, model):
    ids, n_head = model[0].encode(PROMPT), model[1]["n_head"]
    before = gpt2(ids, **model[2], n_head=n_head)
    changes = [c for c in list_changes(model[1]["n_layer"], n_head) if c.get("layer", 1) == 1]
    changes = [c for c in changes if c.get("head", HEAD) == HEAD]
    assert len(changes) == 8
    choose(page, "layers", 1)
    choose(page, "heads", HEAD)
    show_tab(page, "what-if")
    for change in changes:
        name = page.run(f"""(() => {{
            const all = [...document.querySelectorAll(".switch")];
            const kind = (one) => JSON.parse(one.dataset.change).kind;
            all.find((one) => kind(one) === "{change["kind"]}").id = "switch";
            return document.getElementById("switch").innerText;
        }})()""")
        page.click("#switch")
        page.settle()
        expected = compare(before, run_changed(ids, model[2], n_head, [change])[0])
        assert page.text(".moved") == percent(expected["moved"][-1]), name
        rows = page.texts(".result .bar-text")
        for row, p, q in zip(rows, expected["before"][-1], expected["after"][-1], strict=True):
            for text, value in zip(row.split("\n"), (p, q), strict=True):
                shown = 0.05 if text.startswith("<") else number(text.removesuffix("%"))
                assert abs(shown - 100 * value) < 0.06, name
        page.click(".switch[aria-pressed=true]")
        page.settle()


def test_a_token_is_replaced_in_the_past(page, model):
    ids, n_head = model[0].encode(PROMPT), model[1]["n_head"]
    show_tab(page, "what-if")
    page.click(".chip:nth-of-type(3)")
    page.settle()
    page.click("#replacement")
    text = model[0].decode(ids[-1:])
    page.write(text)
    page.press("Enter")
    page.wait("document.querySelector('.result .moved') !== null")
    page.click(f".chip:nth-of-type({len(ids)})")
    page.settle()
    assert page.text(".result h3 code") == text.replace(" ", "·")
    change = {"kind": "token", "position": 2, "id": ids[-1]}
    before = gpt2(ids, **model[2], n_head=n_head)
    expected = compare(before, run_changed(ids, model[2], n_head, [change])[0])
    assert page.text(".moved") == percent(expected["moved"][-1])


def test_the_lens_says_what_each_layer_would_say(page, model):
    show_tab(page, "stream")
    ids, (encoder, hparams, params) = model[0].encode(PROMPT), model
    residual = trace(ids, params, hparams["n_head"])["residual"]
    rows = page.run("""(() => {
        const cells = (row) => [...row.querySelectorAll("td")];
        return [...document.querySelectorAll(".lens tbody tr:not(.quiet)")].map((row) =>
            cells(row).map((cell) => [cell.title, cell.classList.contains("right")]));
    })()""")
    assert len(rows) == hparams["n_layer"] + 1
    for state, row in zip(residual[::2], rows, strict=True):
        p = softmax(layer_norm(state, **params["ln_f"]) @ params["wte"].T)
        for t, (title, is_right) in enumerate(row):
            best = p[t].argmax()
            token = spell(encoder, best).replace(" ", "·").replace("\n", "↵")
            assert title.startswith(f"“{token}”: "), title
            shown = number(title.removeprefix(f"“{token}”: ").partition("%")[0])
            assert abs(shown - 100 * p[t].max()) < 0.06
            assert is_right == (t + 1 < len(ids) and best == ids[t + 1])


def test_stream_norms_and_gradients_are_those_of_python(page, model):
    ids = model[0].encode(PROMPT)
    run = make_run(ids, model[2], model[1]["n_head"], model[1])
    show_tab(page, "stream")
    rows = [row.split("\t") for row in page.texts("#panel table:not(.lens):not(.norms) tbody tr")]
    stream = {name: array[:, -1] for name, array in measure_stream(run).items()}
    assert np.allclose([number(row[1]) for row in rows], stream["length"], rtol=0.01)
    for column, name in ((2, "added"), (3, "along"), (4, "across")):
        shown = [number(row[column]) for row in rows[1:]]
        assert np.allclose(shown, stream[name][1:], rtol=0.01, atol=0.06), name
    norms = [row.split("\t") for row in page.texts(".norms tbody tr")]
    for row, norm in zip(norms, measure_norms(run, len(ids) - 1), strict=True):
        names = "mean", "std", "normed_mean", "normed_std", "out_mean", "out_std"
        assert np.allclose([number(cell) for cell in row[1:]], [norm[n] for n in names], atol=1e-3)
    show_tab(page, "gradients")
    target = int(run.logits[-1].argmax())
    there = run.ids, model[2], model[1]["n_head"], len(ids) - 1, target
    loss, sizes = stream_gradients(*there)
    assert f"= {loss:.3f}".rstrip("0") in page.text("#panel")
    for row, column in ((0, len(ids) - 1), (len(sizes) - 1, 2)):
        shown = number(point_at(page, row, column, len(sizes), len(ids)))
        assert np.isclose(shown, sizes[len(sizes) - 1 - row, column], rtol=1e-3)


def test_lines_are_stepped_through_in_the_order_in_which_they_run(page):
    for _ in range(2):
        page.click("#step-on")
    assert page.text("#step").startswith("2 of ")
    assert page.text("#where").startswith("gpt2 › line ")
    lines = []
    for _ in range(4):
        page.click("#step-on")
        lines.append(page.text(".row.running code").strip())
    assert lines[0].startswith("x = embed(ids, wte, wpe, n_past)")
    assert lines[1].startswith("n_positions = n_past + ids.shape[-1]")
    page.click("#layer-on")
    page.click("#layer-on")
    assert page.text("#where").startswith("gpt2 › block 1 › line ")
    assert page.run("document.querySelector('#layers [aria-pressed=true]').innerText") == "1"
    page.click("#step-back")
    assert page.text("#where").startswith("gpt2 › line ")


def test_by_keyboard_alone(browser, url):
    page = open_page(browser, url)
    page.press("Tab")
    assert page.run("document.activeElement.id") == "prompt"
    for _ in range(60):
        page.press("Tab")
        if page.run("document.activeElement.classList.contains('name')"):
            break
    key = "document.activeElement.dataset.key"
    first = page.run(key)
    page.press("ArrowRight")
    page.press("ArrowDown")
    assert page.run(key) not in (None, first)
    page.press("Enter")
    name = page.run(key).split()[2]
    page.wait(f"document.querySelector('#panel h2')?.innerText === '{name}'")
    assert page.run(key) is not None  # the focus stays in the code
    page.run("document.querySelector('#tab-array').focus()")
    page.press("ArrowRight")
    page.wait("document.querySelector('.thumbnail') !== null")
    assert page.run("document.activeElement.id") == "tab-attention"
    for _ in range(8):
        page.press("Tab")
        if page.run("document.activeElement.classList.contains('thumbnail')"):
            break
    page.press("Tab")
    page.press("Space")
    page.wait("document.querySelector('.habits').innerText.startsWith('Layer 0, head 1')")
    page.wait("document.activeElement.getAttribute('aria-label') === 'Layer 0, head 1'")
    page.run("document.querySelector('.picture canvas[role]').focus()")
    page.press("ArrowDown")
    assert "looks at" in page.text("#spoken")
    assert page.complaints() == []


def test_everything_that_can_be_pressed_has_a_name(page):
    for tab in TABS:
        show_tab(page, tab)
        nameless = page.run("""(() => {
            const named = (one) => one.innerText || one.ariaLabel || one.labels?.length;
            const controls = document.querySelectorAll("button, input, textarea, canvas[role]");
            return [...controls].filter((one) => !named(one)).map((one) => one.outerHTML);
        })()""")
        assert nameless == []


def test_a_page_of_390_pixels(browser, url):
    page = open_page(browser, url, width=390, height=844)
    for tab in TABS:
        show_tab(page, tab)
        assert page.run("document.documentElement.scrollWidth") == 390
        assert page.run("document.querySelector('#panel').scrollWidth <= 390")
    page.click("#fold")
    assert page.run("document.querySelector('#side').getBoundingClientRect().height") < 60
    open_name(page, "gelu", "tanh = ", "tanh", is_after=True)
    assert page.run("document.querySelector('#side').getBoundingClientRect().height") > 300
    assert page.complaints() == []


def test_no_view_is_wider_than_the_window(page):
    type_prompt(page, 3 * PROMPT)
    for tab in TABS:
        show_tab(page, tab)
        assert page.run("document.documentElement.scrollWidth") == 1280, tab


def test_nothing_jumps_when_another_array_comes(page):
    open_name(page, "mha", "q, k, v = ", "q", is_after=True)
    box = "JSON.stringify(document.querySelector('{}').getBoundingClientRect())"
    parts = ("#code", "#panel", "#tabs", "#tokens")
    before = [page.run(box.format(part)) for part in parts]
    open_name(page, "mha", "q, k, v = ", "v", is_after=True)
    assert [page.run(box.format(part)) for part in parts] == before


def test_two_pages_at_once(browser, url, model):
    one, other = open_page(browser, url), open_page(browser, url)
    texts = "The wolf came to the door", "A princess slept in the forest"
    for page, text in zip((one, other), texts, strict=True):
        page.run("document.querySelector('#prompt').select()")
        page.write(text)
    for page, text in zip((one, other), texts, strict=True):
        ids = model[0].encode(text)
        page.send("Page.bringToFront")
        page.settle()
        weights = trace(ids, model[2], model[1]["n_head"])["blocks"][0]["attention"]["weights"]
        shown = number(point_at(page, 3, 1, len(ids), len(ids)))
        assert np.isclose(shown, weights[0, 3, 1], rtol=1e-3) and tokens_of(page) == ids
        page.close()


@pytest.mark.parametrize(
    "text", ["🐔🥚", "a", "<b>bold</b> &amp; <script>alert(1)</script>", "\n\n"]
)
def test_any_prompt_is_text(page, model, text):
    type_prompt(page, text)
    assert tokens_of(page) == model[0].encode(text)
    assert page.run("document.querySelectorAll('#tokens b, #tokens script').length") == 0
    if "<" in text:
        assert "".join(page.texts(".chip .piece")).replace("·", " ") == text
    for tab in TABS:
        show_tab(page, tab)


def test_an_empty_prompt_and_one_that_is_too_long_say_so(page, model):
    n_ctx = model[1]["n_ctx"]
    for text, words in (("", "needs at least one token"), (" a" * (n_ctx + 1), f"has {n_ctx}")):
        page.run("document.querySelector('#prompt').focus()")
        page.run("document.querySelector('#prompt').select()")
        page.run("document.execCommand('delete')")
        type_prompt(page, text)
        assert words in page.text("#message")
        assert tokens_of(page) == model[0].encode(PROMPT)  # what was there is there still
    page.browser.events.clear()  # a refusal is logged as an error


def test_the_whole_context(page, model):
    n_ctx = model[1]["n_ctx"]
    type_prompt(page, " a" * n_ctx)
    assert len(tokens_of(page)) == n_ctx and f"n_keys {n_ctx}" in page.text(".facts")
    show_tab(page, "attention")


def test_the_file_needs_no_network(browser, model, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(make_page(Answers("tales", *model), PROMPT), "utf-8")
    page = open_page(browser, path.as_uri(), offline=True)
    ids = model[0].encode(PROMPT)
    n = len(ids)
    assert tokens_of(page) == ids
    choose(page, "layers", LAYER)
    choose(page, "heads", HEAD)
    open_name(page, "attention", "scores = np.einsum", "scores", is_after=True)
    seen = trace(ids, model[2], model[1]["n_head"])["blocks"][LAYER]["attention"]
    exact = seen["q"][HEAD, 5] @ seen["k"][HEAD, 2] / np.sqrt(seen["q"].shape[-1])
    assert np.isclose(number(point_at(page, 5, 2, n, n)), exact, rtol=2e-3, atol=1e-3)
    page.wait("document.querySelectorAll('.terms tbody tr').length > 2")
    for tab in TABS:
        show_tab(page, tab)
    show_tab(page, "what-if")
    page.click(".switch")
    page.settle()
    assert page.text(".moved").endswith("%")
    type_prompt(page, "another")
    words = "This file does not hold another prompt; to see it, run: python -m explorer"
    assert page.text("#message") == words
    assert page.complaints() == []
    assert [one for one in page.requests() if not one.startswith(("file:", "data:"))] == []
    page.close()


def test_dark_is_dark_and_light_is_light(browser, url):
    ground = "getComputedStyle(document.body).backgroundColor"
    assert open_page(browser, url, dark=True).run(ground) == "rgb(20, 23, 26)"
    assert open_page(browser, url).run(ground) == "rgb(255, 255, 255)"
