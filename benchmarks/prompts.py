"""How fast many prompts of different lengths are continued side by side, as by --prompts.

Beside the same prompts one after the other, and Hugging Face transformers on PyTorch, in one run:

    pip install -r requirements.txt torch transformers
    python benchmarks/prompts.py

48 prompts of 4 to 120 random tokens, 40 tokens after each, greedily, random weights at the shape of
124M. transformers continues batches of sixteen, filled up on the left. The sides take turns, in
processes of their own; medians over the rounds are compared.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from inference import HPARAMS, ROOT, Side, worker

N_PROMPTS, N_TOKENS, N_ROWS = 48, 40, 16
WAYS = ("side by side", "one by one", "transformers")


def draw_prompts():
    import numpy as np

    rng = np.random.default_rng(0)
    lengths = rng.integers(4, 121, N_PROMPTS)
    return [rng.integers(0, HPARAMS["n_vocab"] - 1, n).tolist() for n in lengths]


def ours(folder):
    """Our side: returns `measure(n_rows)`, which continues all prompts, 0 being one by one."""
    sys.path.insert(0, str(ROOT))
    from command_line.pace import KeepPace, keep_choosing
    from command_line.process import blas_threads, reuse_memory
    from command_line.side_by_side import continue_all
    from gpt2_numpy import generate
    from utils import load_params

    params, n_head, prompts = load_params(folder / "tf", HPARAMS), HPARAMS["n_head"], draw_prompts()
    reuse_memory()

    class Vocabulary:  # what a Continuation needs of one: no token ends a text, none has a text
        eot = None

        def decode_bytes(self, ids):
            return b""

    def measure(n_rows):
        start, n = time.perf_counter(), 0
        with blas_threads(None):
            if n_rows:
                settings = dict(n_rows=n_rows, between_steps=keep_choosing())
                for _, (sample,) in continue_all(
                    prompts, Vocabulary(), params, n_head, N_TOKENS, **settings
                ):
                    n += len(sample.ids)
            else:
                for ids in prompts:
                    steps = generate(ids, params, n_head, N_TOKENS)
                    n += len(list(KeepPace(steps, len(ids))))
        return {"rate": n / (time.perf_counter() - start)}

    return measure, None


def peer(folder):
    """The other side: transformers' generate, in batches of n_rows."""
    import torch
    from transformers import GPT2LMHeadModel

    torch.set_num_threads(os.cpu_count())
    model = GPT2LMHeadModel.from_pretrained(folder / "transformers").eval()
    prompts = draw_prompts()

    def measure(n_rows):
        start = time.perf_counter()
        for first in range(0, len(prompts), n_rows):
            texts = prompts[first : first + n_rows]
            longest = max(map(len, texts))
            ids = torch.tensor([[0] * (longest - len(text)) + text for text in texts])
            mask = torch.tensor([[0] * (longest - len(text)) + [1] * len(text) for text in texts])
            model.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=N_TOKENS,
                min_new_tokens=N_TOKENS,
                do_sample=False,
                pad_token_id=0,
            )
        return {"rate": len(prompts) * N_TOKENS / (time.perf_counter() - start)}

    return measure, None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker({"ours": ours, "peer": peer}[arguments.worker], arguments.folder)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script = Path(__file__).with_name("inference.py")
        make = [sys.executable, script, "--worker", "make", "--folder", folder]
        subprocess.run(make, check=True)
        here, there = (Side(__file__, name, folder) for name in ("ours", "peer"))
        asked = {
            "side by side": (here, N_ROWS),
            "one by one": (here, 0),
            "transformers": (there, N_ROWS),
        }
        rates = {way: [] for way in WAYS}
        for _ in range(arguments.rounds):
            for way, (side, n_rows) in asked.items():
                rates[way].append(side.ask(n_rows)["rate"])
        for side in (here, there):
            side.close()
    medians = {way: statistics.median(rates[way]) for way in WAYS}
    for way, rate in medians.items():
        ratio = medians["side by side"] / rate
        print(f"{way:14} {rate:7.1f} tokens/s; side by side is {ratio:.2f} times as fast")


if __name__ == "__main__":
    main()
