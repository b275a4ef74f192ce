"""What the walk-throughs measure of `tales`, measured of any model, such as OpenAI's.

    python notebooks/any_model.py 124M

Tokens of a sentence (notebook 1), neighbours of a word (2), what each head looks at (4), the stream
and what it would say after each block (5), the next words of a prompt (6), how surprised the model
is by a fairy tale and by Python's manual (8). A model that is not there yet is downloaded first.
"""

import math
import sys
from pathlib import Path
from pydoc_data.topics import topics

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import measure
import numpy as np

from command_line.errors import end_output, fail, report_stop, survive_closed_stderr
from command_line.options import OneLineParser
from gpt2_numpy import gpt2, layer_norm, log_probs, softmax
from look_inside import trace
from utils import ModelError, load_encoder_hparams_and_params

PROGRAM = "any_model.py"
SENTENCE = "The princess kissed the frog, and the frog became a prince."


def show_tokens(encoder, text):
    print(f"{len(encoder.encode(text))} tokens:", *map(repr, words_of(encoder, text)))


def words_of(encoder, text):
    return [encoder.decode([i]) for i in encoder.encode(text)]


def show_neighbours(encoder, params, word, n=6):
    """The tokens whose rows of wte point most nearly the same way."""
    wte = params["wte"] / np.linalg.norm(params["wte"], axis=-1, keepdims=True)
    first = encoder.encode(word)[0]
    nearest = np.argsort(-(wte @ wte[first]))[1 : n + 1]
    words = (repr(encoder.decode([i])) for i in nearest)
    print(f"nearest to {encoder.decode([first])!r}:", *words)


def head_habits(ids, params, n_head):
    """{habit: [n_layer, n_head]}: the share of each head's weight on the token before, on itself
    and on the first token of a text; and on what followed, in random tokens that come twice."""
    weights = weights_of(ids, params, n_head)  # [n_layer, n_head, n_seq, n_seq]
    t = np.arange(1, len(ids))
    random = np.random.default_rng(0).integers(0, len(params["wte"]), len(ids) // 2)
    twice = weights_of(np.tile(random, 2), params, n_head)
    again = np.arange(len(random), 2 * len(random))
    return {
        "the token before": weights[..., t, t - 1].mean(axis=-1),
        "itself": weights[..., t, t].mean(axis=-1),
        "the first token": weights[..., t, 0].mean(axis=-1),
        "what followed (induction)": twice[..., again, again - len(random) + 1].mean(axis=-1),
    }


def weights_of(ids, params, n_head):
    blocks = trace(ids, params, n_head, names={"weights"})["blocks"]
    return np.stack([block["attention"]["weights"] for block in blocks])


def show_heads(ids, params, n_head, n=4):
    print(f"heads with most of their weight on ... ({len(ids)} tokens of a tale)")
    for habit, values in head_habits(ids, params, n_head).items():
        order = np.argsort(-values, axis=None)[:n]
        best = (np.unravel_index(i, values.shape) for i in order)
        print(f"  {habit:26}", *(f"L{i}H{h} {100 * values[i, h]:3.0f} %  " for i, h in best))


def show_stream(encoder, params, n_head, text):
    """After each block: the stream's length at the first position and the others' median, and what
    it would say if the model ended there."""
    print("the stream after each block: length at the first position, at the others; its guesses")
    states = trace(encoder.encode(text), params, n_head, names={"x"})["residual"][::2]
    for i, state in enumerate(states):
        guesses = (layer_norm(state, **params["ln_f"]) @ params["wte"].T).argmax(axis=-1)
        length = np.linalg.norm(state, axis=-1)
        said = " ".join(encoder.decode([g]).strip() or "↵" for g in guesses)
        name = "embed" if i == 0 else str(i - 1)
        print(f"  {name:5} {length[0]:7.1f} {np.median(length[1:]):7.1f}  {said}")


def show_next(encoder, params, n_head, prompt, n=6):
    p = softmax(gpt2(encoder.encode(prompt), **params, n_head=n_head, n_logits=1)[-1])
    best = np.argsort(-p)[:n]
    print(f"{prompt!r} goes on with", *(f"{encoder.decode([i])!r} {p[i]:.0%}" for i in best))


def show_surprise(encoder, params, n_head, name, text):
    ids = encoder.encode(text)
    nats = -float(log_probs(ids, params, n_head).sum())
    n_bytes = len(encoder.decode(ids[1:]).encode())
    per_token = nats / (len(ids) - 1)
    print(
        f"{name}: {per_token:.2f} nats per token, perplexity {math.exp(per_token):.1f}, "
        f"{nats / math.log(2) / n_bytes:.3f} bits per byte"
    )


def main():
    """Run the command line; return the exit status. Whatever is wrong is one line on stderr."""
    survive_closed_stderr()
    parser = OneLineParser(prog=PROGRAM, description=__doc__.split("\n")[0])
    parser.add_argument("model", metavar="MODEL", help="a name, such as 124M, or a folder")
    name = parser.parse_args().model
    try:
        show(name, *load_encoder_hparams_and_params(name))
        sys.stdout.flush()
        return 0
    except KeyboardInterrupt:
        return report_stop()
    except ModelError as error:
        return fail(PROGRAM, error)
    except OSError as error:
        return end_output(PROGRAM, error)


def show(name, encoder, hparams, params):
    n_head = hparams["n_head"]
    print(f"{name}: {hparams}\n")
    show_tokens(encoder, SENTENCE)
    show_neighbours(encoder, params, " king")
    show_next(encoder, params, n_head, "Once upon a time there was a king who had three")
    print()
    show_heads(measure.windows(encoder)[0], params, n_head)
    print()
    show_stream(encoder, params, n_head, SENTENCE)
    print()
    manual = "\n\n".join(topics[topic].strip() for topic in sorted(topics))[:20_000]
    tale = (HERE / "tale.txt").read_text("utf-8")
    show_surprise(encoder, params, n_head, "a fairy tale", tale)
    show_surprise(encoder, params, n_head, "the beginning of Python's manual", manual)


if __name__ == "__main__":
    raise SystemExit(main())
