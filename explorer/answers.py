"""All that the page may ask, and the answers, as they go into JSON."""

import base64
import threading

import numpy as np

from explorer.axes import is_array
from explorer.gradients import stream_gradients
from explorer.run import describe_run, make_run
from explorer.source import describe
from explorer.views import (
    measure_habits,
    measure_norms,
    measure_stream,
    measure_surprise,
    read_lens,
)
from explorer.what_if import compare, run_changed
from explorer.why import explain, find_array, list_terms

N_BEST = 40  # of a vocabulary, so many columns
MOST_CELLS = 2**20  # that are sent of one array
MOST_TEXT = 50_000  # characters
N_KEPT = 3  # runs, or one where they are large
LARGE = 200 * 10**6  # bytes


class AnswerError(ValueError):
    """A question makes no sense; the message says why."""


class Answers:
    """A model that is asked about prompts; the newest runs are kept.

    It may be asked from several threads: of the questions about a run one is answered at a time.
    """

    def __init__(self, name, encoder, hparams, params):
        self.name, self.encoder, self.hparams, self.params = name, encoder, hparams, params
        self.n_head = hparams["n_head"]
        self.runs, self.lock = {}, threading.Lock()

    def answer(self, question, asked):
        """The answer to one of QUESTIONS, asked with a dict. AnswerError, GPT2Error."""
        if question not in QUESTIONS:
            raise AnswerError("there is no such question")
        if question in WITHOUT_RUN:
            return QUESTIONS[question](self, asked)
        with self.lock:
            return QUESTIONS[question](self, asked)

    def run(self, asked):
        """The Run of the ids that a question is about."""
        ids = asked.get("ids")
        if not isinstance(ids, list) or not all(type(i) is int for i in ids):
            raise AnswerError("ids must be a list of whole numbers")
        self.check_length(ids)
        key = tuple(ids)
        run = self.runs.pop(key, None) or make_run(ids, self.params, self.n_head, self.hparams)
        self.runs[key] = run  # the newest stands last
        size = sum(v.held.nbytes for v in run.values if v.maker and is_array(v.held))
        while len(self.runs) > (1 if size > LARGE else N_KEPT):
            del self.runs[next(iter(self.runs))]
        return run

    def check_length(self, ids):
        n_ctx = self.hparams["n_ctx"]
        if not ids:
            raise AnswerError("the prompt is empty; it needs at least one token")
        if len(ids) > n_ctx:
            raise AnswerError(f"{len(ids):,} tokens, but the model's context has {n_ctx:,}")


def answer_model(answers, asked):
    return {"name": answers.name, "hparams": answers.hparams, "source": describe()}


def answer_vocabulary(answers, asked):
    """How each token is written; where it is a part of a character, its bytes: "\\xf0\\x9f"."""
    return {"tokens": [spell(answers.encoder, i) for i in range(answers.hparams["n_vocab"])]}


def spell(encoder, token_id):
    if token_id not in encoder.decoder:  # embeddings filled up to a round number
        return f"<{token_id}>"
    token = encoder.decode_bytes([token_id])
    try:
        return token.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in token)


def answer_tokens(answers, asked):
    text = asked.get("text")
    if not isinstance(text, str):
        raise AnswerError("text must be a text")
    if len(text) > MOST_TEXT:
        raise AnswerError(f"the prompt has {len(text):,} characters; {MOST_TEXT:,} are the most")
    try:
        ids = answers.encoder.encode(text)
    except ValueError as error:
        raise AnswerError(str(error)) from None
    answers.check_length(ids)
    return {"ids": ids}


def answer_text(answers, asked):
    """The text of ids."""
    return {"text": answers.encoder.decode(answers.run(asked).ids.tolist())}


def answer_run(answers, asked):
    run = answers.run(asked)
    return describe_run(run) | {"surprise": measure_surprise(run).tolist()}


def answer_array(answers, asked):
    """An array, or as much of it as is sent: {"shape", "data", "kept", "statistics"}. With
    "average", the mean over its first axis, as of attention's heads.

    kept  {axis: the indices that are sent} of axes that are not sent whole: of a vocabulary the
          likeliest tokens at the position that was asked with, or the prompt's own
    """
    run = answers.run(asked)
    position = read_position(asked, run)
    try:
        array = find_array(run, asked.get("value"))
    except KeyError:
        raise AnswerError("there is no such array") from None
    value = run.values[int(str(asked["value"]).partition(".")[0])]
    if asked.get("average") is True and array.ndim > 1:
        array = array.mean(axis=0)
    axes = value.axes if value.shape == array.shape else [""] * array.ndim
    kept = choose_kept(run, array, axes, position)
    statistics = measure(array)
    for axis, indices in kept.items():
        array = np.take(array, indices, axis=axis)
    return encode(array) | {"kept": kept, "statistics": statistics}


