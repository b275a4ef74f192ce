"""GPT-2's sublayers joined in other ways than GPT-2 joins them, and how long each takes to learn.

`sublayer` is the heart: a layer norm before f, or after it, or after the sum, or none; a residual
connection, or none. It returns its output and a function for the way back, as the functions of
backward.py do, of which it is composed. Shapes are [..., n_seq, n_embd] everywhere.

    python notebooks/studies/joining.py          computes joining.json anew, in an hour or two

That file holds the results of the runs that take long, with a checksum of this one.
"""

if __name__ == "__main__":
    import os
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ[variable] = "1"  # the matrices are small, and processes share the work

import functools
import hashlib
import json
import math
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from backward import cross_entropy, embed_vjp, ffn_vjp, layer_norm_vjp, mha_vjp, unembed_vjp
from gpt2_numpy import causal_mask
from train import adamw, init_params, new_moments

# Of each: is there a residual connection, and where is the layer norm?
WAYS = {
    "pre-LN": (True, "before f"),
    "post-LN": (True, "after the sum"),
    "LN on branch": (True, "after f"),
    "no layer norm": (True, None),
    "no residual": (False, "before f"),
    "neither": (False, None),
}


N_HEAD = 2  # of the small models
GUESSING = math.log(16)  # the loss of whoever guesses one of 16 tokens


def sublayer(x, f_vjp, parameters, ln, residual, place, weight=1.0):
    """The sublayer f, joined in one of the WAYS, and back: dy -> dx, d_parameters, d_ln. What it
    adds is multiplied by weight."""
    y = x
    if place == "before f":
        y, norm_back = layer_norm_vjp(y, **ln)
    y, f_back = f_vjp(y, **parameters)
    if place == "after f":
        y, norm_back = layer_norm_vjp(y, **ln)
    if residual:
        y = x + weight * y
    if place == "after the sum":
        y, norm_back = layer_norm_vjp(y, **ln)

    def back(dy):
        d_ln = None
        if place == "after the sum":
            dy, d_ln = norm_back(dy)
        dx = weight * dy if residual else dy
        if place == "after f":
            dx, d_ln = norm_back(dx)
        dx, d_parameters = f_back(dx)
        if place == "before f":
            dx, d_ln = norm_back(dx)
        if residual:
            dx = dx + dy
        return dx, d_parameters, d_ln

    return y, back


