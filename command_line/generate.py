"""What `python gpt2_numpy.py "prompt"` does: its options, and what is done with them."""

import argparse
import errno
import os
import secrets
import sys
import warnings

import numpy as np

import utils
from command_line.errors import describe_import_error, fail, report_stop
from command_line.explain import show_choices, show_tokens
from command_line.options import OneLineParser
from command_line.pace import KeepPace, choose_blas_threads
from command_line.process import blas_threads, reuse_memory
from command_line.score import write_scores
from command_line.stream import stream
from encoder import EncoderError
from files.messages import notice
from gpt2_numpy import ContextWarning, GPT2Error, check_sampling, generate

PROGRAM = "gpt2_numpy.py"

USAGE = """\
Continue a text with GPT-2, computed in plain NumPy. The text goes to standard output as it is
generated, everything else to standard error."""

EXAMPLES = """\
examples:
  python gpt2_numpy.py "Once upon a time"               forty tokens that may follow
  python gpt2_numpy.py --greedy -n 100 "In the forest"  always the likeliest token
  python gpt2_numpy.py --seed 7 --top-p 0.9 "The king"  a run that can be repeated
  python gpt2_numpy.py --score "The cat sat."           how probable the text is, token by token
  python gpt2_numpy.py --explain -n 5 "One, two,"       what the model chose from, step by step
  python gpt2_numpy.py - < story.txt                    the prompt from a file

Each step the model gives every token of its vocabulary a probability, one token is drawn, and the
text with that token is the next step's input. --temperature, then --top-k, then --top-p reshape the
distribution before the draw. Each token is drawn knowing only the text to its left."""


def make_parser():
    """The options, explained in the field's terms."""
    parser = OneLineParser(
        prog=PROGRAM,
        description=USAGE,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "prompt",
        nargs="?",
        default="",
        help="the text to continue; - reads it from standard input; without one the model starts "
        "from <|endoftext|>, the mark between two documents, and makes up a text of its own; "
        "one that begins with a dash goes last, after --",
    )
    add(
        "--model",
        metavar="NAME|FOLDER",
        help="tales, the small model that comes with the code; one of OpenAI's, 124M, 355M, 774M "
        "or 1558M (downloaded the first time); or a folder with a model's files (default: "
        "tales)",
    )
    add(
        "--models-dir",
        metavar="FOLDER",
        help="where downloads are kept (default: $GPT2_MODELS_DIR, else models/ beside the code)",
    )
    add(
        "-n",
        "--n-tokens",
        type=int,
        default=40,
        metavar="N",
        help="how many tokens to generate; an English word is 1.3 tokens or so (default: 40)",
    )
    add(
        "--temperature",
        type=float,
        default=0.8,
        metavar="T",
        help="divides the logits before the softmax: towards 0 the likeliest tokens win ever more "
        "often, above 1 unlikely ones get their chance (default: 0.8)",
    )
    add(
        "--top-k",
        type=int,
        default=40,
        metavar="K",
        help="draw from the K likeliest tokens only; 0 means all (default: 40)",
    )
    add(
        "--top-p",
        type=float,
        default=1.0,
        metavar="P",
        help="nucleus sampling: draw from the fewest tokens whose probabilities together reach P "
        "(default: 1, all)",
    )
    add("--greedy", action="store_true", help="always take the likeliest token: temperature 0")
    add(
        "--seed",
        type=int,
        metavar="S",
        help="start of the random numbers: same seed, same text (default: a new one, printed)",
    )
    add(
        "--n-samples",
        type=int,
        default=1,
        metavar="N",
        help="generate N continuations side by side (default: 1)",
    )
    add(
        "--score",
        action="store_true",
        help="instead of continuing the prompt, print the log-probability of each of its tokens "
        "given those before it, their sum, and the perplexity exp(-mean)",
    )
    add(
        "--show-tokens",
        action="store_true",
        help="also show the tokens into which the prompt is split, with their ids",
    )
    add(
        "--explain",
        action="store_true",
        help="at each step also show the five likeliest next tokens and their probabilities before "
        "temperature, top-k and top-p; an arrow marks the token drawn",
    )
    return parser


