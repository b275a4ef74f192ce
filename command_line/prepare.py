"""A run before its next step: a new one, or one that goes on; and what is said about it."""

import math
import os
from pathlib import Path

import numpy as np

from command_line.corpus import encode_texts, hash_texts, read_texts
from command_line.process import count_cores
from command_line.run_state import State, check_folder, load
from command_line.settings import PRESETS, flatten_settings, nest_settings
from encoder import get_encoder, train_bpe
from files.memory import measure_memory
from files.messages import notice, readable
from train import TrainError, count_windows, init_params, new_moments
from utils import SIZES, load_encoder_hparams_and_params, n_parameters, tree_map


def begin_run(chosen):
    """(settings, corpus, state) of a run that begins with the options chosen, {name: value}.

    What can be wrong is found here, before any long work: TrainError, EncoderError, ModelError.
    """
    source = chosen.get("init_from")
    options = {**PRESETS[chosen.get("preset", "tune" if source else "minutes")], **chosen}
    encoder = get_encoder(chosen["vocab_from"]) if "vocab_from" in chosen else None
    if source is not None:
        vocabulary = encoder
        encoder, hparams, params = load_encoder_hparams_and_params(source)
        for name in SIZES:
            options[name] = require_size(chosen, name, hparams[name], source)
        if vocabulary is not None and (
            vocabulary.encoder != encoder.encoder or vocabulary.bpe_ranks != encoder.bpe_ranks
        ):
            raise TrainError(
                f"the vocabulary in {chosen['vocab_from']} does not fit the model {source}, which "
                "has its own; leave out --vocab-from"
            )
    elif encoder is not None:
        options["n_vocab"] = require_size(chosen, "n_vocab", encoder.n_vocab, chosen["vocab_from"])
    settings = nest_settings(fill_in(options, chosen))
    check_sizes(settings)
    texts = read_texts(settings.corpus, settings.val)
    settings.sha256 = hash_texts(texts)
    check_folder(settings.out)
    if encoder is None:
        notice(f"learning a vocabulary of {settings.n_vocab:,} tokens")
        encoder = train_bpe(texts[0], settings.n_vocab)
    corpus = encode_texts(encoder, texts, settings)
    announce(settings, corpus)  # before a model is made that may not fit into memory
    if source is None:
        params = init_params(settings.hparams, settings.optimisation.seed)
    else:
        params = tree_map(np.array, params)  # a copy: a model's weights are its file, only read
    return settings, corpus, State(params, new_moments(params))


def require_size(chosen, name, size, source):
    """The size that comes with a model or vocabulary; none other may be asked for."""
    if chosen.get(name, size) != size:
        raise TrainError(
            f"--{name.replace('_', '-')} {chosen[name]} does not fit {source}, which has {size}; "
            "leave it out"
        )
    return size


