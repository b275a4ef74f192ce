"""A run before its next step: a new one, or one that goes on; and what is said about it."""

import math
import os
import shlex
from pathlib import Path

import numpy as np

from command_line.best import mend_best
from command_line.corpus import encode_texts, hash_texts, read_texts
from command_line.process import count_cores
from command_line.run_folder import check_folder
from command_line.run_state import (
    State,
    go_on,
    holds_model,
    is_finished,
    load,
    spell_resume,
    write_model,
    write_state,
)
from command_line.settings import CHANGEABLE, PRESETS, flatten_settings, nest_settings
from encoder import EncoderError, get_encoder, train_bpe
from files.huggingface import is_huggingface
from files.memory import measure_memory, measure_resident
from files.messages import notice, one_line, readable
from files.openai_folder import is_outdated
from train import TrainError, count_windows, init_params, learning_rate, new_moments
from utils import (
    SIZES,
    ModelError,
    load_encoder_hparams_and_params,
    load_huggingface_encoder,
    n_parameters,
    tree_map,
)


def begin_run(chosen):
    """(settings, corpus, state) of a run that begins with the options chosen, {name: value}.

    What can be wrong is found here, before any long work: TrainError, EncoderError, ModelError.
    """
    check_folder(chosen["out"])
    source = chosen.get("init_from")
    options = {**PRESETS[chosen.get("preset", "tune" if source else "minutes")], **chosen}
    encoder = read_vocabulary(chosen["vocab_from"]) if "vocab_from" in chosen else None
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
    if encoder is None:
        encoder = learn_vocabulary(texts[0], settings.n_vocab)
    corpus = encode_texts(encoder, texts, settings)
    announce(settings, corpus)  # before a model is made that may not fit into memory
    if source is None:
        params = init_params(settings.hparams, settings.optimisation.seed)
    else:
        params = tree_map(np.array, params)  # a copy: a model's weights are its file, only read
    return settings, corpus, State(params, new_moments(params))


def read_vocabulary(folder):
    """The Encoder of --vocab-from. TrainError."""
    try:
        if is_huggingface(Path(folder)):
            return load_huggingface_encoder(Path(folder))
        return get_encoder(folder)
    except (EncoderError, ModelError, OSError) as error:
        raise TrainError(
            f"{one_line(error)}; give --vocab-from a folder that has a vocabulary's encoder.json "
            "and vocab.bpe, or tokenizer.json"
        ) from error