def parse_arguments(argv):
    """The options' values, checked; what is wrong with them ends the program in one line."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if arguments.n_tokens < 0:
        parser.error("-n/--n-tokens must be 0 or more")
    if not 1 <= arguments.n_samples <= 10**6:
        parser.error("--n-samples must be 1 to 1,000,000")
    if arguments.seed is not None and arguments.seed < 0:
        parser.error("--seed must be 0 or more")
    if arguments.explain and arguments.n_samples > 1:
        parser.error("--explain follows one sample; leave out --n-samples")
    if arguments.greedy:
        arguments.temperature = 0.0
    try:
        check_sampling(arguments.temperature, arguments.top_k, arguments.top_p)
    except GPT2Error as error:
        parser.error(str(error))
    return arguments


def main(argv=None):
    """Run the command line; return the exit status. Whatever is wrong is one line on stderr."""
    arguments = parse_arguments(argv)
    if sys.stdout is None:
        return fail(PROGRAM, "standard output is closed; there is nowhere to write the text")
    if hasattr(sys.stdout, "reconfigure"):  # as not in a notebook
        sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a character shows "?"
    try:
        prompt = read_prompt(arguments.prompt)
        encoder, hparams, params = load_model(arguments.model, arguments.models_dir)
        reuse_memory()
        with blas_threads(None):
            run(arguments, prompt, encoder, params, hparams["n_head"])
        return 0
    except KeyboardInterrupt:
        return report_stop()
    except ImportError as error:  # of what only downloads need
        return fail(PROGRAM, describe_import_error(error))
    except (GPT2Error, utils.ModelError, EncoderError) as error:
        return fail(PROGRAM, error)
    except MemoryError:
        return fail(PROGRAM, "not enough memory; a smaller model or a shorter text needs less")
    except OSError as error:  # standard output is the only file here
        discard_stdout()
        if error.errno in (errno.EPIPE, errno.EINVAL):  # the second on Windows
            return 0  # a reader that has seen enough, such as head, is no error
        return fail(PROGRAM, f"cannot write the text to standard output: {error.strerror}")


def discard_stdout():
    """Let what is still to be written to stdout vanish, so that the flush at exit cannot fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def read_prompt(argument):
    """The prompt that the argument stands for."""
    if argument != "-":
        return argument
    if sys.stdin is None:
        raise GPT2Error("the prompt - is to be read from standard input, which is closed")
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")  # a byte-order mark is no text
    except OSError as error:
        raise GPT2Error(f"cannot read the prompt from standard input: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise GPT2Error(
            f"standard input is not UTF-8 (byte {error.start}: {error.reason}); convert the text "
            "first, for example with iconv"
        ) from error


def load_model(model, models_dir):
    """encoder, hparams, params; the bundled model introduces itself where none was asked for."""
    encoder, hparams, params = utils.load_encoder_hparams_and_params(
        model or utils.BUNDLED, models_dir
    )
    if model is None:
        notice(
            f"this is {utils.BUNDLED}, {utils.n_parameters(hparams) / 1e6:.1f} million parameters "
            "that have read only fairy tales; --model 124M downloads OpenAI's GPT-2"
        )
    return encoder, hparams, params


def run(arguments, prompt, encoder, params, n_head):
    """Do with the prompt what the options ask for."""
    ids = encoder.encode(prompt)
    if prompt[-1:].isspace():
        notice(
            "hint: the prompt ends in white space; most tokens bring the space before them, so the "
            "text usually goes on better without it (echo adds a line break, printf does not)"
        )
    if arguments.show_tokens:
        show_tokens(encoder, ids)
    with warnings.catch_warnings(), np.errstate(all="ignore"):  # what matters is a GPT2Error
        warnings.simplefilter("always", ContextWarning)
        warnings.showwarning = lambda message, *_: notice(f"\n[{message}]")
        if arguments.score:
            with blas_threads(choose_blas_threads()):  # one long step: chosen beforehand
                write_scores(encoder, params, n_head, ids)
        else:
            continue_prompt(arguments, prompt, encoder, params, n_head, ids)


def continue_prompt(arguments, prompt, encoder, params, n_head, ids):
    """Generate what follows the prompt, and stream it."""
    if not ids and encoder.eot is None:
        raise GPT2Error("this vocabulary has no <|endoftext|> to start from; give a prompt")
    ids = ids or [encoder.eot]
    rng = np.random.default_rng(choose_seed(arguments.seed, arguments.temperature))

    def explain(logits, chosen):
        show_choices(encoder, logits[0], int(chosen[0]))

    steps = generate(
        ids,
        params,
        n_head,
        arguments.n_tokens,
        arguments.temperature,
        arguments.top_k,
        arguments.top_p,
        rng,
        arguments.n_samples,
        watch=explain if arguments.explain else None,
    )
    steps = KeepPace(steps, len(ids))
    stream(encoder, prompt, len(ids), steps, arguments.n_samples, arguments.n_tokens)


def choose_seed(seed, temperature):
    """The seed; where the user has not chosen one, and chance plays a part, a new one is told."""
    if seed is None and temperature > 0:
        seed = secrets.randbelow(2**32)
        notice(f"seed {seed}: the same with --seed {seed} repeats this text")
    return seed
