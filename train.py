"""Train a GPT-2 in plain NumPy, from a text file to a model that speaks.

    python train.py story.txt --out models/mine
    python gpt2_numpy.py --model ./models/mine "Once upon a time"

It reads from the top: first the parts of any training, each a plain function (the parameters at the
start, the batches, the learning rate, clipping, AdamW), then the loop that joins them, then what
makes a run of hours bearable: held-out text, a log, checkpoints, and the command line.

No random number depends on when or how often a run was interrupted: each generator is made anew
from the seed and from what it is for (an epoch's order, a step's dropout, a sample). So a
checkpoint's seed and step stand for the state of all generators and for the place in the data, and
a resumed run computes the same losses, to the last bit, as one that was never stopped.
"""

import argparse
import contextlib
import hashlib
import importlib.util
import json
import math
import os
import shlex
import signal
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

if __name__ == "__main__":
    for package in ("numpy", "regex", "requests", "tqdm"):
        if importlib.util.find_spec(package) is None:
            sys.exit(f"train.py: {package} is not installed; pip install -r requirements.txt")
    # The batch is shared out among threads, which divides the elementwise work, too; each of them
    # then does its matrix products alone. BLAS reads this when NumPy is imported.
    for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
        os.environ[variable] = "1"

import numpy as np

from backward import loss_and_gradients
from encoder import END_OF_TEXT, Encoder, EncoderError, get_encoder, train_bpe
from files.tf_checkpoint import CheckpointError
from gpt2_numpy import (
    GPT2Error,
    OneLineParser,
    generate,
    gpt2,
    log_softmax,
    reuse_memory,
    say,
)
from utils import (
    ModelError,
    check_fits,
    flatten_params,
    load_encoder_hparams_and_params,
    memory,
    n_parameters,
    nest_params,
    one_line,
    readable,
    save_model,
    try_lock,
    write_whole,
)


class TrainError(ValueError):
    """A text, an option or a checkpoint that cannot be trained with; the message says why."""


def init_params(hparams, rng):
    """Parameters as GPT-2's training began with them (Radford et al. 2018, 2019 section 2.3).

    Weights and embeddings are normal with standard deviation 0.02. The two projections that add to
    the residual stream have 0.02 / sqrt(2 * n_layer), so that the sum of all 2 * n_layer additions
    does not grow with the depth. Gains are 1, biases 0. rng: an np.random.Generator or a seed.
    """
    rng = np.random.default_rng(rng)
    n_embd, n_layer = hparams["n_embd"], hparams["n_layer"]

    def normal(*shape, std=0.02):
        return (std * rng.standard_normal(shape)).astype(np.float32)

    def linear(n_in, n_out, std=0.02):
        return {"w": normal(n_in, n_out, std=std), "b": np.zeros(n_out, np.float32)}

    def norm():
        return {"g": np.ones(n_embd, np.float32), "b": np.zeros(n_embd, np.float32)}

    residual = 0.02 / math.sqrt(2 * n_layer)
    return {
        "wte": normal(hparams["n_vocab"], n_embd),
        "wpe": normal(hparams["n_ctx"], n_embd),
        "blocks": [
            {
                "ln_1": norm(),
                "attn": {
                    "c_attn": linear(n_embd, 3 * n_embd),
                    "c_proj": linear(n_embd, n_embd, std=residual),
                },
                "ln_2": norm(),
                "mlp": {
                    "c_fc": linear(n_embd, 4 * n_embd),
                    "c_proj": linear(4 * n_embd, n_embd, std=residual),
                },
            }
            for _ in range(n_layer)
        ],
        "ln_f": norm(),
    }


def batch(ids, n_seq, n_batch, step, seed):
    """The inputs and targets of a step, each [n_batch, n_seq]; a target is the input after it.

    An epoch cuts the text, ids [n_ids], into windows of n_seq tokens side by side and goes through
    them in random order. Each epoch's cuts begin at another offset. Nothing has to be remembered:
    the step and the seed say where in which epoch it is.
    """
    n_windows, slack = windows(len(ids), n_seq)
    inputs = np.empty((n_batch, n_seq + 1), np.int64)
    for row in range(n_batch):
        epoch, place = divmod(step * n_batch + row, n_windows)
        if row == 0 or place == 0:
            rng = np.random.default_rng([seed, epoch])
            offset, order = rng.integers(slack + 1), rng.permutation(n_windows)
        start = offset + n_seq * order[place]
        inputs[row] = ids[start:start + n_seq + 1]
    return inputs[:, :-1], inputs[:, 1:]


