"""What is done with prompts: they are continued or scored, one or many, as text or as JSON."""

import contextlib
import secrets
import sys
import time

import numpy as np

from command_line.explain import show_choices, show_tokens
from command_line.pace import KeepPace, keep_choosing
from command_line.process import blas_threads
from command_line.prompts import Prompt
from command_line.records import rounded, write_record
from command_line.score import record_scores, require_two, score_all, write_all_scores, write_scores
from command_line.side_by_side import continue_all
from command_line.stream import heading, stream, write
from encoder import EncoderError
from files.memory import measure_memory
from files.messages import notice, readable
from gpt2_numpy import GPT2Error, generate

N_ROWS = 16  # continuations that grow side by side, as far as there is memory for them


def answer(options, text, encoder, params, n_head):
    """Do with a prompt what the options ask for."""
    if text[-1:].isspace() and not options.score and not options.interactive:
        notice(
            "hint: the prompt ends in white space; most tokens bring the space before them, so the "
            "text usually goes on better without it (echo adds a line break, printf does not)"
        )
    if options.json:
        answer_all(options, [Prompt(text)], encoder, params, n_head)
        return
    ids = encoder.encode(text)
    if options.show_tokens:
        show_tokens(encoder, ids)
    with blas_threads(None):  # whatever is chosen meanwhile, the next prompt begins with all
        if options.score:
            require_two(ids)
            notice(f"scoring {len(ids)} tokens")
            with progress_of_results(len(ids) - 1, "tokens", come_steadily=True) as advance:
                write_scores(encoder, params, n_head, ids, advance)
        else:
            continue_prompt(options, text, ids or [text_begin(encoder)], encoder, params, n_head)


def continue_prompt(options, text, ids, encoder, params, n_head):
    """Generate what follows the prompt, and stream it."""
    n_positions = len(ids) + options.n_tokens
    of_text = memory_of_text(n_positions, params) + memory_to_reread(n_positions, params, n_head)
    require_room(options.n_samples, of_text)
    rng = np.random.default_rng(choose_seed(options))

    def explain(logits, chosen):
        show_choices(encoder, logits[0], int(chosen[0]))

    steps = generate(
        ids,
        params,
        n_head,
        options.n_tokens,
        options.temperature,
        options.top_k,
        options.top_p,
        rng,
        options.n_samples,
        watch=explain if options.explain else None,
    )
    steps = KeepPace(steps, len(ids))
    stream(encoder, text, len(ids), steps, options.n_samples, options.n_tokens, options.stop)


def answer_all(options, prompts, encoder, params, n_head):
    """Do with each of the prompts what the options ask for, side by side; results in order."""
    texts = [encode(encoder, prompt) for prompt in prompts]
    if options.show_tokens:
        for ids in texts:
            show_tokens(encoder, ids)
            notice("")
    with blas_threads(None):
        if options.score:
            n = sum(max(0, len(ids) - 1) for ids in texts)
            with progress_of_results(n, "tokens", come_steadily=False) as advance:
                logs = score_all(texts, params, n_head, advance)
                if options.json:
                    record_scores(encoder, prompts, texts, logs, options.model)
                else:
                    write_all_scores(encoder, prompts, texts, logs)
        else:
            texts = [ids or [text_begin(encoder)] for ids in texts]
            continue_prompts(options, prompts, texts, encoder, params, n_head)


def encode(encoder, prompt):
    """The ids of a Prompt; GPT2Error says which one has no UTF-8."""
    try:
        return encoder.encode(prompt.text)
    except EncoderError as error:
        raise GPT2Error(f"{prompt.where}{error}") from error


def text_begin(encoder):
    """The token that stands before a text, where there is no prompt. GPT2Error."""
    if encoder.eot is None:
        raise GPT2Error("this vocabulary has no <|endoftext|> to start from; give a prompt")
    return encoder.eot


