"""How probable texts are: --score."""

import math
from dataclasses import dataclass

import numpy as np

from command_line.explain import spell
from command_line.pace import keep_choosing
from command_line.records import rounded, write_record
from command_line.stream import write
from gpt2_numpy import GPT2Error, log_probs

N_POSITIONS = 256  # of all texts that are scored side by side: the logits of more fill the memory
N_SORTED = 256  # texts, among which those of like lengths are looked for


@dataclass
class Score:
    """What the tokens after the first of a text amount to, or those of several texts."""

    total: float = 0.0  # log-probability, in nats
    n_tokens: int = 0
    n_bytes: int = 0

    def __add__(self, other):
        return Score(
            self.total + other.total, self.n_tokens + other.n_tokens, self.n_bytes + other.n_bytes
        )

    @property
    def bits_per_byte(self):
        return -self.total / math.log(2) / self.n_bytes if self.n_bytes else None

    @property
    def perplexity(self):
        """Infinite where it is too large for a float."""
        return float(np.exp(-self.total / self.n_tokens)) if self.n_tokens else None


def sum_up(encoder, ids, logs):
    """The Score of a text's ids, of which logs are the log-probabilities after the first."""
    n_bytes = len(encoder.decode_bytes(ids[1:]))
    return Score(float(np.sum(logs, dtype=np.float64)), len(logs), n_bytes)


def write_scores(encoder, params, n_head, ids, advance):
    """Write each token's log-probability, given those before it, to stdout as soon as it is known;
    then their sum, the perplexity and the bits per byte. ids: two or more. advance(n): told of n
    tokens more."""
    unwritten = iter(ids[1:])
    lines = [
        f"{'log p':>9}  {'p':>8}  {'id':>6}  token\n",
        f"{'-':>9}  {'-':>8}  {ids[0]:>6}  {spell(encoder, ids[0])}\n",
    ]
    choose_threads = keep_choosing()
    choose_threads()

    def write_lines(logs):
        for log_p in logs.tolist():
            token_id = next(unwritten)
            p, token = math.exp(log_p), spell(encoder, token_id)
            lines.append(f"{log_p:9.4f}  {p:8.2%}  {token_id:>6}  {token}\n")
        write("".join(lines))
        lines.clear()
        advance(len(logs))
        choose_threads()

    score = sum_up(encoder, ids, log_probs(ids, params, n_head, watch=write_lines))
    tokens = "token" if score.n_tokens == 1 else "tokens"
    write(
        f"{score.total:9.4f}  nats in total for the {score.n_tokens} {tokens} after the first\n"
        f"{score.perplexity:9.4f}  perplexity, exp(-total / {score.n_tokens})\n"
        f"{score.bits_per_byte:9.4f}  bits per byte, -total / ln 2 / {score.n_bytes}\n"
    )


def require_two(ids):
    """GPT2Error where a text has no token that another stands before."""
    if len(ids) < 2:
        raise GPT2Error(
            "--score needs a prompt of two tokens or more; nothing comes before the first that "
            "could predict it"
        )


def score_all(texts, params, n_head, advance):
    """Yield the log-probabilities of each of the texts, [[id, ...], ...], in order: [n_seq - 1], of
    a single token or none []. advance(n): told of n tokens more.

    Texts of like lengths are scored side by side, filled up behind their ends, where no token that
    counts can see it. One that is longer than the context is scored alone: where the model begins
    anew with the newest half of it depends on where the text ends.
    """
    choose_threads = keep_choosing()
    for begin in range(0, len(texts), N_SORTED):
        window = texts[begin : begin + N_SORTED]
        logs = [np.empty(0)] * len(window)
        for group in group_by_length(window, n_ctx=len(params["wpe"])):
            choose_threads()
            longest = len(window[group[-1]])
            ids = np.zeros((len(group), longest), int)
            for row, i in enumerate(group):
                ids[row, : len(window[i])] = window[i]
            is_alone = len(group) == 1
            watch = (lambda known: advance(known.shape[-1])) if is_alone else None
            of_group = log_probs(ids, params, n_head, watch)
            for row, i in enumerate(group):
                logs[i] = of_group[row, : len(window[i]) - 1]
                advance(0 if is_alone else len(logs[i]))
        yield from logs


def group_by_length(texts, n_ctx):
    """The places of the texts that have two tokens or more, in groups [[place, ...], ...] that can
    be scored side by side; the longest of each group comes last."""
    places = [place for place, ids in enumerate(texts) if len(ids) > 1]
    places.sort(key=lambda place: len(texts[place]))
    groups = []
    while places:
        longest = len(texts[places[-1]])
        n_rows = 1 if longest - 1 > n_ctx else max(1, N_POSITIONS // min(longest, 64))
        n_group = sum(2 * len(texts[place]) > longest for place in places[-n_rows:])
        groups.append(places[-n_group:])
        del places[-n_group:]
    return groups


def write_all_scores(encoder, prompts, texts, logs):
    """Write a line for each of the texts, with ids [[id, ...], ...]: total, bits per byte,
    perplexity; and a last one for all of them."""
    columns = f"{'log p':>11}  {'bits/byte':>9}  {'perplexity':>10}  {'tokens':>7}  {'bytes':>8}"
    write(f"{columns}  text\n")
    whole = Score()
    for prompt, ids, of_text in zip(prompts, texts, logs, strict=True):
        score = sum_up(encoder, ids, of_text)
        whole += score
        write(format_score(score, shorten(prompt.text)))
    write(format_score(whole, f"(all {len(prompts)} texts)"))


def format_score(score, text):
    """A line of the table."""
    if not score.n_tokens:
        numbers = f"{'-':>11}  {'-':>9}  {'-':>10}"
    else:
        numbers = f"{score.total:11.4f}  {score.bits_per_byte:9.4f}  {score.perplexity:10.4f}"
    return f"{numbers}  {score.n_tokens:>7}  {score.n_bytes:>8}  {text}\n"


def shorten(text, n=40):
    """The beginning of a text in quotes."""
    return repr(text if len(text) <= n else text[: n - 3] + "...")


def record_scores(encoder, prompts, texts, logs, model):
    """Write a line of JSON for each of the texts."""
    for prompt, ids, of_text in zip(prompts, texts, logs, strict=True):
        score = sum_up(encoder, ids, of_text)
        perplexity = score.perplexity or math.inf
        write_record(
            **prompt.further,
            prompt=prompt.text,
            ids=ids,
            log_probs=rounded(map(float, of_text)),
            total=round(score.total, 6),
            n_bytes=score.n_bytes,
            bits_per_byte=None if not score.n_tokens else round(score.bits_per_byte, 6),
            perplexity=round(perplexity, 6) if math.isfinite(perplexity) else None,
            model=model,
        )
