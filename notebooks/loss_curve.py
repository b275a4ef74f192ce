"""Draw the log of a training run: the loss of each step's batch and of the held-out text.

    pip install matplotlib
    python notebooks/loss_curve.py models/mine

writes models/mine/loss.png. The losses are in bits per byte, so that runs with other vocabularies
can be compared: nats per token, over the bytes that a token of the held-out text stands for.
"""

import argparse
import json
import sys
from pathlib import Path

try:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
except ModuleNotFoundError as error:
    sys.exit(f"loss_curve.py: {error.name} is not installed; pip install matplotlib")


def draw(folder, path):
    log = Path(folder, "log.jsonl")
    if not log.is_file():
        raise SystemExit(f"{log} is not there; give the folder that train.py wrote to")
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    steps = [line for line in lines if "loss" in line]
    held_out = [line for line in lines if "bits_per_byte" in line]
    if not steps or not held_out:
        raise SystemExit(f"{log} has no steps yet")
    last = held_out[-1]
    bits = last["bits_per_byte"] / last["val_loss"]  # per byte, of a nat per token
    n_tokens = steps[-1]["tokens"] / steps[-1]["step"] / 1e6

    figure, axes = plt.subplots(figsize=(7, 4), dpi=120)
    axes.plot(
        [line["tokens"] / 1e6 for line in steps],
        [line["loss"] * bits for line in steps],
        color="#88bbdd",
        linewidth=0.8,
        marker="." if len(steps) < 20 else None,
        label="training batches",
    )
    axes.plot(
        [line["step"] * n_tokens for line in held_out],
        [line["bits_per_byte"] for line in held_out],
        "o-",
        color="#aa3300",
        markersize=3,
        label=f"held-out text, at the end {last['bits_per_byte']:.3f}",
    )
    low = min(line["bits_per_byte"] for line in held_out)
    axes.set_ylim(0.9 * low, min(1.8 * low, 1.1 * held_out[0]["bits_per_byte"]))
    axes.set_xlabel("million tokens")
    axes.set_ylabel("loss (bits per byte)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", help="a folder that train.py wrote")
    parser.add_argument("--to", help="the picture (default: loss.png in the folder)")
    arguments = parser.parse_args()
    path = arguments.to or Path(arguments.folder, "loss.png")
    draw(arguments.folder, path)
    print(path)


if __name__ == "__main__":
    main()