def loss_and_gradients(params, ids, targets, n_head, way, weight=1.0):
    """As in backward.py, for `gpt2` joined in one of the WAYS; and the sizes of ∂loss/∂x, [2 *
    n_layer + 1], where the blocks begin and after each sublayer."""
    residual, place = WAYS[way]
    attend_vjp = functools.partial(mha_vjp, n_head=n_head, mask=causal_mask(ids.shape[-1]))
    x, embed_back = embed_vjp(ids, params["wte"], params["wpe"])
    backs = []
    for block in params["blocks"]:
        for f_vjp, name, ln in ((attend_vjp, "attn", "ln_1"), (ffn_vjp, "mlp", "ln_2")):
            x, back = sublayer(x, f_vjp, block[name], block[ln], residual, place, weight)
            backs.append((back, name, ln))
    x, ln_f_back = layer_norm_vjp(x, **params["ln_f"])
    logits, unembed_back = unembed_vjp(x, params["wte"])
    loss, d_logits = cross_entropy(logits, targets, targets.size)

    dx, d_wte = unembed_back(d_logits)
    dx, d_ln_f = ln_f_back(dx)
    sizes, d_blocks = [size(dx)], [{} for _ in params["blocks"]]
    for i in reversed(range(len(backs))):
        back, name, ln = backs[i]
        dx, d_parameters, d_ln = back(dx)
        if d_ln is None:  # this way has no layer norm to change
            d_ln = {"g": np.zeros(x.shape[-1], x.dtype), "b": np.zeros(x.shape[-1], x.dtype)}
        d_blocks[i // 2] |= {name: d_parameters, ln: d_ln}
        sizes.append(size(dx))
    gradients = {**embed_back(dx, d_wte), "blocks": d_blocks, "ln_f": d_ln_f}
    return loss, gradients, sizes[::-1]


def size(array):
    """Its length as a vector, sqrt(Σ x²), by float64, in which no square overflows."""
    return float(np.linalg.norm(array.astype(np.float64)))


STARTS = ("1/√n_in", "0.02", "0.02 plain")


def init(n_layer, start, seed=0, n_vocab=16, n_ctx=8, n_embd=32):
    """Parameters of a small model, which begins in one of three ways:

    "0.02"        as GPT-2: matrices of that deviation, those that write to the stream 0.02 / √(2
                  n_layer)
    "0.02 plain"  all matrices of 0.02
    "1/√n_in"     each matrix makes vectors about as long as those it was given
    """
    hparams = dict(n_vocab=n_vocab, n_ctx=n_ctx, n_embd=n_embd, n_head=N_HEAD, n_layer=n_layer)
    params = init_params(hparams, seed)
    for block in params["blocks"] if start != "0.02" else ():
        for part in (*block["attn"].values(), *block["mlp"].values()):
            deviation = 0.02 if start == "0.02 plain" else 1.0 / math.sqrt(len(part["w"]))
            part["w"] *= deviation / part["w"].std()
    return params


def parrot(rng, n_batch=16, n_seq=8, n_vocab=16):
    """Inputs and targets of a task: at each position, say the token that stood before it (at the
    first one, the token itself). Whoever only guesses has a loss of ln n_vocab."""
    ids = rng.integers(0, n_vocab, (n_batch, n_seq))
    targets = np.concatenate([ids[:, :1], ids[:, :-1]], axis=1)
    return ids, targets


def train(way, n_layer, rate, start="1/√n_in", seed=0, weight=1.0, n_steps=1500, n_warmup=100):
    """AdamW on `parrot`: the losses in nats at each step, and the sizes of ∂loss/∂x. The learning
    rate rises in a line over n_warmup steps and stays. It ends early where it is `solved`, and
    where the loss is no longer a number."""
    params, rng = init(n_layer, start, seed), np.random.default_rng([seed, n_layer])
    moments, losses, sizes = new_moments(params), [], []
    with np.errstate(all="ignore"):
        for step in range(n_steps):
            ids, targets = parrot(rng)
            loss, gradients, along = loss_and_gradients(params, ids, targets, N_HEAD, way, weight)
            losses.append(loss)
            sizes.append(along)
            if not np.isfinite(loss) or solved(losses):
                break
            lr = rate * min(1.0, (step + 1) / max(1, n_warmup))
            adamw(params, gradients, moments, step, lr, weight_decay=0.0)
    return losses, sizes


def solved(losses):
    """Whether the task is solved: the last ten losses are below 0.1 nats on average."""
    return len(losses) >= 10 and sum(losses[-10:]) < 1.0


def streams(way, n_layer, start, seed=0, weight=1.0):
    """The stream of one sequence of an untrained model where the blocks begin and after each
    sublayer: 2 * n_layer + 1 arrays [n_seq, n_embd]."""
    params, (residual, place) = init(n_layer, start, seed), WAYS[way]
    ids, _ = parrot(np.random.default_rng(seed), n_batch=1)
    attend_vjp = functools.partial(mha_vjp, n_head=N_HEAD, mask=causal_mask(ids.shape[-1]))
    x, _ = embed_vjp(ids, params["wte"], params["wpe"])
    states = [x[0].astype(np.float64)]
    for block in params["blocks"]:
        for f_vjp, name, ln in ((attend_vjp, "attn", "ln_1"), (ffn_vjp, "mlp", "ln_2")):
            x, _ = sublayer(x, f_vjp, block[name], block[ln], residual, place, weight)
            states.append(x[0].astype(np.float64))
    return states


def unlike(state):
    """How much the positions differ: 1 - the mean cosine of all pairs of rows [n_seq, n_embd]."""
    unit = state / np.maximum(np.linalg.norm(state, axis=-1, keepdims=True), 1e-300)
    cosines = unit @ unit.T
    return 1.0 - float(cosines.sum() - len(state)) / (len(state) * (len(state) - 1))


RATES, SEEDS = (3e-4, 1e-3, 3e-3, 1e-2), (0, 1, 2)
RESULTS = Path(__file__).with_suffix(".json")


def plan():
    """All runs of the study: dicts of arguments of `train`."""
    return [
        dict(way=way, n_layer=n_layer, rate=rate, start=start, seed=seed, weight=weight)
        for ways, depths, starts, weights in (
            (("pre-LN", "post-LN", "no layer norm"), (2, 6, 12, 24, 48), ("1/√n_in",), (1.0,)),
            (("LN on branch", "no residual", "neither"), (2, 6, 12), ("1/√n_in",), (1.0,)),
            (("pre-LN", "post-LN"), (12, 24, 48), ("0.02", "0.02 plain"), (1.0,)),
            (("post-LN",), (12, 24, 48), ("1/√n_in",), (0.1, 0.25, 0.5)),
        )
        for way in ways
        for n_layer in depths
        for start in starts
        for weight in weights
        for rate in RATES
        for seed in SEEDS
    ]


def result(run):
    """What is kept of one run: the step at which it was solved, or None; the last ten losses' mean;
    and how unlike the positions were at the top before training."""
    losses, _ = train(**run)
    with np.errstate(all="ignore"):
        last = float(np.mean(losses[-10:]))
    shape = {key: run[key] for key in ("way", "n_layer", "start", "seed", "weight")}
    top = unlike(streams(**shape)[-1])
    return run | {
        "solved": len(losses) if solved(losses) else None,
        "loss": round(last, 4) if math.isfinite(last) else None,
        "unlike": float(f"{top:.3g}"),
    }


def checksum():
    """SHA-256 of this file: results made by another version of it are stale."""
    return hashlib.sha256(Path(__file__).read_text("utf-8").encode()).hexdigest()


def results():
    """The committed results, one dict for each run of the plan."""
    kept = json.loads(RESULTS.read_text("utf-8"))
    return [dict(zip(kept["columns"], row, strict=True)) for row in kept["rows"]]


def main():
    """Run what is not there yet, in processes, and keep every result as it comes."""
    partial = RESULTS.with_suffix(f".{checksum()[:8]}.partial")  # goes on where it was stopped
    lines = partial.read_text("utf-8").splitlines() if partial.exists() else []
    done = [json.loads(line) for line in lines]
    runs = plan()
    known = {json.dumps({key: row[key] for key in runs[0]}) for row in done}
    todo = [run for run in runs if json.dumps(run) not in known]
    with (
        ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool,
        partial.open("a", encoding="utf-8") as file,
    ):
        for number, row in enumerate(pool.map(result, todo), start=1):
            file.write(json.dumps(row) + "\n")
            file.flush()
            done.append(row)
            print(f"{number} of {len(todo)}: {row}", flush=True)
    by_run = {json.dumps({key: row[key] for key in runs[0]}): row for row in done}
    rows = [list(by_run[json.dumps(run)].values()) for run in runs]
    columns = list(done[0])
    kept = {"checksum": checksum(), "columns": columns, "rows": rows}
    text = json.dumps(kept, ensure_ascii=False).replace("], [", "],\n[")
    RESULTS.write_text(text + "\n", encoding="utf-8")
    partial.unlink()


if __name__ == "__main__":
    main()
