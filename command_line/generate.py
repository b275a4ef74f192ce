"""What `python gpt2_numpy.py "prompt"` does: its options, and where they lead."""

import argparse
import os
import shutil
import sys
import warnings

import numpy as np

import utils
from command_line.answer import answer, answer_all
from command_line.errors import describe_import_error, end_output, fail, report_stop
from command_line.interactive import converse
from command_line.options import OneLineParser
from command_line.process import blas_threads, reuse_memory
from command_line.prompts import read_prompts, read_source
from command_line.records import FIELDS
from command_line.stream import OutputError
from command_line.version import describe_version
from encoder import EncoderError, check_text
from files.messages import notice
from gpt2_numpy import ContextWarning, GPT2Error, check_sampling

PROGRAM = "gpt2_numpy.py"

USAGE = """\
Continue a text with GPT-2, computed in plain NumPy. The text goes to standard
output as it is generated, everything else to standard error."""

EXAMPLES = """\
examples:
  python gpt2_numpy.py --greedy -n 100 "In the forest"
  python gpt2_numpy.py --seed 7 --top-p 0.9 --stop . "The king"
  python gpt2_numpy.py --explain -n 5 "One, two,"
  python gpt2_numpy.py --score - < story.txt

Each step the model gives every token of its vocabulary a probability, one token
is drawn, and the text with that token is the next step's input. --temperature,
then --top-k, then --top-p reshape the distribution before the draw. Each token
is drawn knowing only the text to its left."""

DEFAULTS = dict(n_tokens=40, temperature=0.8, top_k=40, top_p=1.0, n_samples=1)
GENERATING = ("n_tokens", "temperature", "top_k", "top_p", "greedy", "seed", "n_samples", "stop")


def make_parser():
    """The options, explained in the field's terms; those that are not given are not set."""
    parser = OneLineParser(
        prog=PROGRAM,
        usage="%(prog)s [options] [prompt]",
        description=USAGE,
        epilog=EXAMPLES,
        argument_default=argparse.SUPPRESS,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(
            prog, max_help_position=21, width=min(100, shutil.get_terminal_size().columns - 2)
        ),
        add_help=False,
        stray="put quotes around a prompt of several words; one that begins with a dash goes last, "
        "after --",
    )
    add_sources(parser)
    add_drawing(parser)
    add_views(parser)
    return parser


def add_sources(parser):
    """Where prompts and model come from, and how much is made of them."""
    add = parser.add_argument_group("prompts").add_argument
    add(
        "prompt",
        nargs="?",
        help="the text to continue; - is standard input; without one the model makes up a text; "
        "after -- it may begin with a dash",
    )
    add(
        "--prompts",
        metavar="FILE",
        help="a file of prompts, one on each line, continued side by side (with --json also "
        'lines of JSON: {"prompt": "..."})',
    )
    add(
        "-i",
        "--interactive",
        action="store_true",
        help="each line that you type is a prompt; Ctrl-C stops an answer, Ctrl-D ends",
    )

    add = parser.add_argument_group("model").add_argument
    add(
        "--model",
        metavar="NAME|FOLDER",
        help="tales, which comes with the code (default); 124M, 355M, 774M or 1558M, OpenAI's, "
        "downloaded the first time; a folder, or its name in the models folder; OWNER/NAME or "
        "OWNER/NAME@REVISION on Hugging Face's Hub, downloaded the first time",
    )
    add(
        "--models-dir",
        metavar="FOLDER",
        help="where models are (default: $GPT2_MODELS_DIR, else models/ beside the code)",
    )
    add("--list", action="store_true", help="list the models that are here")

    add = parser.add_argument_group("how much text").add_argument
    add("-n", "--n-tokens", type=int, metavar="N", help="at most N tokens (default: 40)")
    add(
        "--stop",
        action="append",
        metavar="TEXT",
        help="end before this text; may be given several times",
    )
    add("--n-samples", type=int, metavar="N", help="N continuations side by side (default: 1)")


