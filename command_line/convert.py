"""What `python -m files.convert` does: a model's folder, written as one of another kind."""

import argparse
import contextlib
import errno
import json
import os
import shlex
import shutil
from pathlib import Path

import numpy as np

from command_line.errors import describe_import_error, fail
from command_line.options import OneLineParser
from command_line.version import describe_version
from encoder import format_encoder
from files.huggingface import WEIGHTS, hf_name
from files.huggingface_writer import format_folder
from files.messages import notice, one_line, printable
from files.openai_folder import format_checkpoint_state
from files.safetensors import SafetensorsError, write_safetensors
from files.tf_checkpoint import CheckpointError, write_checkpoint
from files.tf_names import name_tensors
from files.tree_names import unflatten
from files.whole import write_whole
from utils import ModelError, map_model, n_parameters

PROGRAM = "files.convert"

DESCRIPTION = """\
Write a model as a folder of another kind. The weights keep their values, and their type, float32
or float16; bfloat16 becomes float32.

  python -m files.convert tales tales-hf --to huggingface
  python -m files.convert ./my-finetuned-model my-model --to openai
"""


class ConvertError(Exception):
    """A folder that cannot be written: one line that says why, and what to do."""


def make_parser():
    parser = OneLineParser(
        prog=PROGRAM,
        description=DESCRIPTION,
        usage="python -m %(prog)s MODEL FOLDER --to huggingface|openai",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=describe_version(PROGRAM))
    parser.add_argument(
        "model", metavar="MODEL", help="as gpt2_numpy.py takes it: a name or a folder"
    )
    parser.add_argument(
        "folder", metavar="FOLDER", help="what is written; it must not be there yet"
    )
    parser.add_argument(
        "--to",
        choices=KINDS,
        required=True,
        help="huggingface: as transformers reads it (config.json, model.safetensors, "
        "tokenizer.json); openai: as OpenAI's code does (hparams.json, encoder.json, vocab.bpe, a "
        "TensorFlow checkpoint)",
    )
    return parser


def main(argv=None):
    """Run the command line; return the exit status. Whatever is wrong is one line on stderr."""
    options = make_parser().parse_args(argv)
    folder = Path(os.path.expanduser(options.folder))
    try:
        convert(options.model, folder, options.to)
    except ImportError as error:  # of what only downloads need
        return fail(PROGRAM, describe_import_error(error))
    except (ConvertError, ModelError) as error:
        return fail(PROGRAM, error)
    except (CheckpointError, SafetensorsError, OSError) as error:
        fault = error if isinstance(error, OSError) else error.__cause__
        is_full = getattr(fault, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        cure = "make room or give another FOLDER" if is_full else "give another FOLDER"
        place = getattr(error, "filename", None)
        reason = getattr(error, "strerror", None) or one_line(error)
        return fail(PROGRAM, f"{place}: {reason}; {cure}" if place else f"{reason}; {cure}")
    except MemoryError:
        return fail(PROGRAM, "not enough memory for a model of this size")
    path = os.path.join(os.curdir, folder) if len(folder.parts) == 1 else str(folder)
    notice(f"done; hear it with: python gpt2_numpy.py --model {shlex.quote(path)}")
    return 0


def convert(model, folder, kind):
    """Write a model as a folder of this kind, one of KINDS, whole or not at all.

    It grows beside its place, in FOLDER.tmp, and gets its name when it is whole. Raises
    ConvertError, ModelError and OSError, CheckpointError, SafetensorsError.
    """
    if folder.exists() or folder.is_symlink():
        raise ConvertError(f"{folder} is there already; give a FOLDER that is not")
    encoder, hparams, weights = map_model(model)
    part = Path(f"{folder}.tmp")
    made = [parent for parent in part.parents if not parent.exists()]
    try:
        part.mkdir(parents=True)
    except FileExistsError:
        raise ConvertError(
            f"{part} is there: another conversion is at work or was cut off; remove it, or wait"
        ) from None
    try:
        KINDS[kind](part, model, encoder, hparams, weights)
        os.rename(part, folder)
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(part)
        for parent in made:  # those in which nothing was written, from the innermost on
            with contextlib.suppress(OSError):
                parent.rmdir()


def write_huggingface(folder, model, encoder, hparams, weights):
    """Write the files that transformers reads into a folder."""
    named = {f"transformer.{hf_name(name)}": array for name, array in weights.items()}
    write_safetensors(folder / WEIGHTS, named, metadata={"format": "pt"})
    dtype = find_dtype(weights)
    front = "---\nlibrary_name: transformers\npipeline_tag: text-generation\n---\n\n"
    card = front + make_card(folder, model, hparams, dtype)
    contents = format_folder(hparams, dtype, encoder, format_encoder(encoder), card)
    write_whole({folder / name: content for name, content in contents.items()})


def write_openai(folder, model, encoder, hparams, weights):
    """Write the files that OpenAI's code reads into a folder."""
    json_text, bpe_text = format_encoder(encoder)
    contents = {
        "checkpoint": format_checkpoint_state("model.ckpt"),
        "hparams.json": json.dumps(hparams) + "\n",
        "encoder.json": json_text,
        "vocab.bpe": bpe_text,
        "README.md": make_card(folder, model, hparams, find_dtype(weights)),
    }
    beside = {folder / name: content.encode() for name, content in contents.items()}
    write_checkpoint(folder / "model.ckpt", name_tensors(unflatten(weights)), beside)


KINDS = {"huggingface": write_huggingface, "openai": write_openai}


def find_dtype(weights):
    """The weights' type, the wider where there are two, as one that loads them needs it."""
    return str(np.result_type(*weights.values()))


def make_card(folder, model, hparams, dtype):
    """What is known of a model, for its README.md."""
    sizes = ", ".join(f"`{name}` {value:,}" for name, value in hparams.items())
    title = printable(folder.name.removesuffix(".tmp"))
    source = printable(os.path.basename(os.path.normpath(model)))
    return (
        f"# {title}\n\n"
        f"A GPT-2 of {n_parameters(hparams):,} parameters: {sizes}. Its weights are {dtype}, its "
        f"vocabulary is byte-level BPE.\n\n"
        f"Converted from the model `{source}`, whose own description, licence and limits hold for "
        "it, too.\n"
    )
