"""What `python train.py` does: its options, and what is done with them."""

import argparse
import os
import shlex
import warnings
from pathlib import Path

from command_line.best import read_best
from command_line.errors import describe_import_error, fail, report_stop
from command_line.options import OneLineParser
from command_line.prepare import begin_run, resume_run
from command_line.process import blas_threads
from command_line.run import carry_out
from command_line.run_folder import BEST, check_resumable, lock_folder
from command_line.settings import CHOICES, MINUTES, NUMBERS, PRESETS
from command_line.version import describe_version
from encoder import END_OF_TEXT, EncoderError
from files.messages import notice, one_line
from files.openai_folder import STATE_FILE
from gpt2_numpy import GPT2Error
from train import TrainError
from utils import ModelError

PROGRAM = "train.py"
PATHS = {
    "corpus": "the path of a text file",
    "val": "the path of a text file",
    "out": "the path of a folder",
    "resume": "the path of a folder",
    "init_from": "a model's name or the path of its folder",
    "vocab_from": "the path of a folder",
}

USAGE = """\
%(prog)s TEXT --out FOLDER [options]
       %(prog)s --resume FOLDER [options]"""

DESCRIPTION = """\
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
  python train.py --resume models/mine --n-steps 4000              further than was planned

Ctrl-C finishes the step, saves, and says how to go on. The folder holds, beside the model,
log.jsonl with a line of JSON for every --log-every steps (step, tokens, loss in nats per token, the
gradient's norm before clipping, learning rate, seconds) and for every evaluation (val_loss in nats
per token, bits_per_byte), and training.npz, which --resume needs and generating does not."""


def make_parser():
    """The options, explained in the field's terms; those that are not given are not set."""
    parser = OneLineParser(
        prog=PROGRAM,
        usage=USAGE,
        description=DESCRIPTION,
        epilog=EXAMPLES,
        argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=describe_version(PROGRAM))
    group = parser.add_argument_group("text and folder")
    group.add_argument(
        "corpus",
        nargs="?",
        metavar="TEXT",
        help="a text file in UTF-8; <|endoftext|> in it separates documents",
    )
    group.add_argument(
        "--val",
        metavar="TEXT",
        help="held-out text for the evaluations (default: the last twentieth of the text, but at "
        "most 100,000 characters)",
    )
    group.add_argument(
        "--out", metavar="FOLDER", help="where the model is written; it must not hold one yet"
    )
    group.add_argument(
        "--resume",
        metavar="FOLDER",
        nargs="?",
        const="",
        help="go on with the run in this folder, or in that of --out; its settings are kept, but "
        'for the place of the text, --n-steps, --dtype and the options under "running"',
    )
    group.add_argument(
        "--preset",
        choices=PRESETS,
        help="a set of defaults: minutes (a small model, ten minutes on two cores), tales (the "
        "bundled model, hours), tune (with --init-from, where it is the default: a few minutes)",
    )

    group = parser.add_argument_group("model")
    group.add_argument(
        "--init-from",
        metavar="MODEL",
        help="fine-tuning: begin with the weights, sizes and vocabulary of tales, 124M or another "
        "model, or of a model folder",
    )
    group.add_argument(
        "--vocab-from",
        metavar="FOLDER",
        help="take encoder.json and vocab.bpe from this folder instead of learning a vocabulary",
    )
    add_option(group, "n-vocab", "tokens in the vocabulary that is learned by byte-pair encoding")
    add_option(group, "n-ctx", "context: the positions that the model can attend to")
    add_option(group, "n-embd", "features at each position of the residual stream")
    add_option(group, "n-head", "attention heads in each layer; n_embd is divided among them")
    add_option(group, "n-layer", "layers, each of attention and feed-forward network")
    add_option(group, "dtype", "float32, or float16 for weights half as large on disk", "TYPE")

    group = parser.add_argument_group("optimisation")
    add_option(group, "n-steps", "updates of the weights")
    add_option(group, "batch-size", "sequences in each step")
    add_option(group, "n-seq", "tokens in each sequence (default: the context)")
    add_option(
        group,
        "optimizer",
        "adamw; or muon, for the matrices inside the blocks, with AdamW for the rest: its steps "
        "take longer",
        "NAME",
    )
    add_option(group, "lr", "AdamW's learning rate at its peak", "R")
    add_option(group, "muon-lr", "Muon's, which rises and falls with it", "R")
    add_option(
        group,
        "warmup",
        "steps in which the learning rate rises to its peak; unless given, at most a tenth of all",
    )
    add_option(group, "final-lr", "what the learning rate falls to, along a cosine", "R")
    add_option(group, "weight-decay", "decay of all matrices, decoupled", "W")
    add_option(group, "beta-1", "AdamW's memory of the gradient's mean", "B")
    add_option(group, "beta-2", "AdamW's memory of the gradient's square", "B")
    add_option(group, "clip", "longest gradient: norm to which a longer one is scaled", "NORM")
    add_option(group, "dropout", "probability of zeroing an activation in training", "P")
    add_option(group, "seed", "start of all random numbers", "S")
    add_option(
        group,
        "micro-batch",
        "sequences that a thread processes at once; gradients accumulate over the batch, so this "
        "changes memory and speed, and of the results only what dropout draws (default: 256 "
        "tokens' worth, at least 1)",
    )

    group = parser.add_argument_group("running")
    add_option(group, "eval-every", "steps between two evaluations, each with a sample")
    add_option(group, "save-every", "steps between two checkpoints")
    add_option(group, "log-every", "steps that a line of the log takes the mean loss of")
    add_option(group, "sample", "the prompt of the samples", "PROMPT")
    group.add_argument(
        "--keep-best",
        action="store_true",
        help="keep the model with the lowest held-out loss, too, in FOLDER/best",
    )
    add_option(
        group, "threads", "threads that share each batch out (default: the processor's cores)"
    )
    return parser