def add_drawing(parser):
    """How each token is drawn."""
    add = parser.add_argument_group("how each token is drawn").add_argument
    add(
        "--temperature",
        type=float,
        metavar="T",
        help="divides the logits: towards 0 the likeliest tokens win ever more often, above 1 "
        "unlikely ones get their chance (default: 0.8)",
    )
    add(
        "--top-k",
        type=int,
        metavar="K",
        help="draw from the K likeliest tokens; 0 means all (default: 40)",
    )
    add(
        "--top-p",
        type=float,
        metavar="P",
        help="draw from the fewest tokens that together reach probability P (nucleus sampling; "
        "default: 1, all)",
    )
    add("--greedy", action="store_true", help="always the likeliest token: temperature 0")
    add(
        "--seed",
        type=int,
        metavar="S",
        help="start of the random numbers: same seed, same text (default: a new one, printed)",
    )


def add_views(parser):
    """What is shown of it."""
    add = parser.add_argument_group("looking closer").add_argument
    add(
        "--score",
        action="store_true",
        help="instead of continuing a text, show how probable each of its tokens is given those "
        "before it, and the whole: perplexity, bits per byte",
    )
    add("--show-tokens", action="store_true", help="show how the prompt is split, with ids")
    add(
        "--explain",
        action="store_true",
        help="at each step show the five likeliest tokens, before temperature, top-k and top-p; "
        "an arrow marks the token drawn",
    )
    add(
        "--json",
        action="store_true",
        help="results as JSON, an object a line, with ids and log-probabilities",
    )
    version = describe_version(PROGRAM)
    add("--version", action="version", version=version, help="show what this is and runs on")
    add("-h", "--help", action="help", help="show this help")


def parse_arguments(argv):
    """The options' values, checked; what is wrong with them ends the program in one line."""
    parser = make_parser()
    chosen = vars(parser.parse_args(argv))
    if contradiction := find_contradiction(chosen):
        parser.error(contradiction)
    switches = ("interactive", "list", "greedy", "score", "show_tokens", "explain", "json")
    absent = dict.fromkeys(("prompts", "model", "models_dir", "seed"))
    options = argparse.Namespace(
        **{
            "prompt": "",
            "stop": [],
            **dict.fromkeys(switches, False),
            **absent,
            **DEFAULTS,
            **chosen,
        }
    )
    if options.n_tokens < 0:
        parser.error("-n/--n-tokens must be 0 or more")
    if not 1 <= options.n_samples <= 10**6:
        parser.error("--n-samples must be 1 to 1,000,000")
    if options.seed is not None and options.seed < 0:
        parser.error("--seed must be 0 or more")
    if options.greedy:
        options.temperature = 0.0
    try:
        check_sampling(options.temperature, options.top_k, options.top_p)
    except GPT2Error as error:
        name, _, problem = str(error).partition(" ")
        parser.error(f"--{name.replace('_', '-')} {problem}")
    for stop in options.stop:
        if stop in (r"\n", r"\t"):
            notice(f"hint: --stop {stop} is a backslash and a letter; in a shell write $'{stop}'")
    return options