def choose_kept(run, array, axes, position):
    kept = {}
    for axis, name in enumerate(axes):
        if name == "n_vocab" and axis == 0:
            kept[axis] = list(dict.fromkeys(run.ids.tolist()))
        elif name == "n_vocab":
            kept[axis] = find_best_tokens(run, position)
        elif name == "n_ctx" and array.shape[axis] > len(run.ids):
            kept[axis] = list(range(len(run.ids)))
    shape = [len(kept.get(axis, range(size))) for axis, size in enumerate(array.shape)]
    if np.prod(shape) > MOST_CELLS:
        n_rows = int(MOST_CELLS // np.prod(shape[1:]))
        kept[0] = kept.get(0, list(range(shape[0])))[: max(1, n_rows)]
    return kept


def find_best_tokens(run, position):
    """The likeliest tokens after a position, and the one that follows it."""
    best = np.argsort(-run.logits[position], kind="stable")[:N_BEST].tolist()
    following = run.ids[position + 1 : position + 2].tolist()
    return list(dict.fromkeys(best + following))


def measure(array):
    """Minimum, mean and maximum of what is finite, and how many are not, as a mask's -inf."""
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    n_hidden = array.size - finite.size
    if not finite.size:
        return {"min": None, "mean": None, "max": None, "n_hidden": n_hidden}
    numbers = float(finite.min()), float(finite.mean(dtype=np.float64)), float(finite.max())
    return dict(zip(("min", "mean", "max"), numbers, strict=True)) | {"n_hidden": n_hidden}


def encode(array, dtype=np.float32):
    """An array as JSON takes it: little-endian numbers in base64."""
    data = np.ascontiguousarray(array, np.dtype(dtype).newbyteorder("<"))
    text = base64.b64encode(data).decode()
    return {"shape": list(array.shape), "dtype": np.dtype(dtype).name, "data": text}


def answer_why(answers, asked):
    run = answers.run(asked)
    return {"why": explain(run, read_value(asked, run))}


def answer_terms(answers, asked):
    run, cell = answers.run(asked), asked.get("cell")
    if type(cell) is not int:
        raise AnswerError("cell must be a whole number")
    try:
        return list_terms(run, read_value(asked, run), cell)
    except KeyError:
        raise AnswerError("this number is no sum of products") from None


def read_value(asked, run):
    value = asked.get("value")
    if type(value) is not int or not 0 <= value < len(run.values):
        raise AnswerError("there is no such value")
    if not is_array(run.values[value].held):
        raise AnswerError("this value is no array")
    return value


def read_position(asked, run):
    position = asked.get("position", len(run.ids) - 1)
    if type(position) is not int or not 0 <= position < len(run.ids):
        raise AnswerError("there is no such position")
    return position


def answer_logits(answers, asked):
    run = answers.run(asked)
    return encode(run.logits[read_position(asked, run)])


def answer_stream(answers, asked):
    run = answers.run(asked)
    position = read_position(asked, run)
    stream = {name: array.tolist() for name, array in measure_stream(run).items()}
    return stream | {"norms": measure_norms(run, position)}


def answer_habits(answers, asked):
    habits = measure_habits(answers.run(asked)) or {}
    return {name: array.tolist() for name, array in habits.items()}


def answer_lens(answers, asked):
    lens = read_lens(answers.run(asked), answers.params)
    p_next = [[None if np.isnan(p) else p for p in row] for row in lens["p_next"].tolist()]
    return {"ids": lens["ids"].tolist(), "p": lens["p"].tolist(), "p_next": p_next}


def answer_what_if(answers, asked):
    """What changes do to the next token (see `compare`), and how the attention then looks."""
    run, changes = answers.run(asked), asked.get("changes")
    is_list = isinstance(changes, list) and 0 < len(changes) <= 100
    if not is_list or not all(isinstance(change, dict) for change in changes):
        raise AnswerError("changes must be a list of 1 to 100 changes")
    logits, weights = run_changed(run.ids, answers.params, answers.n_head, changes)
    compared = compare(run.logits, logits)
    if compared["is_finite"]:
        compared["attention"] = encode(np.stack(weights), np.float16)
    return compared


def answer_gradients(answers, asked):
    """The loss at a position, and how large its gradient is: {"target", "is_guess", "loss"},
    "sizes" at each state and position, "total" at each state, and "without", the same of the model
    without residual connections."""
    run = answers.run(asked)
    position = read_position(asked, run)
    is_last = position == len(run.ids) - 1
    target = int(run.logits[-1].argmax()) if is_last else int(run.ids[position + 1])
    there = run.ids, answers.params, answers.n_head, position, target
    loss, sizes = stream_gradients(*there)
    _, without = stream_gradients(*there, residual=False)
    return {
        "target": target,
        "is_guess": is_last,
        "loss": loss,
        "sizes": sizes.tolist(),
        "total": np.linalg.norm(sizes, axis=-1).tolist(),
        "without": np.linalg.norm(without, axis=-1).tolist(),
    }


WITHOUT_RUN = {"model", "vocabulary", "tokens"}  # so that tokens appear while a model still runs

QUESTIONS = {
    "model": answer_model,
    "vocabulary": answer_vocabulary,
    "tokens": answer_tokens,
    "text": answer_text,
    "run": answer_run,
    "array": answer_array,
    "why": answer_why,
    "terms": answer_terms,
    "logits": answer_logits,
    "stream": answer_stream,
    "habits": answer_habits,
    "lens": answer_lens,
    "what_if": answer_what_if,
    "gradients": answer_gradients,
}
