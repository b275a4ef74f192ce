"""Draw the log of a training run: the loss of each step's batch and of the held-out text.

    pip install matplotlib
    python notebooks/loss_curve.py models/mine

writes models/mine/loss.png. The losses are in bits per byte, so that runs with other vocabularies
can be compared: nats per token, over the bytes that a token of the held-out text stands for.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

if __name__ == "__main__":
    try:
        sys.modules.pop("command_line", None)  # of another program
        from command_line import forget_namesakes

        forget_namesakes()
        from command_line.launch import end_now, on_ctrl_c

        on_ctrl_c(end_now)  # matplotlib's import would make another error of it
    except KeyboardInterrupt:
        raise SystemExit(130) from None

import contextlib
import importlib
import io
import json
import signal
from pathlib import Path

from command_line.errors import end_output, fail, report_stop, survive_closed_stderr
from command_line.launch import on_ctrl_c
from command_line.options import OneLineParser
from files.messages import one_line
from files.whole import write_whole

PROGRAM = "loss_curve.py"


class CurveError(Exception):
    """A log that cannot be drawn, or a picture that cannot be written: one line that says why."""


def main():
    """Run the command line; return the exit status. Whatever is wrong is one line on stderr."""
    survive_closed_stderr()
    parser = OneLineParser(prog=PROGRAM, description=__doc__.split("\n")[0])
    parser.add_argument("folder", metavar="FOLDER", help="a folder that train.py wrote")
    parser.add_argument("--to", metavar="FILE", help="the picture (default: FOLDER/loss.png)")
    arguments = parser.parse_args()
    folder = Path(os.path.expanduser(arguments.folder))
    path = Path(os.path.expanduser(arguments.to)) if arguments.to else folder / "loss.png"
    try:
        steps, held_out = read_losses(folder / "log.jsonl")
        write_picture(draw(steps, held_out), path)
        with contextlib.suppress(AttributeError):  # a shell has closed it
            sys.stdout.reconfigure(errors="surrogateescape")  # a path may be any bytes
        print(path, flush=True)
        return 0
    except KeyboardInterrupt:
        return report_stop()
    except CurveError as error:
        return fail(PROGRAM, error)
    except OSError as error:
        return end_output(PROGRAM, error)


def read_losses(path):
    """(steps, evaluations) that a log tells of: lists of dicts. Lines that are damaged, or whose
    values are not what a log holds, are left out. CurveError where one of both is empty."""
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except OSError as error:
        raise CurveError(
            f"{path}: {error.strerror}; give the folder that train.py wrote to"
        ) from None
    records = []
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            records.append(json.loads(line))
    steps = [record for record in records if is_positive(record, "step", "tokens", "loss")]
    held_out = [
        record
        for record in records
        if is_positive(record, "bits_per_byte", "val_loss")
        and (record.get("step") == 0 or is_positive(record, "step"))
    ]
    if not steps or not held_out:
        raise CurveError(
            f"{path} has no steps and evaluations yet; wait until train.py has logged some"
        )
    return steps, held_out


def is_positive(record, *names):
    """Whether a record is a dict with a number above 0, and neither NaN nor beyond all measure,
    under each of these names."""
    values = [record.get(name) for name in names] if isinstance(record, dict) else [None]
    return all(isinstance(value, int | float) and 0 < value < 1e18 for value in values)


def draw(steps, held_out):
    """The figure."""
    figure_class = import_matplotlib().Figure
    last = held_out[-1]
    bits = last["bits_per_byte"] / last["val_loss"]  # per byte, of a nat per token
    n_tokens = steps[-1]["tokens"] / steps[-1]["step"] / 1e6

    figure = figure_class(figsize=(7, 4), dpi=120)
    axes = figure.subplots()
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
    return figure


def import_matplotlib():
    """matplotlib.figure. CurveError."""
    os.environ["MPLBACKEND"] = "agg"  # no window
    try:
        return importlib.import_module("matplotlib.figure")
    except Exception as error:  # a broken package raises whatever it likes
        if isinstance(error, ModuleNotFoundError) and error.name == "matplotlib":
            raise CurveError("matplotlib is not installed; pip install matplotlib") from None
        raise CurveError(
            f"matplotlib cannot be imported ({one_line(error)}); "
            "pip install --force-reinstall matplotlib"
        ) from None


def write_picture(figure, path):
    """Write the figure in the format that the name's extension says. CurveError."""
    if path.is_dir():
        raise CurveError(f"{path} is a folder; give a file in it, such as --to {path / 'loss.png'}")
    extension = path.suffix[1:].lower()
    if extension not in figure.canvas.get_supported_filetypes():
        raise CurveError(f"{path}: no format for pictures is called {extension!r}; take .png")
    picture = io.BytesIO()
    try:
        figure.savefig(picture, format=extension)
    except Exception as error:  # some formats need programs that may be missing
        raise CurveError(f"{path}: {one_line(error)}; take .png") from None
    on_ctrl_c(signal.default_int_handler)  # so that what is half written is removed
    try:
        write_whole({path: picture.getvalue()})
    except OSError as error:
        raise CurveError(f"{path}: {error.strerror}; give another place with --to") from None


if __name__ == "__main__":
    raise SystemExit(main())
