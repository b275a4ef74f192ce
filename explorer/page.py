"""The page as one file that answers itself, without a server and without a network."""

import base64
import hashlib
import json
import re
import shlex

import numpy as np

from explorer.answers import encode
from explorer.axes import is_array
from explorer.server import STATIC
from explorer.what_if import list_changes
from explorer.why import Line, find_array, has_terms, list_leaves, tabulate_terms

ROOM = 5_800_000  # characters for all numbers; what does not fit is left to the server
SMALL_PARAMETER = 16_000  # characters; larger ones are left to the server, too
SMALL = 10_000  # a vocabulary of so many tokens is in the file whole
N_NAMED = 60  # of a larger one, so many for each position
MADE_FROM = "made from"  # the comment in the file that holds the fingerprint


def make_page(answers, prompt):
    """The page with this prompt, as HTML that needs nothing else. AnswerError, GPT2Error."""
    ids = answers.answer("tokens", {"text": prompt})["ids"]
    data = json.dumps(gather(answers, prompt, ids), allow_nan=False, separators=(",", ":"))
    data = data.replace("<", "\\u003c")  # nothing in it may end the element that it stands in
    html = (STATIC / "index.html").read_text("utf-8")
    style = (STATIC / "style.css").read_text("utf-8")
    policy = (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
    )
    head = (
        f"<!-- {MADE_FROM} {fingerprint(answers, prompt)} -->\n"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<style>\n{style}</style>'
    )
    scripts = (
        f'<script type="application/json" id="embedded">{data}</script>\n'
        f'<script type="module">\n{join_modules("main.js")}</script>'
    )
    html = html.replace('<link rel="stylesheet" href="style.css">', head)
    return html.replace('<script type="module" src="main.js"></script>', scripts)


IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+\.js)";\n', re.MULTILINE)


def join_modules(name, done=None):
    """A module and all that it imports as one text, each after what it needs. They only export what
    they declare, under names that no other of them has."""
    done = set() if done is None else done
    if name in done:
        return ""
    done.add(name)
    text = (STATIC / name).read_text("utf-8")
    needed = "".join(join_modules(other, done) for other in IMPORT.findall(text))
    return needed + re.sub(r"^export ", "", IMPORT.sub("", text), flags=re.MULTILINE)


def fingerprint(answers, prompt):
    """A checksum over all that a page is made from: the code, the prompt, and the model."""
    digest = hashlib.sha256(prompt.encode())
    for folder, pattern in ((STATIC.parent, "*.py"), (STATIC, "*")):
        for path in sorted(folder.glob(pattern)):
            digest.update(path.read_bytes() if path.is_file() else b"")
    for name in ("gpt2_numpy.py", "backward.py", "look_inside.py"):
        digest.update((STATIC.parents[1] / name).read_bytes())
    for array in list_parameters(answers.params):
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def list_parameters(tree):
    if isinstance(tree, np.ndarray):
        return [tree]
    parts = tree.values() if isinstance(tree, dict) else tree
    return [array for part in parts for array in list_parameters(part)]


def read_fingerprint(html):
    """The checksum that a page was made from, or None."""
    found = re.search(f"<!-- {MADE_FROM} ([0-9a-f]{{64}}) -->", html)
    return found and found[1]


def gather(answers, prompt, ids):
    """What the page asks for, question by question, as far as it has room in the file."""
    asked = {"ids": ids}
    run = answers.run(asked)

    def ask(question, **more):
        return answers.answer(question, asked | more)

    def ask_each(question):
        return {str(t): ask(question, position=t) for t in range(len(ids))}

    found = {
        "model": ask("model") | {"prompt": prompt},
        "vocabulary": {"tokens": name_tokens(answers, run)},
        "tokens": {"ids": ids},
        "text": {"text": prompt},
        "run": ask("run"),
        "logits": gather_logits(answers, run),
        "stream": ask_each("stream"),
        "habits": ask("habits"),
        "lens": ask("lens"),
        "what_if": gather_changes(ask, answers.hparams),
        "gradients": ask_each("gradients"),
    }
    room = ROOM - len(json.dumps(found))
    found["terms"], room = gather_terms(run, "attention.scores", room)
    found["array"], room = gather_arrays(ask, run, room)
    made = [int(name) for name in found["array"] if name.isdecimal()]
    found["why"] = {str(n): ask("why", value=n) for n in made}
    found["terms"] |= gather_terms(run, "attention.return", room)[0]
    command = name_command(answers.name)
    return {"command": command, "ids": ids, "prompt": prompt, "answers": found}


def name_command(model):
    """The command that serves the page with a model."""
    return "python -m explorer" + ("" if model == "tales" else f" --model {shlex.quote(model)}")


