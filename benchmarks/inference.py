"""How fast GPT-2 124M speaks here, beside Hugging Face transformers on PyTorch, in one run.

    pip install -r requirements.txt torch transformers
    python benchmarks/inference.py

Random weights at the 124M shape are written once as a TensorFlow checkpoint and once as
transformers' own file. Each side runs in a process of its own that stays loaded; they take turns,
so that whatever else the machine is doing meets both, and medians over the rounds are compared.
Both decode greedily with a key/value cache, in float32, and compute only the last logits.

Speed of decoding has a limit: every weight is read from memory once per token. The sweep measures
it, in the same rounds and the same process: one vector through every weight matrix by BLAS, and
nothing else.

Last, what the threads of BLAS are good for: one, all, or as command_line/pace.py chooses, while
nothing else runs, and while another program keeps one core busy.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HPARAMS = {"n_vocab": 50257, "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12}
PROMPTS = (32, 512)
N_DECODE = 64  # tokens after the first
N_SAMPLES = (1, 2, 3, 4, 6, 8, 16)  # side by side


def peak_memory():
    """Most memory this process ever had resident, mapped weights included, in bytes (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def prompt_ids(n):
    import numpy as np

    return np.random.default_rng(n).integers(0, HPARAMS["n_vocab"], n)


def timed_steps(steps):
    """Seconds until the first of `steps`, and tokens per second after it."""
    start = time.perf_counter()
    next(steps)
    first = time.perf_counter()
    n = sum(1 for _ in steps)
    return {"prompt": first - start, "decode": n / (time.perf_counter() - first)}


def ours(folder):
    """Our side: returns `measure(n_prompt)` and `sweep()`."""
    sys.path.insert(0, str(ROOT))
    import numpy as np

    from command_line.pace import KeepPace
    from command_line.process import blas_threads, get_blas_threads, reuse_memory
    from gpt2_numpy import generate
    from utils import load_params

    params = load_params(folder / "tf", HPARAMS)
    layers = [
        b[part][name]["w"]
        for b in params["blocks"]
        for part, name in (
            ("attn", "c_attn"),
            ("attn", "c_proj"),
            ("mlp", "c_fc"),
            ("mlp", "c_proj"),
        )
    ]
    matrices = [*layers, params["wte"].T]
    vectors = {n: np.ones((1, n), np.float32) for n in (768, 3072)}

    reuse_memory()
    n_most = get_blas_threads()

    def measure(n_prompt, n_decode, n_samples=0, n_threads=0):
        """n_threads: of BLAS; 0 is as the command line has it."""
        ids, n_head = prompt_ids(n_prompt), HPARAMS["n_head"]
        with blas_threads(n_threads or n_most):
            steps = generate(ids, params, n_head, n_decode + 1, n_samples=n_samples or None)
            return timed_steps(steps if n_threads else KeepPace(steps, n_prompt))

    def sweep():
        start = time.perf_counter()
        for _ in range(N_DECODE):
            for matrix in matrices:
                vectors[matrix.shape[0]] @ matrix
        seconds = (time.perf_counter() - start) / N_DECODE
        return {"tokens": 1 / seconds, "bandwidth": sum(m.nbytes for m in matrices) / seconds}

    return measure, sweep


def peer(folder):
    """The other side: transformers' GPT2LMHeadModel, stepped by hand (quicker than generate)."""
    import torch
    from transformers import GPT2LMHeadModel

    torch.set_num_threads(os.cpu_count())
    model = GPT2LMHeadModel.from_pretrained(folder / "transformers").eval()

    def steps(ids, n_decode):
        past = None
        for _ in range(n_decode + 1):
            out = model(ids, past_key_values=past, use_cache=True, logits_to_keep=1)
            ids, past = out.logits[:, -1:].argmax(-1), out.past_key_values
            yield ids

    def measure(n_prompt, n_decode):
        with torch.inference_mode():
            return timed_steps(steps(torch.from_numpy(prompt_ids(n_prompt))[None], n_decode))

    return measure, None


def worker(load, folder):
    """Serve measurements to the parent: a line in, a line of JSON out. load is `ours` or `peer`."""
    start = time.perf_counter()
    measure, sweep = load(folder)
    print(json.dumps({"load": time.perf_counter() - start}), flush=True)
    for line in sys.stdin:
        answer = sweep() if line.strip() == "sweep" else measure(*map(int, line.split()))
        print(json.dumps(answer | {"memory": peak_memory()}), flush=True)


class Side:
    """A worker process, seen from the parent."""

    def __init__(self, script, side, folder):
        command = [sys.executable, script, "--worker", side, "--folder", str(folder)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.load = self.read()["load"]

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a benchmark process died; its message stands above")
        return json.loads(line)

    def ask(self, *question):
        print(*question, file=self.process.stdin)
        self.process.stdin.flush()
        return self.read()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def make_models(folder):
    """The same random weights in TensorFlow's format and in transformers' own."""
    sys.path.insert(0, str(ROOT))
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from files.tf_checkpoint import write_checkpoint

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config())
    model.save_pretrained(folder / "transformers")
    tensors = {}
    for name, tensor in model.transformer.state_dict().items():
        scope, _, kind = name.rpartition(".")
        scope = scope.replace("h.", "h", 1) if scope.startswith("h.") else scope
        matrix = scope.endswith(("c_attn", "c_proj", "c_fc"))
        leaf = {"bias": "/b", "weight": "/w" if matrix else "/g"}[kind]
        if scope in ("wte", "wpe"):
            leaf = ""
        array = tensor.numpy()
        tensors[f"model/{scope.replace('.', '/')}{leaf}"] = array[None] if leaf == "/w" else array
    (folder / "tf").mkdir()
    write_checkpoint(folder / "tf" / "model.ckpt", tensors)
    (folder / "tf" / "hparams.json").write_text(json.dumps(HPARAMS))


def evict(path):
    """Drop a file from the page cache, so that the next reader waits for the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cold_start(folder):
    """Seconds from nothing to the first token while the weights are on disk only, and seconds that
    reading the file alone takes."""
    data = folder / "tf" / "model.ckpt.data-00000-of-00001"
    evict(data)
    start = time.perf_counter()
    side = Side(__file__, "ours", folder)
    side.ask(PROMPTS[0], 0)
    first_token = time.perf_counter() - start
    side.close()
    evict(data)
    start = time.perf_counter()
    buffer = bytearray(2**22)
    with open(data, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    return {"first_token": first_token, "read": time.perf_counter() - start}


def median(rows, key):
    return statistics.median(row[key] for row in rows)


def report(title, ours, peer, unit, better="higher"):
    ratio = ours / peer if better == "higher" else peer / ours
    print(f"{title:34} {ours:9.3f} {peer:9.3f}  {unit:9} {ratio:5.2f} times as good")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker == "make":
        return make_models(arguments.folder)
    if arguments.worker:
        return worker({"ours": ours, "peer": peer}[arguments.worker], arguments.folder)
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), arguments.rounds)


def compare(folder, n_rounds):
    subprocess.run(
        [sys.executable, __file__, "--worker", "make", "--folder", str(folder)], check=True
    )
    cold = [cold_start(folder) for _ in range(n_rounds)]
    sides = {name: Side(__file__, name, folder) for name in ("ours", "peer")}
    rows = {(name, n): [] for name in sides for n in PROMPTS}
    sweeps, samples = [], {n: [] for n in N_SAMPLES}
    for _ in range(n_rounds + 1):  # the first round warms up
        for n in PROMPTS:
            for name, side in sides.items():
                rows[name, n].append(side.ask(n, N_DECODE))
                time.sleep(0.2)  # the other side's threads go to sleep
        sweeps.append(sides["ours"].ask("sweep"))
        for n in N_SAMPLES:
            samples[n].append(n * sides["ours"].ask(PROMPTS[0], N_DECODE, n)["decode"])
    # The most that a process ever used: of the first round, in which the prompts grow.
    memory = {key: measured[0]["memory"] for key, measured in rows.items()}
    for measured in (*rows.values(), *samples.values(), sweeps):
        del measured[0]

    limit = median(sweeps, "tokens")
    weights = (folder / "tf" / "model.ckpt.data-00000-of-00001").stat().st_size
    print(f"{'':34} {'ours':>9} {'peer':>9}")
    for n in PROMPTS:
        ours, peer = rows["ours", n], rows["peer", n]
        report(
            f"decode after a prompt of {n}",
            median(ours, "decode"),
            median(peer, "decode"),
            "tokens/s",
        )
        report(f"prompt of {n}", median(ours, "prompt"), median(peer, "prompt"), "s", "lower")
    report("load", sides["ours"].load, sides["peer"].load, "s", "lower")
    report("peak memory", *(memory[name, PROMPTS[-1]] / 1e6 for name in sides), "MB", "lower")
    print(
        f"sweep of the weights through BLAS: {limit:.1f} tokens/s, "
        f"{median(sweeps, 'bandwidth') / 1e9:.1f} GB/s"
    )
    for n in PROMPTS:
        print(
            f"after a prompt of {n}: decoding at {median(rows['ours', n], 'decode') / limit:.0%} "
            f"of the sweep, peak memory {memory['ours', n] / weights:.2f} times the weights"
        )
    rates = ", ".join(f"{statistics.median(samples[n]):.0f} by {n}" for n in N_SAMPLES)
    print(f"samples side by side, tokens/s in total: {rates}")
    print(
        f"cold start: first token after {median(cold, 'first_token'):.2f} s, reading the file "
        f"alone {median(cold, 'read'):.2f} s"
    )
    compare_threads(sides["ours"], n_rounds)
    for side in sides.values():
        side.close()


def compare_threads(ours, n_rounds):
    """Decoding and a long prompt with one thread of BLAS, with all, and as the command line has it:
    on a quiet machine, and beside a program that keeps a core busy."""
    n_cores = os.cpu_count()
    ways = {"one thread": 1, f"{n_cores} threads": n_cores, "as pace.py chooses": 0}
    for title in ("quiet", "one core busy"):
        busy = [sys.executable, "-c", "while True: pass"]
        other = subprocess.Popen(busy) if title == "one core busy" else None
        try:
            decode, prompt = ({way: [] for way in ways} for _ in range(2))
            for _ in range(n_rounds):
                for way, n_threads in ways.items():
                    row = ours.ask(PROMPTS[0], 2 * N_DECODE, 0, n_threads)
                    decode[way].append(row["decode"])
                    prompt[way].append(ours.ask(PROMPTS[-1], 0, 0, n_threads)["prompt"])
        finally:
            if other is not None:
                other.kill()
        for way in ways:
            print(
                f"{title}, {way}: {statistics.median(decode[way]):.1f} tokens/s, a prompt of "
                f"{PROMPTS[-1]} in {statistics.median(prompt[way]):.2f} s"
            )


if __name__ == "__main__":
    main()