def add_option(group, name, text, unit="N"):
    """Add an option, with its default, and those of the presets that have another."""
    key = name.replace("-", "_")
    if key in MINUTES:
        others = {preset: values.get(key, MINUTES[key]) for preset, values in PRESETS.items()}
        named = [f"{preset} {value}" for preset, value in others.items() if value != MINUTES[key]]
        text += f" (default: {', '.join([str(MINUTES[key]), *named])})"
    group.add_argument(f"--{name}", type=NUMBERS.get(key, str), metavar=unit, help=text)


def parse_arguments(argv):
    """{option: value} of those that were given; what is wrong with them ends the program in one
    line."""
    parser = make_parser()
    chosen = vars(parser.parse_args(argv))
    for name in PATHS.keys() & chosen:  # a shell expands ~ only at the start, not in --out=~/m
        chosen[name] = os.path.expanduser(chosen[name])
    if "resume" in chosen:
        chosen["resume"] = chosen["resume"] or chosen.get("out", "")
        if chosen.get("out", chosen["resume"]) != chosen["resume"]:
            parser.error("--resume and --out name two folders; give one of them")
    elif "corpus" not in chosen:
        parser.error("which text? give the path of a text file")
    elif "out" not in chosen:
        parser.error("where to? give the model's folder with --out, such as --out models/mine")
    for name, wanted in PATHS.items():
        if chosen.get(name) == "":
            option = "TEXT" if name == "corpus" else f"--{name.replace('_', '-')}"
            parser.error(f"{option} is empty; give {wanted}")
    for name, values in CHOICES.items():
        if chosen.get(name, values[0]) not in values:
            parser.error(f"--{name} is {' or '.join(values)}")
    if chosen.get("n_vocab", 257) < 257:
        parser.error(f"--n-vocab is at least 257: 256 bytes and {END_OF_TEXT}")
    if chosen.get("preset") == "tune" and "init_from" not in chosen:
        parser.error("--preset tune needs a model to begin with; give one with --init-from")
    try:
        chosen.get("sample", "").encode("utf-8")
    except UnicodeEncodeError:
        parser.error("--sample is not UTF-8")
    return chosen


def describe_os_error(error, folder, is_resumed):
    """What could not be read or written, and how to go on; folder is that of the run."""
    has_begun = os.path.exists(os.path.join(folder, STATE_FILE)) and not is_resumed
    go_on = f"go on with --resume {shlex.quote(folder)}" if has_begun else "give the command again"
    place, reason = error.filename or folder, error.strerror or one_line(error)
    return f"{place}: {reason}; when that is put right, {go_on}"


def main(argv=None):
    """Run the command line; return the exit status. Whatever is wrong is one line on stderr."""
    chosen = parse_arguments(argv)
    folder = chosen["resume"] if "resume" in chosen else chosen["out"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # what matters is a TrainError
            if "resume" in chosen:
                check_resumable(folder)
            with lock_folder(folder):
                prepare = resume_run if "resume" in chosen else begin_run
                settings, corpus, state = prepare(chosen)
                # speed: threads share each batch out, which divides the elementwise work, too; each
                # of them then does its matrix products alone.
                with blas_threads(1):
                    done = corpus is None or carry_out(settings, corpus, state)
    except KeyboardInterrupt:
        if Path(folder, STATE_FILE).exists():
            return report_stop(f"stopped without saving; {folder} holds the last checkpoint")
        return report_stop("stopped; nothing was written yet")
    except ImportError as error:  # of what only downloads need
        return fail(PROGRAM, describe_import_error(error))
    except (TrainError, GPT2Error, EncoderError, ModelError) as error:
        return fail(PROGRAM, error)
    except OSError as error:
        return fail(PROGRAM, describe_os_error(error, folder, "resume" in chosen))
    except MemoryError:
        return fail(PROGRAM, "not enough memory; take a smaller model, --micro-batch or --threads")
    if not done:
        return report_stop(
            f"stopped after step {state.step}, saved; go on with: python train.py --resume "
            f"{shlex.quote(folder)}"
        )
    path = folder if os.path.dirname(folder) else os.path.join(".", folder)
    notice(
        f"done; hear it with: python gpt2_numpy.py --model {shlex.quote(path)} "
        f"{shlex.quote(settings.sample)}{describe_best(settings, path)}"
    )
    return 0


def describe_best(settings, path):
    """What the last line says of the best model, of a run that keeps it."""
    if not settings.keep_best:
        return ""
    best, place = read_best(path), shlex.quote(os.path.join(path, BEST))
    if best is None:
        return f"; --keep-best could keep no model in {place}"
    return (
        f"; the best model that was kept is that of step {best['step']}, with "
        f"{best['bits_per_byte']:.4f} bits per byte held out, in {place}"
    )