def learn_vocabulary(text, n_vocab):
    """The Encoder that is learned from a text. TrainError, which has the option's name."""
    notice(f"learning a vocabulary of {n_vocab:,} tokens")
    try:
        return train_bpe(text, n_vocab)
    except EncoderError as error:
        raise TrainError(one_line(error).replace("n_vocab=", "--n-vocab ")) from error


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
    for name in ("corpus", "val"):  # for a run that is resumed in another folder
        if name in options:
            options[name] = os.path.abspath(options[name])
    if "warmup" not in chosen:  # a run cut short with --n-steps must still reach its peak
        options["warmup"] = min(options["warmup"], options["n_steps"] // 10)
    options["threads"] = min(options.get("threads", count_cores()), options["batch_size"])
    options.setdefault("n_seq", options["n_ctx"])
    share = math.ceil(options["batch_size"] / options["threads"])
    options.setdefault("micro_batch", max(1, min(256 // options["n_seq"], share)))
    return options


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
    """(settings, corpus, state) of a run that goes on where its last checkpoint was written.

    The corpus is None where the run is complete; then its model is brought up to date, or it is a
    TrainError, like anything that is wrong.
    """
    folder = chosen["resume"]
    before, encoder, state = load(folder)
    settings = change_settings(before, chosen, state.step)
    if is_finished(settings, state):
        mend_model(before, settings, encoder, state)
        return settings, None, state
    if settings.keep_best:
        mend_best(folder)
    corpus = find_corpus(settings, encoder)
    announce(settings, corpus)
    announce_changes(before, settings, state.step)
    notice(f"going on after step {state.step}")
    return settings, corpus, state


def change_settings(before, chosen, step):
    """The settings of a run, with what was chosen anew after so many steps: what only concerns
    running, how long, and the place of the text. TrainError for everything else."""
    options = flatten_settings(before)
    for name, value in chosen.items():
        if name in ("corpus", "val"):
            options[name] = os.path.abspath(value)
        elif name in CHANGEABLE:
            options[name] = value
        elif name not in ("resume", "out") and options[name] != value:
            raise TrainError(
                f"--{name.replace('_', '-')} {value} is not what the run in {before.out} began "
                f"with, {options[name]}; leave it out"
            )
    options["threads"] = min(options["threads"], options["batch_size"])
    if options["n_steps"] != before.optimisation.n_steps and options["n_steps"] <= step:
        raise TrainError(
            f"--n-steps {options['n_steps']}: the run in {before.out} has taken {step} steps; give "
            "a higher number"
        )
    return nest_settings(options)


def mend_model(before, settings, encoder, state):
    """Bring the model of a complete run up to date with its state, and with its dtype where that
    has changed; TrainError where it is so already, or cannot be written."""
    folder = settings.out
    if holds_model(settings, encoder, state.params) and not is_outdated(Path(folder)):
        raise TrainError(
            f"the run in {folder} is complete, at step {state.step}; to train its model further, "
            "give a higher --n-steps, or another text and --out with --init-from "
            f"{shlex.quote(folder)}"
        )
    try:
        if settings.dtype != before.dtype:
            write_state(settings, encoder, state)
        write_model(settings, encoder, state)
    except TrainError as error:
        raise TrainError(f"{error}; {go_on(settings, error)}") from error
    notice(f"the run in {folder} is complete; its model was written anew, as of step {state.step}")


def find_corpus(settings, encoder):
    """The Corpus of a run that goes on; TrainError unless it is the one that it began with."""
    if not Path(settings.corpus).exists():
        raise TrainError(
            f"the text is no longer in {settings.corpus}; say where it is: "
            f"{spell_resume(settings, text='TEXT')}"
        )
    texts = read_texts(settings.corpus, settings.val)
    paths = (settings.corpus, settings.val or settings.corpus)
    for path, before, now in zip(paths, settings.sha256, hash_texts(texts), strict=True):
        if before != now:
            raise TrainError(
                f"the text in {path} is not the one that the run in {settings.out} began with; "
                "give the path of that one"
            )
    return encode_texts(encoder, texts, settings)


def announce_changes(before, settings, step):
    """Say what a run that goes on does from here on that it would not have done, where the options
    do not say so themselves."""
    old, s = before.optimisation, settings.optimisation
    if s.n_steps != old.n_steps:
        rate, was = schedule(s, step), schedule(old, max(0, step - 1))
        last = f"; it was {was:.3g} in step {step}" if step > 0 else ""
        notice(
            f"{s.n_steps:,} steps instead of {old.n_steps:,}: from here on the learning rate is "
            f"that of a run of {s.n_steps:,}, {rate:.3g} in step {step + 1}{last}"
        )
    if count_shares(s) != count_shares(old):
        notice(
            f"--threads {s.threads} instead of {old.threads}: gradients are added up in another "
            "order, and the numbers will differ, in their last digits at first, from those of a "
            "run that never changed"
        )


def schedule(s, step):
    """The learning rate of a step, counted from 0."""
    return learning_rate(step, s.n_steps, s.lr, s.warmup, s.final_lr)


def count_shares(s):
    """How many sums of gradients are added up in the end."""
    return min(s.threads, math.ceil(s.batch_size / s.micro_batch))


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
        f"learning rate: up to {s.lr:g} in {s.warmup:,} steps, then down to {s.final_lr:g} along a "
        "cosine"
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
    """Bytes that a run comes to hold, about: 16 that were measured on Linux, of 44 MB to 1.2 GB,
    held 12 % less to 9 % more.

    What the process holds already, with the text; weights, AdamW's two moments, and the gradients,
    of which each thread has its own, and new ones beside those it adds them to (the embedding's are
    a sum of two); what a forward pass keeps for the backward pass; what is left free in between.
    """
    s = settings
    sets = 2 if s.batch_size > s.threads * s.micro_batch else 1
    embedding = hparams["n_vocab"] * hparams["n_embd"]
    weights = n_parameters(hparams) * (3 + sets * s.threads) + s.threads * embedding
    scores = hparams["n_head"] * s.n_seq
    layers = hparams["n_layer"] * (22 * hparams["n_embd"] + scores) + 2 * scores
    position = layers + 5 * hparams["n_vocab"]
    activations = s.threads * s.micro_batch * s.n_seq * position
    ids = 4 * s.batch_size * s.n_seq  # inputs and targets, of eight bytes
    held = measure_resident() or 60 * 10**6
    return held + 4 * (weights + activations + ids) + 10**7