def windows(n_ids, n_seq):
    """(number of windows in an epoch, how far the first can be moved); the last of them needs one
    token behind it as its last target."""
    n_windows = max(1, (n_ids - n_seq) // n_seq)
    return n_windows, n_ids - 1 - n_windows * n_seq


def learning_rate(step, n_steps, peak, n_warmup, final):
    """Of step 0 to n_steps - 1: in a line up to the peak, within n_warmup steps, then down along
    half a cosine wave (Loshchilov & Hutter 2017, arXiv:1608.03983), to final at step n_steps."""
    if step < n_warmup:
        return peak * (step + 1) / n_warmup
    progress = (step - n_warmup) / max(1, n_steps - n_warmup)
    return final + (peak - final) * 0.5 * (1.0 + math.cos(math.pi * progress))


def clip_gradients(gradients, max_norm):
    """Scale all gradients, in place, so that together they are at most max_norm long; return how
    long they were: the root of the sum of all squares (Pascanu et al. 2013, arXiv:1211.5063)."""
    arrays = flatten_params(gradients).values()
    norm = math.sqrt(sum(float(np.vdot(array, array)) for array in arrays))
    if norm > max_norm:
        for array in arrays:
            array *= max_norm / (norm + 1e-6)
    return norm


def new_moments(params):
    """What AdamW remembers of past gradients: {"m", "v"}, each {name: array}, at first 0."""
    return {moment: {name: np.zeros_like(array) for name, array in flatten_params(params).items()}
            for moment in ("m", "v")}


def adamw(params, gradients, moments, step, lr, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1,
          workers=map):
    """One step of AdamW, changing params and moments in place (Loshchilov & Hutter 2019,
    arXiv:1711.05101). step counts from 0.

    m is the running mean of the gradient, v that of its square; both began at 0, which the division
    by 1 - beta^t makes up for. Each parameter moves by lr times m / sqrt(v), its own gradient in
    units of its usual size. The decay is decoupled: it shrinks the matrices by lr * weight_decay,
    apart from m and v; biases and gains do not decay.
    """
    beta_1, beta_2 = betas
    lr_t = lr / (1.0 - beta_1 ** (step + 1))
    scale_t = 1.0 / math.sqrt(1.0 - beta_2 ** (step + 1))

    def update(piece):
        p, g, m, v = piece
        m *= beta_1
        m += (1.0 - beta_1) * g
        v *= beta_2
        v += (1.0 - beta_2) * (g * g)
        if p.ndim > 1:
            p *= 1.0 - lr * weight_decay
        p -= lr_t * m / (scale_t * np.sqrt(v) + eps)

    p, g = flatten_params(params), flatten_params(gradients)
    m, v = moments["m"], moments["v"]
    pieces = [piece for name in p for piece in
              zip(*map(rows_of, (p[name], g[name], m[name], v[name])), strict=True)]
    for _ in workers(update, pieces):
        pass


def rows_of(array, n_elements=2**16):
    """A matrix in groups of rows, views small enough to stay in a processor's cache while several
    operations go over them; a vector whole."""
    if array.ndim == 1:
        return [array]
    n_rows = max(1, n_elements // array.shape[-1])
    return [array[..., i:i + n_rows, :] for i in range(0, array.shape[-2], n_rows)]


def share_out(params, ids, targets, n_head, n_micro, dropout=0.0, seed=(), workers=map,
              n_workers=1):
    """`loss_and_gradients` of a batch, by n_workers at once, n_micro sequences at a time.

    Each worker, a thread, goes through its own share of the batch and adds up the gradients (NumPy
    lets threads compute side by side). Sums are always taken in the same order, since rounding
    would tell the difference.
    """
    starts = range(0, len(ids), n_micro)

    def work(worker):
        loss, gradients = 0.0, None
        for start in starts[worker::n_workers]:
            rows = slice(start, start + n_micro)
            part, new = loss_and_gradients(params, ids[rows], targets[rows], n_head, dropout,
                                           [*seed, start, 1], n_tokens=ids.size)
            loss, gradients = loss + part, add_gradients(gradients, new)
        return loss, gradients

    losses, gradients = zip(*workers(work, range(min(n_workers, len(starts)))), strict=True)
    total = None
    for share in gradients:
        total = add_gradients(total, share)
    return sum(losses), total


def add_gradients(total, new):
    """total + new, in the memory of total; new itself where there is none yet."""
    if total is None:
        return new
    arrays = flatten_params(new)
    for name, array in flatten_params(total).items():
        array += arrays[name]
    return total


def negative_log_likelihood(params, ids, n_head, n_seq, workers=map, stop=None):
    """How surprised the model is by ids [n_ids], in nats in total: -Σ log p(ids[t] | before) over
    all but the first. The text is cut into windows of n_seq tokens, and each token is predicted
    from those before it in its window. When stop, a threading.Event, is set, the rest is left out
    and the result is NaN."""
    ids = np.asarray(ids)
    starts = range(0, len(ids) - 1, n_seq)

    def work(start):
        if stop is not None and stop.is_set():
            return math.nan
        inputs = ids[start:min(start + n_seq, len(ids) - 1)]
        targets = ids[start + 1:start + n_seq + 1]
        logs = log_softmax(gpt2(inputs, **params, n_head=n_head))
        return -float(np.take_along_axis(logs, targets[..., None], axis=-1).sum(dtype=np.float64))

    return sum(workers(work, starts))


STATE, LOG = "training.npz", "log.jsonl"  # in the model's folder, beside the model's own files
SAMPLE_TOKENS = 60


def train(settings, data, state):
    """Train until the last step or until Ctrl-C, and save; return whether it was the last step.

    settings  the options of the command line, a dict; never changed
    data      {"encoder", "hparams", "train", "val": ids, "val_bytes"}
    state     {"params", "moments", "step", "losses", "seconds"}: all that changes, in place
    """
    n_steps, n_tokens = settings["n_steps"], settings["batch_size"] * settings["n_seq"]
    began = time.monotonic() - state["seconds"]
    reuse_memory()
    saved = save(settings, data, state)
    log = begin_log(settings, state["step"])
    with (stoppable() as stop, ThreadPoolExecutor(settings["threads"]) as pool,
          progress_bar(settings, state["step"]) as bar):
        if state["step"] == 0:
            evaluate(settings, data, state, pool, log, bar, stop)
        while state["step"] < n_steps:
            loss, norm, lr = one_step(settings, data, state, pool)
            for what, value in (("loss", loss), ("gradient", norm)):
                if not math.isfinite(value):
                    raise TrainError(diverged(settings, state["step"] + 1, what, value, saved))
            state["step"] += 1
            state["losses"].append(loss)
            state["seconds"] = time.monotonic() - began
            with contextlib.suppress(OSError):      # the terminal may be gone
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                bar.update(n_tokens)
            done = state["step"] == n_steps
            if done or state["step"] % settings["log_every"] == 0:
                write_log(log, step=state["step"], tokens=state["step"] * n_tokens,
                          loss=mean(state["losses"]), norm=norm, lr=lr, seconds=state["seconds"])
                state["losses"].clear()
            if done or state["step"] % settings["eval_every"] == 0:
                evaluate(settings, data, state, pool, log, bar, stop)
            last = done or stop.is_set()      # asked once: a signal may come at any moment
            if last or state["step"] % settings["save_every"] == 0:
                saved = save(settings, data, state, saved, bar, must=last)
            if last:
                break
    return state["step"] == n_steps


def one_step(settings, data, state, pool):
    """Loss, gradient, clipping, AdamW: (loss, the gradient's length before clipping, rate).

    Where the loss or the gradient is not a finite number, nothing is changed.
    """
    step, seed, params = state["step"], settings["seed"], state["params"]
    inputs, targets = batch(data["train"], settings["n_seq"], settings["batch_size"], step, seed)
    loss, gradients = share_out(
        params, inputs, targets, data["hparams"]["n_head"], settings["micro_batch"],
        settings["dropout"], [seed, step], pool.map, settings["threads"])
    norm = clip_gradients(gradients, settings["clip"])
    lr = learning_rate(step, settings["n_steps"], settings["lr"], settings["warmup"],
                       settings["final_lr"])
    if math.isfinite(loss + norm):
        adamw(params, gradients, state["moments"], step, lr,
              (settings["beta_1"], settings["beta_2"]),
              weight_decay=settings["weight_decay"], workers=pool.map)
    return loss, norm, lr


def diverged(settings, step, what, value, saved):
    out, lr = settings["out"], settings["lr"]
    if saved is None:
        return f"the {what} of the first weights is {value}; they are damaged"
    return (f"the {what} became {value} in step {step}; the checkpoint of step {saved} in {out} is "
            f"good: go on from it with --init-from {out}, another --out, and an --lr below {lr}")


def evaluate(settings, data, state, pool, log, bar, stop):
    """Measure the loss on held-out text and let the model speak, unless there is no time left."""
    n_seq, n_head = settings["n_seq"], data["hparams"]["n_head"]
    nats = negative_log_likelihood(state["params"], data["val"], n_head, n_seq, pool.map, stop)
    if not math.isfinite(nats):
        return
    bits = nats / math.log(2) / data["val_bytes"]
    write_log(log, step=state["step"], val_loss=nats / (len(data["val"]) - 1), bits_per_byte=bits)
    left = ""
    if state["step"] and state["step"] < settings["n_steps"]:
        left = f", {duration((settings['n_steps'] / state['step'] - 1) * state['seconds'])} left"
    report(bar, f"step {state['step']} of {settings['n_steps']}, {duration(state['seconds'])}: "
                f"{bits:.4f} bits per byte held out{left}")
    report(bar, f"    {speak(settings, data, state)!r}")


def speak(settings, data, state):
    """A sample: the prompt and what follows it."""
    encoder, n_ctx = data["encoder"], data["hparams"]["n_ctx"]
    prompt = (encoder.encode(settings["sample"]) or [encoder.eot or 0])[-n_ctx:]
    new = generate(prompt, state["params"], data["hparams"]["n_head"],
                   min(SAMPLE_TOKENS, max(1, n_ctx - len(prompt))), temperature=0.8, top_k=40,
                   rng=[settings["seed"], state["step"], 2])
    return encoder.decode([*prompt, *new])


def report(bar, text):
    """A line above the progress bar."""
    with contextlib.suppress(OSError):
        bar.write(text, file=sys.stderr)


def save(settings, data, state, saved=None, bar=None, must=True):
    """Write the training state and the model into the folder; return the step they are of.

    The state is one file, renamed when it is whole, and is written first: whatever happens, what
    lies there can be gone on from. Where it cannot be written and need not be (must), training goes
    on and the next attempt may succeed. Weights that give no finite loss are not saved over ones
    that do. Raises TrainError.
    """
    folder, n_head = Path(settings["out"]), data["hparams"]["n_head"]
    some = data["val"][:settings["n_seq"] + 1]
    loss = negative_log_likelihood(state["params"], some, n_head, settings["n_seq"])
    if not math.isfinite(loss):
        raise TrainError(diverged(settings, state["step"], "held-out loss", loss, saved))
    part = folder / f"{STATE}.tmp"
    arrays = {"params": flatten_params(state["params"]), **state["moments"]}
    about = {"settings": settings, "hparams": data["hparams"], "step": state["step"],
             "losses": state["losses"], "seconds": state["seconds"],
             "encoder": data["encoder"].encoder, "bpe_merges": data["encoder"].bpe_merges}
    try:
        check_fits(state["params"], settings["dtype"])
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with open(part, "wb") as file:
                np.savez(file, about=json.dumps(about),
                         **{f"{kind}/{name}": array for kind in arrays
                            for name, array in arrays[kind].items()})
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, folder / STATE)
        finally:
            part.unlink(missing_ok=True)
        save_model(folder, data["encoder"], data["hparams"], state["params"], settings["dtype"])
        return state["step"]
    except (OSError, EncoderError, CheckpointError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        if must:
            kept = "" if saved is None else f"; the last checkpoint is of step {saved}"
            raise TrainError(f"cannot save in {folder}: {reason}{kept}") from error
        report(bar, f"step {state['step']}: cannot save in {folder}: {reason}; training goes on, "
                    f"the last checkpoint is of step {saved}")
        return saved


def load_state(folder):
    """What `save` wrote: (settings, encoder, state). Raises TrainError."""
    path = Path(folder, STATE)
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            tensors = {kind: {name.partition("/")[2]: file[name] for name in file.files
                              if name.startswith(f"{kind}/")} for kind in ("params", "m", "v")}
        encoder = Encoder(about["encoder"], [tuple(pair) for pair in about["bpe_merges"]])
        state = {"params": nest_params(tensors["params"], about["hparams"]),
                 "moments": {"m": tensors["m"], "v": tensors["v"]},
                 **{name: about[name] for name in ("step", "losses", "seconds")}}
        return about["settings"], encoder, state
    except FileNotFoundError:
        raise TrainError(f"{path} is not there; --resume needs the folder that a training run "
                         "wrote with --out") from None
    except Exception as error:      # damaged bytes make NumPy and zipfile raise a dozen kinds
        raise TrainError(f"{path} cannot be read: {one_line(error)}; start again from the model "
                         "beside it with --init-from") from error


@contextlib.contextmanager
def only_run(folder):
    """TrainError where another process is training in this folder."""
    path = Path(folder, "training.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        if not try_lock(file):
            raise TrainError(f"another run is writing to {folder}; wait for it or stop it")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):      # Windows removes no open file
                path.unlink()


def begin_log(settings, step):
    """The path of the log, in which nothing is left of steps after this one. Raises TrainError."""
    path = Path(settings["out"], LOG)
    lines = []
    try:
        if step > 0 and path.exists():
            for line in path.read_text("utf-8", errors="replace").splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):   # a damaged line
                    if json.loads(line)["step"] <= step:
                        lines.append(line)
        write_whole({path: "".join(f"{line}\n" for line in lines).encode()})
    except OSError as error:
        raise TrainError(f"cannot write {path}: {error.strerror}") from error
    return path


def write_log(path, **record):
    """Add a line of JSON; a full disk costs the line, not the run."""
    record = {name: value if isinstance(value, int) else float(f"{value:.6g}")
              for name, value in record.items()}
    with contextlib.suppress(OSError), open(path, "ab+") as log:
        log.seek(max(0, log.tell() - 1))
        if log.read(1) not in (b"", b"\n"):      # a line that the disk had no room for
            log.write(b"\n")
        log.write(json.dumps(record).encode() + b"\n")


def progress_bar(settings, step):
    """tqdm, counting tokens; nothing but the evaluations where stderr is not a terminal."""
    from tqdm import tqdm

    n_tokens = settings["batch_size"] * settings["n_seq"]
    return tqdm(total=settings["n_steps"] * n_tokens, initial=step * n_tokens, unit=" tokens",
                unit_scale=True, file=sys.stderr, disable=None, dynamic_ncols=True)


@contextlib.contextmanager
def stoppable():
    """An event that Ctrl-C sets, so that the step under way is finished and everything saved; a
    second Ctrl-C stops without saving. The same for the signals that end background jobs and that a
    closed terminal sends (unless nohup has it ignored)."""
    stop = threading.Event()

    def handle(number, frame):
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        say("\nfinishing this step, then saving; once more stops without saving")

    if threading.current_thread() is not threading.main_thread():
        yield stop                                 # only the main thread may handle signals
        return
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [getattr(signal, name) for name in names]
    if names[-1] == "SIGHUP" and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        del numbers[-1]
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def mean(values):
    return sum(values) / len(values)


def duration(seconds):
    """3725 to "1 h 02 min", 80 to "1 min 20 s"."""
    seconds = round(seconds)
    if seconds >= 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02} min"
    return f"{seconds // 60} min {seconds % 60:02} s"