def continue_prompts(options, prompts, texts, encoder, params, n_head):
    """Continue the prompts, with ids texts, side by side; write each when those before it are
    written."""
    seed, start = choose_seed(options), time.perf_counter()
    n_positions = max(map(len, texts)) + options.n_tokens
    n_rows = count_rows(len(texts), options.n_samples, n_positions, params)
    require_room(n_rows * options.n_samples, memory_of_text(n_positions, params))
    results = continue_all(
        texts,
        encoder,
        params,
        n_head,
        options.n_tokens,
        options.n_samples,
        options.stop,
        seed,
        n_rows,
        keep_choosing(),
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
    )
    n_tokens = 0
    with progress_of_results(len(prompts), "prompts", come_steadily=True) as advance:
        for place, samples in enumerate(in_order(results, advance)):
            write_result(options, seed, place, prompts, samples)
            n_tokens += sum(len(sample.ids) for sample in samples)
    if len(prompts) > 1:
        rate = n_tokens / (time.perf_counter() - start)
        notice(f"{n_tokens} tokens after {len(prompts)} prompts, {rate:.1f} tokens/s")


def in_order(numbered, advance):
    """The results of [(place, result), ...], which come in any order, in that of their places."""
    early, place = {}, 0
    for number, result in numbered:
        advance(1)
        early[number] = result
        while place in early:
            yield early.pop(place)
            place += 1


def write_result(options, seed, place, prompts, samples):
    """Write the continuations of a prompt."""
    prompt = prompts[place]
    for number, sample in enumerate(samples, start=1):
        if options.json:
            write_record(
                **prompt.further,
                prompt=prompt.text,
                sample=number,
                text=sample.text,
                ids=sample.ids,
                log_probs=rounded(sample.log_probs),
                finish_reason=sample.finish_reason,
                seed=seed,
                settings={
                    "model": options.model,
                    "n_tokens": options.n_tokens,
                    "temperature": options.temperature,
                    "top_k": options.top_k,
                    "top_p": options.top_p,
                    "stop": options.stop,
                },
            )
        else:
            places = ("prompt", place + 1, len(prompts)), ("sample", number, len(samples))
            between = "" if (place, number) == (0, 1) else "\n"
            write(f"{between}{heading(*places)}{prompt.text}{sample.text}\n")


def choose_seed(options):
    """The seed; where the user has not chosen one, and chance plays a part, a new one is told (in
    JSON, by its field)."""
    if options.seed is None and options.temperature > 0 and options.n_tokens > 0:
        seed = secrets.randbelow(2**32)
        if not options.json:
            notice(f"seed {seed}: the same with --seed {seed} repeats this text")
        return seed
    return options.seed


def memory_of_text(n_positions, params):
    """Bytes: of the keys and values of a text, and of its logits, which are sorted to draw."""
    n_vocab, n_embd = params["wte"].shape
    keys_and_values = 2 * len(params["blocks"]) * min(n_positions, len(params["wpe"])) * n_embd
    return (keys_and_values + 4 * n_vocab) * params["wte"].itemsize


def memory_to_reread(n_positions, params, n_head):
    """Bytes that a text takes meanwhile when the context is full and its newest half is read anew:
    128 positions at a time, their hidden activations, and their scores."""
    n_ctx, n_embd = params["wpe"].shape
    of_position = 16 * n_embd + 3 * n_head * n_ctx
    return 128 * of_position * params["wpe"].itemsize if n_positions > n_ctx else 0


def count_rows(n_prompts, n_samples, n_positions, params):
    """How many prompts are continued side by side: half of the memory there is should do."""
    n_rows = min(n_prompts, max(1, N_ROWS // n_samples))
    _, available = measure_memory()
    if available is not None:
        of_prompt = n_samples * memory_of_text(n_positions, params)
        n_rows = min(n_rows, max(1, available // 2 // of_prompt))
    return n_rows


def require_room(n_texts, of_text):
    """Refuse more texts side by side, of so many bytes each, than memory can ever hold; say where
    it is scarce."""
    needed = n_texts * of_text
    total, available = measure_memory()
    what = f"{n_texts} continuations side by side need {readable(needed)} of memory"
    advice = "ask for fewer with --n-samples, or for shorter ones with -n"
    if total is not None and total < needed:
        raise GPT2Error(f"{what}, and this computer has {readable(total)}; {advice}")
    if available is not None and available < needed:
        notice(f"{what}, only {readable(available)} are available: it may be very slow; {advice}")


def progress_of_results(n, unit, come_steadily):
    """Progress on stderr; none where results that come steadily show it on the same terminal. A bar
    would not go well with them there."""
    if (come_steadily and sys.stdout.isatty()) or n < 2:
        return contextlib.nullcontext(lambda n_more: None)
    from command_line.progress import progress  # not at the top: it takes a while, for short work

    return progress(n, unit, has_bar=not sys.stdout.isatty())