def fill_in(options, chosen):
    """The options, with those that depend on others where they were not given."""
    options = dict(options)
    for name in ("corpus", "val"):
        if name in options:
            options[name] = make_absolute(options[name])
    if "warmup" not in chosen:  # a run cut short with --n-steps must still reach its peak
        options["warmup"] = min(options["warmup"], options["n_steps"] // 10)
    options["threads"] = min(options.get("threads", count_cores()), options["batch_size"])
    options.setdefault("n_seq", options["n_ctx"])
    share = math.ceil(options["batch_size"] / options["threads"])
    options.setdefault("micro_batch", max(1, min(256 // options["n_seq"], share)))
    return options


def make_absolute(path):
    """The path as it is from everywhere, for a run that is resumed in another folder."""
    return os.path.abspath(os.path.expanduser(path))


def check_sizes(settings):
    """TrainError where the model's sizes do not fit together."""
    n_seq, n_ctx = settings.optimisation.n_seq, settings.n_ctx
    if n_seq > n_ctx:
        raise TrainError(f"--n-seq {n_seq} is more than the model's context, {n_ctx}")
    if n_seq < n_ctx and settings.init_from is None:
        raise TrainError(
            f"--n-seq {n_seq} would leave the positions after it untrained; give --n-ctx {n_seq} "
            "instead"
        )
    if settings.n_embd % settings.n_head:
        raise TrainError(
            f"--n-embd {settings.n_embd} cannot be divided among --n-head {settings.n_head}"
        )


def resume_run(chosen):
    """(settings, corpus, state) of a run that goes on where its last checkpoint was written."""
    folder = chosen["resume"]
    settings, encoder, state = load(folder)
    began_with = flatten_settings(settings)
    for name, value in chosen.items():
        if name in ("corpus", "val"):
            setattr(settings, name, make_absolute(value))
        elif name == "dtype":
            settings.dtype = value
        elif name not in ("resume", "out") and began_with[name] != value:
            raise TrainError(
                f"--{name.replace('_', '-')} {value} is not what the run in {folder} began with, "
                f"{began_with[name]}; leave it out"
            )
    settings.out = folder
    if state.step >= settings.optimisation.n_steps:
        raise TrainError(
            f"the run in {folder} is complete, at step {state.step}; to train its model further, "
            f"give --init-from {folder} and another --out"
        )
    if not Path(settings.corpus).exists():
        raise TrainError(
            f"the text is no longer in {settings.corpus}; say where it is: "
            f"python train.py TEXT --resume {folder}"
        )
    texts = read_texts(settings.corpus, settings.val)
    paths = (settings.corpus, settings.val or settings.corpus)
    for path, before, now in zip(paths, settings.sha256, hash_texts(texts), strict=True):
        if before != now:
            raise TrainError(
                f"the text in {path} is not the one that the run in {folder} began with; give the "
                "path of that one"
            )
    corpus = encode_texts(encoder, texts, settings)
    announce(settings, corpus)
    notice(f"going on after step {state.step}")
    return settings, corpus, state


def announce(settings, corpus):
    """Say what is about to happen, while it can still be stopped; TrainError without the memory."""
    hparams, s = settings.hparams, settings.optimisation
    n_tokens = settings.tokens_per_step
    n_epoch = count_windows(len(corpus.train), s.n_seq)[0] / s.batch_size
    needed = estimate_memory(hparams, s)
    notice(
        f"model: {n_parameters(hparams):,} parameters: {hparams['n_layer']} layers of "
        f"{hparams['n_embd']} features, {hparams['n_head']} heads, context {hparams['n_ctx']}, "
        f"vocabulary {hparams['n_vocab']:,}"
    )
    notice(
        f"text: {len(corpus.train):,} tokens from {corpus.train_bytes:,} bytes; held out: "
        f"{len(corpus.val):,} tokens from {corpus.val_bytes:,} bytes"
    )
    notice(
        f"batch: {s.batch_size} × {s.n_seq} = {n_tokens:,} tokens a step, {n_epoch:,.1f} steps an "
        f"epoch; {s.n_steps:,} steps are {s.n_steps * n_tokens:,} tokens, "
        f"{s.n_steps / n_epoch:.1f} epochs"
    )
    notice(
        f"memory: about {readable(needed)}; {s.threads} threads, each {s.micro_batch} × {s.n_seq} "
        "tokens at a time"
    )
    total, available = measure_memory()
    if total is not None and total < needed:
        raise TrainError(
            f"training needs {readable(needed)} of memory, and this computer has "
            f"{readable(total)}; take a smaller model, --batch-size, --n-seq or --threads"
        )
    if available is not None and available < needed:
        notice(f"only {readable(available)} of memory are available: it may be very slow")


def estimate_memory(hparams, settings):
    """Bytes, about: of the weights, AdamW's two moments and the gradients, of which each thread has
    its own, and new ones beside those it adds them to; of what a forward pass keeps for the
    backward pass; of Python and the text."""
    s = settings
    sets = 2 if s.batch_size > s.threads * s.micro_batch else 1
    weights = n_parameters(hparams) * (3 + sets * s.threads)
    layer = 22 * hparams["n_embd"] + hparams["n_head"] * s.n_seq
    position = (hparams["n_layer"] + 2) * layer + 4 * hparams["n_vocab"]
    activations = s.threads * s.micro_batch * s.n_seq * position
    ids = 2 * s.batch_size * s.n_seq  # of eight bytes
    return 4 * (weights + activations + 2 * ids) + 190 * 10**6