SIZES = ("n_vocab", "n_ctx", "n_embd", "n_head", "n_layer")
MINUTES = dict(
    n_vocab=1024, n_ctx=128, n_embd=160, n_head=5, n_layer=4, batch_size=16, n_steps=2000, lr=3e-3,
    warmup=100, final_lr=0.0, weight_decay=0.1, beta_1=0.9, beta_2=0.95, clip=1.0, dropout=0.0,
    seed=0, sample="Once upon a time", dtype="float32", eval_every=250, save_every=250,
    log_every=10)
TALES = dict(
    MINUTES, n_vocab=2048, n_ctx=256, n_embd=256, n_head=4, batch_size=8, n_steps=8000, lr=1.5e-3,
    warmup=300, beta_2=0.99, dtype="float16", eval_every=500, log_every=20)
TUNE = {name: value for name, value in MINUTES.items() if name not in SIZES} | dict(
    batch_size=8, n_steps=200, lr=3e-4, warmup=20, dropout=0.1, eval_every=50, save_every=100)
PRESETS = {"minutes": MINUTES, "tales": TALES, "tune": TUNE}


def new_run(given):
    """(settings, data, state) of a run that begins with these options, a dict of those given.

    What can be wrong is found here, before any long work: TrainError, EncoderError, ModelError.
    """
    source = given.get("init_from")
    settings = {**PRESETS[given.get("preset", "tune" if source else "minutes")], **given}
    settings.update(corpus=absolute(given["corpus"]), val=absolute(given.get("val")))
    encoder = get_encoder(given["vocab_from"]) if "vocab_from" in given else None
    if source is not None:
        vocabulary = encoder
        encoder, hparams, params = load_encoder_hparams_and_params(source)
        for name in SIZES:
            settings[name] = same_size(given, name, hparams[name], source)
        if vocabulary is not None and (vocabulary.encoder != encoder.encoder
                                       or vocabulary.bpe_ranks != encoder.bpe_ranks):
            raise TrainError(f"the vocabulary in {given['vocab_from']} does not fit the model "
                             f"{source}, which has its own; leave out --vocab-from")
    elif encoder is not None:
        settings["n_vocab"] = same_size(given, "n_vocab", encoder.n_vocab, given["vocab_from"])
    if "warmup" not in given:      # a run cut short with --n-steps must still reach its peak
        settings["warmup"] = min(settings["warmup"], settings["n_steps"] // 10)
    complete(settings)
    texts = read_texts(settings)
    check_folder(given["out"])
    if encoder is None:
        say(f"learning a vocabulary of {settings['n_vocab']:,} tokens")
        encoder = train_bpe(texts[0], settings["n_vocab"])
    data = encode_texts(settings, encoder, texts)
    announce(settings, data)      # before a model is made that may not fit into memory
    if source is None:
        params = init_params(data["hparams"], settings["seed"])
    params = writable(params, data["hparams"])
    state = dict(params=params, moments=new_moments(params), step=0, losses=[], seconds=0.0)
    return settings, data, state


def resumed_run(given):
    """(settings, data, state) of a run that goes on where its last checkpoint was written."""
    folder = given["resume"]
    settings, encoder, state = load_state(folder)
    for name, value in given.items():
        if name in ("corpus", "val"):
            settings[name] = absolute(value)
        elif name in ("out", "dtype"):
            settings[name] = value
        elif name != "resume" and settings.get(name) != value:
            raise TrainError(f"--{name.replace('_', '-')} {value} is not what the run in {folder} "
                             f"began with, {settings.get(name)}; leave it out")
    settings["out"] = folder
    if state["step"] >= settings["n_steps"]:
        raise TrainError(f"the run in {folder} is complete, at step {state['step']}; to train its "
                         f"model further, give --init-from {folder} and another --out")
    if not Path(settings["corpus"]).exists():
        raise TrainError(f"the text is no longer in {settings['corpus']}; say where it is: "
                         f"python train.py TEXT --resume {folder}")
    before = settings["sha256"]
    texts = read_texts(settings)
    for path, old, new in zip((settings["corpus"], settings["val"]), before, settings["sha256"],
                              strict=True):
        if old != new:
            raise TrainError(f"the text in {path or settings['corpus']} is not the one that the "
                             f"run in {folder} began with; give the path of that one")
    data = encode_texts(settings, encoder, texts)
    announce(settings, data)
    say(f"going on after step {state['step']}")
    return settings, data, state


def check_folder(folder):
    """TrainError where there is a model already, or where nothing can be written."""
    folder, probe = Path(folder), Path(folder, "training.tmp")
    try:
        if (folder / STATE).exists():
            raise TrainError(f"{folder} already holds a model; give another --out, or go on with "
                             f"--resume {folder}")
        if (folder / "hparams.json").exists():
            raise TrainError(f"{folder} already holds a model; give another --out")
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
        if is_new:
            folder.rmdir()
    except OSError as error:
        raise TrainError(f"cannot write to {folder}: {error.strerror}") from error


def absolute(path):
    return None if path is None else os.path.abspath(os.path.expanduser(path))


def same_size(given, name, size, source):
    """The size that comes with a model or vocabulary; none other may be asked for."""
    if given.get(name, size) != size:
        raise TrainError(f"--{name.replace('_', '-')} {given[name]} does not fit {source}, which "
                         f"has {size}; leave it out")
    return size


def complete(settings):
    """Fill in what depends on other options, and check what must fit together."""
    settings["threads"] = min(settings.get("threads", n_cores()), settings["batch_size"])
    settings.setdefault("n_seq", settings["n_ctx"])
    share = math.ceil(settings["batch_size"] / settings["threads"])
    settings.setdefault("micro_batch", max(1, min(256 // settings["n_seq"], share)))
    if settings["n_seq"] > settings["n_ctx"]:
        raise TrainError(f"--n-seq {settings['n_seq']} is more than the model's context, "
                         f"{settings['n_ctx']}")
    if settings["n_seq"] < settings["n_ctx"] and "init_from" not in settings:
        raise TrainError(f"--n-seq {settings['n_seq']} would leave the positions after it "
                         f"untrained; give --n-ctx {settings['n_seq']} instead")
    if settings["n_embd"] % settings["n_head"]:
        raise TrainError(f"--n-embd {settings['n_embd']} cannot be divided among --n-head "
                         f"{settings['n_head']}")


def n_cores():
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def writable(params, hparams):
    """Copies of all parameters: those of a model folder are its file, which is only read."""
    return nest_params({name: np.array(array) for name, array in flatten_params(params).items()},
                       hparams)


def read_texts(settings):
    """(text to train on, held-out text); notes in the settings what they are, for --resume.

    Without --val the end of the text is held out: a twentieth, but at most 100,000 characters, from
    where a line or at least a word begins.
    """
    text = read_text(settings["corpus"])
    if settings["val"] is not None:
        texts = text, read_text(settings["val"])
    else:
        n_held_out = min(len(text) // 20, 100_000)
        place = len(text) - n_held_out
        near = text[place:place + n_held_out // 5]
        cut = place + max(0, near.find("\n") if "\n" in near else near.find(" "))
        texts = text[:cut], text[cut:]
    settings["sha256"] = [hashlib.sha256(part.encode("utf-8")).hexdigest() for part in texts]
    return texts


def read_text(path):
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise TrainError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise TrainError(
            f"{path}: not UTF-8 from byte {error.start} on; save it as UTF-8") from None
    if not text.strip():
        raise TrainError(f"{path} is empty")
    return text.replace("\r\n", "\n")


def encode_texts(settings, encoder, texts):
    """The data of a run: its vocabulary and sizes, and both texts as ids."""
    special = () if encoder.eot is None else {END_OF_TEXT}
    ids = [np.array(encoder.encode(text, special), np.int32) for text in texts]
    n_seq = settings["n_seq"]
    if len(ids[0]) <= n_seq:
        raise TrainError(
            f"{settings['corpus']}: {len(ids[0])} tokens to train on are not enough for a single "
            f"context of {n_seq} and the token after it; give a longer text or a smaller "
            f"{'--n-seq' if 'init_from' in settings else '--n-ctx'}")
    if len(ids[1]) < 2:
        raise TrainError("the held-out text is shorter than two tokens; give one with --val")
    hparams = {name: settings[name] for name in SIZES}
    n_bytes = [len(text.encode("utf-8")) for text in texts]
    return {"encoder": encoder, "hparams": hparams, "train": ids[0], "train_bytes": n_bytes[0],
            "val": ids[1], "val_bytes": n_bytes[1]}


def announce(settings, data):
    """Say what is about to happen, while it can still be stopped; TrainError without the memory."""
    hparams, n_steps = data["hparams"], settings["n_steps"]
    n_tokens = settings["batch_size"] * settings["n_seq"]
    n_epoch = windows(len(data["train"]), settings["n_seq"])[0] / settings["batch_size"]
    needed = training_memory(settings, hparams)
    say(f"model: {n_parameters(hparams):,} parameters: {hparams['n_layer']} layers of "
        f"{hparams['n_embd']} features, {hparams['n_head']} heads, context {hparams['n_ctx']}, "
        f"vocabulary {hparams['n_vocab']:,}")
    say(f"text: {len(data['train']):,} tokens from {data['train_bytes']:,} bytes; held out: "
        f"{len(data['val']):,} tokens from {data['val_bytes']:,} bytes")
    say(f"batch: {settings['batch_size']} × {settings['n_seq']} = {n_tokens:,} tokens a step, "
        f"{n_epoch:,.1f} steps an epoch; {n_steps:,} steps are {n_steps * n_tokens:,} tokens, "
        f"{n_steps / n_epoch:.1f} epochs")
    say(f"memory: about {readable(needed)}; {settings['threads']} threads, each "
        f"{settings['micro_batch']} × {settings['n_seq']} tokens at a time")
    total, available = memory()
    if total is not None and total < needed:
        raise TrainError(f"training needs {readable(needed)} of memory, and this computer has "
                         f"{readable(total)}; take a smaller model, --batch-size, --n-seq or "
                         "--threads")
    if available is not None and available < needed:
        say(f"only {readable(available)} of memory are available: it may be very slow")


def training_memory(settings, hparams):
    """Bytes, about: of the weights, AdamW's two moments and the gradients, of which each thread has
    its own, and new ones beside those it adds them to; of what a forward pass keeps for the
    backward pass; of Python and the text."""
    n_embd, n_seq, threads = hparams["n_embd"], settings["n_seq"], settings["threads"]
    sets = 2 if settings["batch_size"] > threads * settings["micro_batch"] else 1
    weights = n_parameters(hparams) * (3 + sets * threads)
    layer = 22 * n_embd + hparams["n_head"] * n_seq
    position = (hparams["n_layer"] + 2) * layer + 4 * hparams["n_vocab"]
    activations = threads * settings["micro_batch"] * n_seq * position
    ids = 2 * settings["batch_size"] * n_seq      # of eight bytes
    return 4 * (weights + activations + 2 * ids) + 190 * 10**6


USAGE = """\
Train a GPT-2 on a text, in plain NumPy. The result is a model folder that speaks:

  python train.py story.txt --out models/mine
  python gpt2_numpy.py --model ./models/mine "Once upon a time"
"""

EXAMPLES = """\
examples:
  python train.py story.txt --out models/mine                      from scratch, in ten minutes
  python train.py story.txt --out models/mine --init-from tales    go on from the bundled model
  python train.py story.txt --out models/mine --init-from 124M --n-seq 128 --batch-size 2
  python train.py --resume models/mine                             after Ctrl-C, or a power cut

Ctrl-C finishes the step, saves, and says how to go on. The folder holds, beside the model,
log.jsonl with a line of JSON for every --log-every steps (step, tokens, loss in nats per token, the
gradient's norm before clipping, learning rate, seconds) and for every evaluation (val_loss in nats
per token, bits_per_byte), and training.npz, which --resume needs and generating does not."""


def argument_parser():
    """The options, explained in the field's terms; those that are not given are not set."""
    parser = OneLineParser(
        prog="train.py", description=USAGE, epilog=EXAMPLES, argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("corpus", nargs="?", metavar="TEXT",
        help="a text file in UTF-8; <|endoftext|> in it separates documents")
    add("--out", metavar="FOLDER", help="where the model is written; it must not hold one yet")
    add("--resume", metavar="FOLDER", nargs="?", const="",
        help="go on with the run that was writing to this folder, or to that of --out; its "
             "settings are kept, only the place of the text and --dtype may be given anew")
    add("--val", metavar="TEXT",
        help="held-out text for the evaluations (default: the last twentieth of the text, but at "
             "most 100,000 characters)")
    add("--preset", choices=PRESETS,
        help="a set of defaults: minutes (the default; a small model, about ten minutes on two "
             "cores), tales (the bundled model, hours), tune (with --init-from: a few minutes)")

    group = parser.add_argument_group("model")
    add = group.add_argument
    add("--init-from", metavar="MODEL",
        help="fine-tuning: begin with the weights, sizes and vocabulary of tales, 124M or another "
             "model, or of a model folder")
    add("--vocab-from", metavar="FOLDER",
        help="take encoder.json and vocab.bpe from this folder instead of learning a vocabulary")

    def number(name, convert, text, unit=None):
        key = name.replace("-", "_")
        values = {preset: PRESETS[preset][key] for preset in PRESETS if key in PRESETS[preset]}
        default = ", ".join(f"{preset} {value}" for preset, value in values.items())
        if len(set(values.values())) == 1:
            default = values["minutes"]
        add(f"--{name}", type=convert, metavar=unit or "N", help=f"{text} (default: {default})")

    number("n-vocab", whole, "tokens in the vocabulary that is learned by byte-pair encoding")
    number("n-ctx", whole, "context: the positions that the model can attend to")
    number("n-embd", whole, "features at each position of the residual stream")
    number("n-head", whole, "attention heads in each layer; n_embd is divided among them")
    number("n-layer", whole, "layers, each of attention and feed-forward network")
    number("dtype", str, "float32, or float16 for weights half as large on disk", "TYPE")

    add = parser.add_argument_group("optimisation").add_argument
    number("n-steps", whole, "updates of the weights")
    number("batch-size", whole, "sequences in each step")
    add("--n-seq", type=whole, metavar="N", help="tokens in each sequence (default: the context)")
    number("lr", above_zero, "learning rate at its peak", "R")
    number("warmup", whole_or_zero, "steps in which the learning rate rises to its peak")
    number("final-lr", zero_or_more, "what the learning rate falls to, along a cosine", "R")
    number("weight-decay", zero_or_more, "AdamW's decay of all matrices, decoupled", "W")
    number("beta-1", below_one, "AdamW's memory of the gradient's mean", "B")
    number("beta-2", below_one, "AdamW's memory of the gradient's square", "B")
    number("clip", above_zero, "longest gradient: norm to which a longer one is scaled", "NORM")
    number("dropout", below_one, "probability of zeroing an activation in training", "P")
    number("seed", whole_or_zero, "start of all random numbers", "S")

    add = parser.add_argument_group("running").add_argument
    number("eval-every", whole, "steps between two evaluations, each with a sample")
    number("save-every", whole, "steps between two checkpoints")
    number("log-every", whole, "steps that a line of the log takes the mean loss of")
    number("sample", str, "the prompt of the samples", "PROMPT")
    add("--threads", type=whole, metavar="N",
        help="threads that share each batch out (default: the processor's cores)")
    add("--micro-batch", type=whole, metavar="N",
        help="sequences that a thread processes at once; gradients accumulate over the batch, so "
             "this changes memory and speed, and nothing else but the numbers that dropout draws "
             "(default: 256 tokens' worth, at least 1)")
    return parser


def whole(text):
    return checked(int(text), lambda value: value > 0, "a whole number above 0")


def whole_or_zero(text):
    return checked(int(text), lambda value: value >= 0, "a whole number from 0 on")


def above_zero(text):
    return checked(float(text), lambda value: 0 < value < math.inf, "a number above 0")


def zero_or_more(text):
    return checked(float(text), lambda value: 0 <= value < math.inf, "a number from 0 on")


def below_one(text):
    return checked(float(text), lambda value: 0 <= value < 1, "a number from 0 on and below 1")


def checked(value, is_right, what):
    if not is_right(value):
        raise argparse.ArgumentTypeError(f"{value} is not {what}")
    return value


def parse_arguments(argv):
    """The options that were given, a dict; what is wrong with them ends the program in one line."""
    parser = argument_parser()
    given = vars(parser.parse_args(argv))
    if "resume" in given:
        given["resume"] = given["resume"] or given.get("out", "")
        if given.get("out", given["resume"]) != given["resume"]:
            parser.error("--resume and --out name two folders; give one of them")
    elif "corpus" not in given:
        parser.error("which text? give the path of a text file")
    elif "out" not in given:
        parser.error("where to? give the model's folder with --out, such as --out models/mine")
    for name in ("out", "resume"):
        if given.get(name) == "":
            parser.error(f"--{name} is empty; give the path of a folder")
    if given.get("dtype", "float32") not in ("float32", "float16"):
        parser.error("--dtype is float32 or float16")
    if given.get("n_vocab", 257) < 257:
        parser.error(f"--n-vocab is at least 257: 256 bytes and {END_OF_TEXT}")
    if given.get("preset") == "tune" and "init_from" not in given:
        parser.error("--preset tune needs a model to begin with; give one with --init-from")
    try:
        given.get("sample", "").encode("utf-8")
    except UnicodeEncodeError:
        parser.error("--sample is not UTF-8")
    return given


def main(argv=None):
    """The command line. Returns the exit status; whatever is wrong is one line on stderr."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")
    given = parse_arguments(argv)
    folder = given["resume"] if "resume" in given else given["out"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)      # what matters is a TrainError
            settings, data, state = resumed_run(given) if "resume" in given else new_run(given)
            with only_run(folder):
                done = train(settings, data, state)
    except KeyboardInterrupt:
        saved = Path(folder, STATE).exists()
        say(f"stopped without saving; {folder} holds the last checkpoint" if saved
            else "stopped; nothing was written yet")
        return 130
    except (TrainError, GPT2Error, EncoderError, ModelError) as error:
        return fail(error)
    except OSError as error:
        return fail(f"{error.filename or folder}: {error.strerror}")
    except MemoryError:
        return fail("not enough memory; take a smaller model, --micro-batch or --threads")
    if not done:
        say(f"stopped after step {state['step']}, saved; go on with: python train.py --resume "
            f"{shlex.quote(folder)}")
        return 130
    path = folder if os.path.dirname(folder) else os.path.join(".", folder)
    say(f"done; hear it with: python gpt2_numpy.py --model {shlex.quote(path)} "
        f"{shlex.quote(settings['sample'])}")
    return 0


def fail(error):
    say(f"train.py: {error}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
