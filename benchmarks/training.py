"""How fast a GPT-2 trains here, beside Hugging Face transformers on PyTorch, in one run.

    pip install -r requirements.txt torch transformers
    python benchmarks/training.py

Whole steps are timed: loss, gradients, clipping, and AdamW or Muon, for the same shapes and sizes
of batch, in float32 without dropout. Muon is for the matrices inside the blocks, with AdamW for the
rest; PyTorch's, torch.optim.Muon, rounds to bfloat16 before it makes them orthogonal, and takes
c_attn as one matrix, as transformers has it, where ours takes it as three. PyTorch runs eagerly
with as many threads as there are cores, and takes the batch at once or in parts, gradients
accumulated, and the faster way counts; ours shares it out among as many threads, each with a BLAS
of one. Each side runs in a process of its own that stays loaded; they take turns, so that whatever
else the machine is doing meets both, and medians over the rounds are compared.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

from inference import Side, median, peak_memory

ROOT = Path(__file__).resolve().parents[1]
SHAPES = {  # hparams, sequences in a batch, tokens in each, PyTorch's sequences at a time
    "6 layers × 192": ((2048, 256, 192, 6, 6), 24, 256, (4, 24)),
    "4 layers × 256": ((2048, 256, 256, 4, 4), 16, 256, (4, 16)),
    "12 layers × 768": ((50257, 1024, 768, 12, 12), 4, 256, (2, 4)),
}
OPTIMIZERS = ("adamw", "muon")


def ours(name, optimizer):
    sys.path.insert(0, str(ROOT))
    import numpy as np

    from command_line.process import count_cores, reuse_memory, set_blas_threads
    from train import Settings, init_params, train
    from utils import SIZES

    sizes, n_batch, n_seq, _ = SHAPES[name]
    hparams = dict(zip(SIZES, sizes, strict=True))
    settings = Settings(
        n_seq=n_seq,
        batch_size=n_batch,
        n_steps=10**6,
        optimizer=optimizer,
        lr=1e-4,
        muon_lr=1e-3,
        warmup=0,
        threads=count_cores(),
    )
    set_blas_threads(1)
    reuse_memory()
    ids = np.random.default_rng(0).integers(0, hparams["n_vocab"], 10**5)
    steps = train(init_params(hparams, 0), ids, hparams["n_head"], settings)
    return lambda _: next(steps)


def peer(name, optimizer):
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    (n_vocab, n_ctx, n_embd, n_head, n_layer), n_batch, n_seq, _ = SHAPES[name]
    torch.set_num_threads(os.cpu_count())
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=n_vocab,
            n_positions=n_ctx,
            n_embd=n_embd,
            n_head=n_head,
            n_layer=n_layer,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            use_cache=False,
            bos_token_id=0,
            eos_token_id=0,
        )
    )
    hidden = [p for p in model.transformer.h.parameters() if p.ndim > 1 and optimizer == "muon"]
    rest = [p for p in model.parameters() if all(p is not matrix for matrix in hidden)]
    optimizers = [torch.optim.AdamW(rest, lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1)]
    optimizers += [torch.optim.Muon(hidden, lr=1e-3)] * bool(hidden)
    text = torch.randint(n_vocab, (10**5,))

    def step(n_rows):
        starts = torch.randint(len(text) - n_seq - 1, (n_batch, 1)) + torch.arange(n_seq)
        model.zero_grad()
        for rows in starts.split(n_rows):
            logits = model(text[rows]).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), text[rows + 1].flatten())
            (loss * len(rows) / n_batch).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for each in optimizers:
            each.step()

    return step


def worker(kind, name):
    """Serve measurements to the parent: a line in, a line of JSON out."""
    side, optimizer = kind.split("-")
    step = {"ours": ours, "peer": peer}[side](name, optimizer)
    print(json.dumps({"load": 0}), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        step(int(line))
        n_tokens = SHAPES[name][1] * SHAPES[name][2]
        rate = n_tokens / (time.perf_counter() - start)
        print(json.dumps({"rate": rate, "memory": peak_memory()}), flush=True)


def compare(name, n_rounds):
    _, n_batch, n_seq, parts = SHAPES[name]
    print(f"{name}, batch of {n_batch} × {n_seq}")
    kinds = [f"{side}-{optimizer}" for optimizer in OPTIMIZERS for side in ("ours", "peer")]
    sides = {kind: Side(__file__, kind, name) for kind in kinds}
    rows = {(k, part): [] for k in kinds for part in (parts if k.startswith("peer") else (1,))}
    for _ in range(n_rounds + 1):  # the first round warms up
        for kind, part in rows:
            rows[kind, part].append(sides[kind].ask(part))
            time.sleep(0.2)  # the other side's threads go to sleep
    best = dict.fromkeys(kinds, 0.0)
    for (kind, part), measured in rows.items():
        side, optimizer = kind.split("-")
        peak = measured[-1 if side == "ours" else 0]["memory"]  # the peer's first is smaller
        title = side if side == "ours" else f"peer, {part} sequences at a time"
        rate = median(measured[1:], "rate")
        best[kind] = max(best[kind], rate)
        seconds = n_batch * n_seq / rate
        print(f"    {optimizer}, {title}: {rate:,.0f} tokens/s, {seconds:.2f} s a step, ", end="")
        print(f"peak memory {peak / 1e6:,.0f} MB")
    for optimizer in OPTIMIZERS:
        ratio = best[f"ours-{optimizer}"] / best[f"peer-{optimizer}"]
        print(f"    {optimizer}, tokens/s, ours to the peer: {ratio:.2f}")
    for side in ("ours", "peer"):
        ratio = best[f"{side}-adamw"] / best[f"{side}-muon"]
        print(f"    {side}, time of a step, muon to adamw: {ratio:.2f}")
    for side in sides.values():
        side.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return worker(arguments.worker, arguments.folder)
    for name in SHAPES:
        compare(name, arguments.rounds)


if __name__ == "__main__":
    main()