def find_contradiction(chosen):
    """Which of the options chosen, {name: value}, do not go together, or "" where all do."""

    def names(*options):
        return [f"--{name.replace('_', '-')}" for name in options if name in chosen]

    for empty in ("model", "models_dir", "prompts"):
        if chosen.get(empty) == "":
            return f"{names(empty)[0]} is empty; give a name or a path, or leave it out"
    if "" in chosen.get("stop", []):
        return "--stop is empty; give the text before which to end"
    sources = [*(["the prompt"] if "prompt" in chosen else []), *names("prompts", "interactive")]
    if len(sources) > 1:
        return f"{' and '.join(sources)} are two sources of prompts; choose one"
    if "list" in chosen and (others := sorted(set(chosen) - {"list", "models_dir"})):
        other = "the prompt" if others[0] == "prompt" else names(*others)[0]
        return f"--list goes with --models-dir alone; leave out {other}"
    if "score" in chosen and (useless := names(*GENERATING, "explain")):
        return f"--score generates nothing; leave out {useless[0]}"
    if {"greedy", "temperature"} <= chosen.keys():
        return "--greedy always takes the likeliest token; leave out --temperature, or --greedy"
    if "greedy" in chosen or chosen.get("temperature") == 0:
        greedy = "--greedy" if "greedy" in chosen else "--temperature 0"
        if useless := names("top_k", "top_p"):
            return f"{greedy} always takes the likeliest token; leave out {useless[0]}, or {greedy}"
        if chosen.get("n_samples", 1) > 1:
            return f"without chance all samples are the same; leave out --n-samples, or {greedy}"
    if "explain" in chosen and ("prompts" in chosen or chosen.get("n_samples", 1) > 1):
        return "--explain follows one text; leave out " + (
            "--prompts" if "prompts" in chosen else "--n-samples"
        )
    if "explain" in chosen and "json" in chosen:
        return "--explain shows what a person reads; leave out --json"
    return ""


def main(argv=None):
    """Run the command line; return the exit status. Whatever is wrong is one line on stderr."""
    options = parse_arguments(argv)
    if sys.stdout is None:
        return fail(PROGRAM, "standard output is closed; there is nowhere to write the text")
    if hasattr(sys.stdout, "reconfigure"):  # as not in a notebook
        sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a character shows "?"
    try:
        with blas_threads(None):  # as many as before afterwards, whatever was chosen meanwhile
            run(options)
        return 0
    except KeyboardInterrupt:
        return report_stop()
    except ImportError as error:  # of what only downloads need
        return fail(PROGRAM, describe_import_error(error))
    except (GPT2Error, utils.ModelError, EncoderError) as error:
        return fail(PROGRAM, error)
    except MemoryError:
        return fail(PROGRAM, "not enough memory; a smaller model or a shorter text needs less")
    except OutputError as error:
        return end_output(PROGRAM, error.__cause__)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return fail(PROGRAM, f"{where}{error.strerror or error}; try again")


def run(options):
    """Do what the options ask for."""
    if options.list:
        from command_line.models import write_models

        write_models(options.models_dir)
        return
    prompts, text = None, options.prompt
    if options.prompts is not None:
        reserved = FIELDS["score" if options.score else "continue"]
        prompts, n_empty = read_prompts(options.prompts, options.json, set(reserved))
        if n_empty:
            notice(f"lines without text, which are left out: {n_empty}")
        if not options.json and prompts[0].text.startswith('{"prompt"'):
            notice("hint: the lines look like JSON; with --json they are read as such")
    elif text == "-":
        text = read_source("-")
    elif os.path.isfile(text):
        notice(f"hint: {text} is taken as the text itself; to read the file give - < {text}")
    for stop in options.stop:
        check_text(stop)
    encoder, hparams, params = load_model(options)
    reuse_memory()
    model = (encoder, params, hparams["n_head"])
    with warnings.catch_warnings(), np.errstate(all="ignore"):  # what matters is a GPT2Error
        warnings.simplefilter("always", ContextWarning)
        warnings.showwarning = lambda message, *_: notice(f"\n[{message}]")
        if options.interactive:
            converse(PROGRAM, lambda line: answer(options, line, *model))
        elif prompts is not None:
            answer_all(options, prompts, *model)
        else:
            answer(options, text, *model)


def load_model(options):
    """encoder, hparams, params; the bundled model introduces itself where none was asked for."""
    is_chosen = options.model is not None
    options.model = options.model if is_chosen else utils.BUNDLED
    encoder, hparams, params = utils.load_encoder_hparams_and_params(
        options.model, options.models_dir
    )
    if not is_chosen:
        notice(
            f"this is {utils.BUNDLED}, {utils.n_parameters(hparams) / 1e6:.1f} million parameters "
            "that have read only fairy tales; --model 124M downloads OpenAI's GPT-2"
        )
    return encoder, hparams, params