def name_tokens(answers, run):
    """{id: how it is written} of the vocabulary, or of the likeliest where it is large."""
    tokens = answers.answer("vocabulary", {})["tokens"]
    if len(tokens) <= SMALL:
        return dict(enumerate(tokens))
    best = np.argsort(-run.logits, axis=-1)[:, :N_NAMED]
    return {i: tokens[i] for i in {*run.ids.tolist(), *best.ravel().tolist()}}


def gather_logits(answers, run):
    """Those of each position, with half the digits where the vocabulary is large."""
    dtype = np.float32 if run.logits.shape[-1] <= SMALL else np.float16
    return {str(t): encode(row, dtype) for t, row in enumerate(run.logits)}


# What is looked at first gets its place first.
FIRST = """
    softmax.return causal_mask.return attention.scores mha.q mha.k mha.v embed.return block.x
    layer_norm.mean layer_norm.variance layer_norm.centred layer_norm.normed layer_norm.return
    attention.return softmax.exp
""".split()


def gather_arrays(ask, run, room):
    """{name: array} of what fits into so many characters, and how many are left."""
    arrays, names = {}, {}  # of the data that are there already
    for name, more in list_arrays(run):
        packed = pack(ask("array", **more))
        data = packed.pop("data")
        if data in names:
            arrays[name] = packed | {"same": names[data]}
        elif len(data) <= (room if is_made(run, more["value"]) else min(room, SMALL_PARAMETER)):
            arrays[name] = packed | {"data": data}
            names[data] = name
            room -= len(data)
    return arrays, room


def is_made(run, name):
    """Whether the code made an array, which else is a parameter."""
    return run.values[int(name.partition(".")[0])].maker is not None


def list_arrays(run):
    """The names of all arrays that can be opened or stand in a formula, each with how to ask for
    it; what matters first. An array with a vocabulary's columns looks different from each position.
    """
    ranked, held = [], {id(value.held) for value in run.values}
    for number, value in enumerate(run.values):
        if not is_array(value.held):
            continue
        variable = name_maker(run, value)
        rank = FIRST.index(variable) if variable in FIRST else len(FIRST)
        leaves = list_leaves(Line(run, *value.maker[:2]), number) if value.maker else None
        names = [f"{number}.{i}" for i, leaf in enumerate(leaves or []) if id(leaf[1]) not in held]
        ranked += [(rank, name) for name in (str(number), *names)]
        if variable == "softmax.return":
            ranked.append((0, f"{number} average"))
    n_vocab, n_seq = run.logits.shape[-1], len(run.ids)
    listed = []
    for _, name in sorted(ranked, key=lambda pair: pair[0]):
        value, _, average = name.partition(" ")
        if average:
            listed.append((name, {"value": value, "average": True}))
        elif find_array(run, value).shape[-1] == n_vocab:
            listed += [(f"{name}@{t}", {"value": value, "position": t}) for t in range(n_seq)]
        else:
            listed.append((name, {"value": value}))
    return listed


def name_maker(run, value):
    """The function and its variable that hold what it made, as "softmax.return"."""
    return f"{run.steps.calls[value.maker[0]].function}.{value.maker[2]}" if value.maker else ""


def pack(answer):
    """An array's answer with numbers of half the size, where these can hold them."""
    array = np.frombuffer(base64.b64decode(answer["data"]), np.float32).reshape(answer["shape"])
    with np.errstate(over="ignore"):
        small = array.astype(np.float16)
    is_held = np.array_equal(np.isfinite(small), np.isfinite(array))
    return answer | encode(array, np.float16 if is_held else np.float32)


def gather_terms(run, variable, room):
    """{number: a table of its terms} of the einsums that a variable was made by, as far as they fit
    into so many characters, and how many are left."""
    tables = {}
    for number, value in enumerate(run.values):
        if name_maker(run, value) != variable:
            continue
        if has_terms(run, number) is None:  # where the mask is put over scores
            continue
        table = tabulate_terms(run, number)
        packed = {"where": encode(table.pop("where"), np.uint8 if table["n"] <= 256 else np.uint16)}
        packed |= {n: encode(table.pop(n), np.float16) for n in ("a", "b", "product", "rest")}
        size = sum(len(array["data"]) for array in packed.values())
        if size <= room:
            tables[str(number)] = table | packed
            room -= size
    return tables, room


def gather_changes(ask, hparams):
    """{its JSON: answer} for each single change; how attention looks only of those that are for the
    whole model."""
    changed = {}
    for change in list_changes(hparams["n_layer"], hparams["n_head"]):
        answer = ask("what_if", changes=[change])
        if "layer" in change:
            answer.pop("attention", None)
        for name in {"before", "after"} & answer.keys():
            answer[name] = [[round(p, 5) for p in row] for row in answer[name]]
        changed[json.dumps([change], separators=(",", ":"))] = answer
    return changed
