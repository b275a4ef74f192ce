"""From the name of a model or its folder to `encoder, hparams, params`, and back to a folder.

This file reads from the top down: how a name becomes a folder and the folder a model, what shapes a
model's parameters have, how a model is written, whether the memory suffices for it, and fetching
a model that is not there. Formats and downloads are in files/.
"""

import difflib
import json
import math
import os
import shlex
import stat
from pathlib import Path

import numpy as np

from encoder import EncoderError, format_encoder, get_encoder, parse_encoder
from files import hub, huggingface, huggingface_tokenizer
from files.download import DownloadError
from files.memory import LowMemoryError, require_memory
from files.messages import notice, one_line, printable, readable, why_unreadable
from files.openai_folder import (
    SIZES,
    FolderError,
    find_missing,
    find_prefix,
    format_checkpoint_state,
    is_complete,
    is_file,
    is_outdated,
    parse_hparams,
    read_small,
    verify_once,
)
from files.released import (
    ON_THE_HUB,
    RELEASED,
    check_openai_vocabulary,
    fetch_released,
    is_released,
    released_hparams,
)
from files.safetensors import SafetensorsError
from files.tf_checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from files.tf_names import find_tensors, name_tensors, nest_tensors
from files.tree_names import flatten
from files.whole import write_whole

MODELS_DIR = Path(__file__).resolve().parent / "models"  # or $GPT2_MODELS_DIR
BUNDLED = "tales"  # comes with the code, in MODELS_DIR beside it

BIG = 10**9  # bytes: weights of this size are announced before they are loaded
WORKING_MEMORY = 200 * 10**6  # bytes: Python, NumPy, the vocabulary, a long prompt's activations

KNOWN_MODELS = (
    f"give one of {BUNDLED}, 124M, 355M, 774M, 1558M, or a folder with its path, such as "
    "./my-model, or OWNER/NAME on Hugging Face's Hub; --list shows what is here"
)
# What to do about a wrong file "checkpoint".
REPAIR_CHECKPOINT = (
    'make it say model_checkpoint_path: "NAME", where the weights are NAME.index and NAME.data-*'
)
REFETCH_WEIGHTS = "remove it and fetch or copy it again"


class ModelError(Exception):
    """A model cannot be found, fetched or loaded: one line that says what, where, what to do."""


def load_encoder_hparams_and_params(model="tales", models_dir=None):
    """`encoder, hparams, params` of a model; one of OpenAI's is downloaded when it is not there.

    model: "tales", which comes with the code; one of OpenAI's names (see RELEASED), looked for in
        models_dir/name; the path of a model folder; the bare name of one in the current directory
        or in models_dir; or "OWNER/NAME" or "OWNER/NAME@REVISION" on Hugging Face's Hub, which is
        downloaded when there is no such folder
    models_dir: by default $GPT2_MODELS_DIR, or else "models" beside this file

    params are float32, nested like shapes(hparams), and read-only: views of the mapped file, which
    is read when they are used (float16 is converted, and so copied). Every tensor is compared
    with its checksum, large ones once. Raises ModelError.
    """
    folder = find_folder(model, models_dir)
    hparams = load_hparams(folder)
    if is_released(model):
        check_released(model, folder, hparams)
    check_memory(model, hparams)
    encoder = load_encoder(folder, hparams)
    return encoder, hparams, load_params(folder, hparams)


def models_folder(models_dir=None):
    """The folder in which models are looked for, each under its name. Raises ModelError."""
    if models_dir is not None and not os.fspath(models_dir):
        raise ModelError("--models-dir is empty; give the path of a folder, or leave it out")
    return Path(os.path.expanduser(models_dir or os.environ.get("GPT2_MODELS_DIR") or MODELS_DIR))


def find_folder(model, models_dir=None):
    """The folder of a model with all its files in it, downloaded first where a name needs it.

    "tales" and OpenAI's names always mean these models; anything else is a folder: see
    locate_folder. Raises ModelError.
    """
    models_dir = models_folder(models_dir)
    if is_released(model):
        folder = models_dir / model
        return folder if is_complete(folder) else download(model, models_dir)

    folder = MODELS_DIR / BUNDLED if model == BUNDLED else locate_folder(model, models_dir)
    is_of_hub = hub.parse_name(model) and folder == hub.find_place(model, models_dir)
    if hub.is_unfinished(folder) or (is_of_hub and hub.is_blank(folder)):
        download_from_hub(model, folder, models_dir)
    try:
        missing = find_missing_files(folder)
    except huggingface.UnsupportedError as error:
        raise ModelError(one_line(error)) from error
    except (FolderError, OSError) as error:
        is_openai = not huggingface.is_huggingface(folder)
        advice = REPAIR_CHECKPOINT if is_openai else "fetch or copy it again"
        raise ModelError(why_unreadable(error, advice)) from error
    outdated = is_outdated(folder)
    if missing and outdated:
        raise ModelError(
            f"{folder} is not a whole model folder: its training was cut off while it saved "
            f"(or saves just now); {mend(folder)}"
        )
    if missing:
        advice = "put them there, or give one of OpenAI's names to have its files downloaded"
        if other := huggingface.find_other_weights(folder):
            advice = (
                f"{other} is not opened here, where nothing is that could run code: have "
                "transformers load and save the model, which writes model.safetensors"
            )
        elif huggingface.is_huggingface(folder):
            advice = "put them there"
        elif is_file(folder / huggingface.CONFIG) and is_file(folder / huggingface.WEIGHTS):
            advice = (
                "put them there, or remove hparams.json to have the one in Hugging Face's layout"
            )
        raise ModelError(
            f"{folder} is not a whole model folder: missing are {printable(', '.join(missing))}; "
            f"{advice}"
        )
    if outdated:
        notice(
            f"{folder}: its training was cut off while it saved (or saves just now), and this "
            f"model may be older than its training.npz; {mend(folder)}"
        )
    return folder


def find_missing_files(folder):
    """The names of the files that a folder lacks to be a model, in OpenAI's layout or Hugging
    Face's. Raises FolderError and OSError."""
    if huggingface.is_huggingface(folder):
        return huggingface.list_missing(folder)
    return find_missing(folder)


def mend(folder):
    """What to do about a model that is older than the state of its training."""
    return f"bring it up to date with: python train.py --resume {shlex.quote(os.fspath(folder))}"


def locate_folder(model, models_dir):
    """The folder that a path stands for, or a bare name such as "mine", or a name on the Hub.

    A bare name, a str that begins with no dot or slash, such as "mine" or "mine/best", is looked
    for in the current directory first, then in models_dir. Where there is such a folder in both,
    the first is taken that has all files of a model, and a notice says which one that is. Where
    there is none, and the Hub can have a model of this name, it is the folder in models_dir that
    this will have. Raises ModelError.
    """
    if not os.fspath(model):
        raise ModelError(f"the name of the model is empty; {KNOWN_MODELS}")
    path = os.path.expanduser(model)
    places = [Path(path)]
    first = path.replace(os.sep, "/").partition("/")[0]
    if isinstance(model, str) and first not in ("", ".", "..") and not os.path.isabs(path):
        places.append(models_dir / path)
    folders = [place for place in places if is_folder(place)]
    if not folders and hub.parse_name(model) and not os.path.isfile(path):
        return hub.find_place(model, models_dir)
    if os.path.isfile(path):
        raise ModelError(f"{path} is a file; give the folder that it is in")
    if not folders:
        hint = suggest(path, models_dir)
        where = f" here or in {models_dir}" if len(places) > 1 else ""
        raise ModelError(f"there is no model {os.fspath(model)!r}{where}{hint}; {KNOWN_MODELS}")
    if len(folders) == 1 or os.path.samefile(*folders):
        return folders[0]
    folder = next(filter(is_whole, folders), folders[0])
    here, there = os.path.join(".", path), folders[1]
    other = there if folder is folders[0] else here
    notice(f"--model {path} is taken to be {folder.resolve()}; the other folder is --model {other}")
    return folder


def is_folder(path):
    """Whether a folder is there. Raises ModelError where the system forbids to look."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except PermissionError as error:
        raise ModelError(why_unreadable(error, "")) from error
    except (OSError, ValueError):  # no such file, or nothing that can be the name of one
        return False


def is_whole(folder):
    """Whether a folder has all the files of a model."""
    try:
        return not find_missing_files(folder)
    except (FolderError, OSError):
        return False


def suggest(path, models_dir):
    """The model whose name is most like a path's last part, as a question; "" where none is."""
    try:
        folders = [entry.name for entry in os.scandir(models_dir) if entry.is_dir()]
    except OSError:
        folders = []
    names = {name.lower(): name for name in [*folders, BUNDLED, *RELEASED]}
    on_the_hub = {name.split("/")[1]: name for name in ON_THE_HUB.values()}
    wanted = os.path.basename(os.path.normpath(path)).lower()
    if on_the_hub.get(wanted) == path:
        return ""
    if wanted in on_the_hub and wanted not in names:
        return f" (did you mean {on_the_hub[wanted]}?)"
    similar = difflib.get_close_matches(wanted, names, n=1)
    return f" (did you mean {printable(names[similar[0]])}?)" if similar else ""


def check_released(model, folder, hparams):
    """Raise ModelError unless a folder has the sizes and vocabulary of one of OpenAI's models."""
    if hparams != released_hparams(model):
        raise ModelError(
            f"{folder} holds another model than {model}: {hparams}; remove it, or give its path "
            "as --model"
        )
    try:
        check_openai_vocabulary(folder)
    except (FolderError, OSError) as error:
        cure = "remove it to have it fetched again, or give the folder's path as --model"
        raise ModelError(why_unreadable(error, cure)) from error


def load_hparams(folder):
    """{"n_vocab", "n_ctx", "n_embd", "n_head", "n_layer"} from a folder's hparams.json, or from its
    config.json.

    Other keys in the file are left out. Raises ModelError.
    """
    path = Path(folder) / "hparams.json"
    is_huggingface = huggingface.is_huggingface(Path(folder))
    try:
        if is_huggingface:
            return huggingface.read_config(Path(folder)).hparams
        return parse_hparams(read_small(path).decode("utf-8"))
    except OSError as error:
        raise ModelError(why_unreadable(error, "")) from error
    except huggingface.UnsupportedError as error:
        raise ModelError(one_line(error)) from error
    except ValueError as error:
        place = "" if is_huggingface else f"{path}: "
        raise ModelError(f"{place}{one_line(error)}; fetch or copy it again") from error


def load_encoder(folder, hparams):
    """The Encoder of a model folder, with as many tokens as hparams say. Raises ModelError."""
    if huggingface.is_huggingface(Path(folder)):
        return load_huggingface_encoder(Path(folder), hparams["n_vocab"])
    try:
        encoder = get_encoder(folder)
    except EncoderError as error:
        cure = "remove encoder.json and vocab.bpe and fetch or copy them again"
        raise ModelError(why_unreadable(error, cure)) from error
    if len(encoder.encoder) != hparams["n_vocab"]:
        raise ModelError(
            f"{folder}: encoder.json has {len(encoder.encoder)} tokens, hparams.json says "
            f"{hparams['n_vocab']}; these are of different models, fetch or copy them again"
        )
    return encoder


def load_huggingface_encoder(folder, n_vocab=None):
    """The Encoder of a folder in Hugging Face's layout, see its `read_tokenizer`. Raises
    ModelError."""
    try:
        encoder = parse_encoder(*huggingface_tokenizer.read_tokenizer(folder, n_vocab))
        end = huggingface_tokenizer.read_end(folder)
        if encoder.eot is None and end in encoder.special.values():
            encoder.eot = end
        return encoder
    except huggingface.UnsupportedError as error:
        raise ModelError(one_line(error)) from error
    except (FolderError, OSError) as error:
        raise ModelError(why_unreadable(error, "fetch or copy it again")) from error
    except EncoderError as error:
        vocab, merges = huggingface_tokenizer.vocabulary_files(folder)
        file = merges if error.file == "vocab.bpe" else vocab
        problem = one_line(error.problem).replace("encoder.json", vocab)
        raise ModelError(
            f"{folder / file}: {problem}; if this is an added token, only such as <pad> and [PAD] "
            "are read here, else fetch or copy it again"
        ) from error


def load_params(folder, hparams):
    """The weights of a model folder, nested like shapes(hparams), float32.

    Every tensor that hparams ask for must be there in its shape, and no other; all are compared
    with their checksums, large files once (safetensors files have none). Raises ModelError.
    """
    if huggingface.is_huggingface(Path(folder)):
        config, weights = map_safetensors(Path(folder))
        return huggingface.nest_weights(weights, config)
    prefix, tensors = map_weights(folder, hparams)
    try:
        params = nest_tensors(tensors, shapes(hparams))
        verify_once(prefix)
        return params
    except (CheckpointError, OSError) as error:
        raise ModelError(why_unreadable(error, REFETCH_WEIGHTS)) from error


def map_weights(folder, hparams):
    """(prefix, {TensorFlow's name: array}) of a model folder: its weights, mapped and not read.

    They are those that hparams ask for, in their shapes, and no others. Raises ModelError.
    """
    try:
        prefix = find_prefix(Path(folder))
        tensors = read_checkpoint(prefix)
        # Of a billion layers that hparams.json may claim, the first that is missing is enough.
        n_layer = min(hparams["n_layer"], len(tensors))
        find_tensors(tensors, shapes(hparams | {"n_layer": n_layer}))
        return prefix, tensors
    except FolderError as error:
        raise ModelError(why_unreadable(error, REPAIR_CHECKPOINT)) from error
    except (CheckpointError, OSError) as error:
        raise ModelError(why_unreadable(error, REFETCH_WEIGHTS)) from error
    except ValueError as error:
        raise ModelError(f"{prefix}, with hparams.json: {one_line(error)}") from error


def map_safetensors(folder):
    """(Config, {place in the tree: Tensor}) of a folder in Hugging Face's layout: its weights, not
    read yet. Raises ModelError."""
    try:
        config = huggingface.read_config(folder)
        tensors = huggingface.map_tensors(folder)
    except huggingface.UnsupportedError as error:
        raise ModelError(one_line(error)) from error
    except (SafetensorsError, FolderError, OSError) as error:
        raise ModelError(why_unreadable(error, REFETCH_WEIGHTS)) from error
    # Of a billion layers that config.json may claim, the first that is missing is enough.
    n_layer = min(config.hparams["n_layer"], len(tensors))
    wanted = shapes(config.hparams | {"n_layer": n_layer})
    try:
        return config, huggingface.find_weights(tensors, config, wanted)
    except ValueError as error:
        raise ModelError(f"{folder}, with config.json: {one_line(error)}") from error


def shapes(hparams):
    """The shape of every parameter: a tree nested like params, with tuples for its leaves."""
    n_vocab, n_ctx, n_embd, _, n_layer = (hparams[name] for name in SIZES)

    def linear(n_in, n_out):
        return {"w": (n_in, n_out), "b": (n_out,)}

    def norm():
        return {"g": (n_embd,), "b": (n_embd,)}

    def block():
        return {
            "ln_1": norm(),
            "attn": {"c_attn": linear(n_embd, 3 * n_embd), "c_proj": linear(n_embd, n_embd)},
            "ln_2": norm(),
            "mlp": {"c_fc": linear(n_embd, 4 * n_embd), "c_proj": linear(4 * n_embd, n_embd)},
        }

    return {
        "wte": (n_vocab, n_embd),
        "wpe": (n_ctx, n_embd),
        "blocks": [block() for _ in range(n_layer)],
        "ln_f": norm(),
    }


def leaves(tree):
    """The leaves of any nesting of dicts and lists, in order: [array, array, ...]."""
    if not isinstance(tree, dict | list):
        return [tree]
    children = tree.values() if isinstance(tree, dict) else tree
    return [leaf for child in children for leaf in leaves(child)]


def tree_map(function, *trees):
    """function of each leaf, or of the leaves in the same place of several trees of one nesting;
    the results nested alike: tree_map(np.add, gradients, others). Raises ValueError or
    KeyError where the trees are not."""
    first = trees[0]
    if not isinstance(first, dict | list):
        return function(*trees)
    for tree in trees:
        if type(tree) is not type(first) or len(tree) != len(first):
            raise ValueError("the trees are not nested alike")
    if isinstance(first, list):
        return [tree_map(function, *children) for children in zip(*trees, strict=True)]
    return {key: tree_map(function, *(tree[key] for tree in trees)) for key in first}


def n_parameters(hparams):
    """The number of a model's parameters; a float32 each, they fill the data file exactly."""

    def count(n_layer):
        return sum(map(math.prod, leaves(shapes(hparams | {"n_layer": n_layer}))))

    # By difference: a hparams.json may claim a billion layers, whose shapes would fill the memory.
    return count(0) + hparams["n_layer"] * (count(1) - count(0))


def save_model(folder, encoder, hparams, params, dtype=np.float32):
    """Write a model folder that load_encoder_hparams_and_params and OpenAI's code read.

    dtype: float32, or float16 for half the size. A model that was there is replaced, as a whole:
    whenever this is interrupted or killed, the folder holds the old model, or the new one, or none
    that loads. Raises OSError, EncoderError or CheckpointError, the last also where a weight is too
    large for float16.
    """
    check_fits(params, dtype)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = tree_map(lambda array: array.astype(dtype, copy=False), params)
    # "checkpoint" first: as soon as it names the new weights, what was there can no longer be read.
    small_files = {
        folder / "checkpoint": format_checkpoint_state("model.ckpt").encode(),
        folder / "hparams.json": (json.dumps(hparams) + "\n").encode(),
        **encoder_files(encoder, folder),
    }
    write_checkpoint(folder / "model.ckpt", name_tensors(tensors), beside=small_files)


def map_model(model, models_dir=None):
    """`encoder, hparams, weights` of a model as `load_encoder_hparams_and_params` finds it, the
    weights as they lie in their files: {place in the tree, such as "blocks/0/ln_1/g": array}.

    They are mapped and of their own type, float32 or float16; bfloat16, and what has to be computed
    for the forward pass here (see files/huggingface.py), is float32. Raises ModelError.
    """
    folder = find_folder(model, models_dir)
    hparams = load_hparams(folder)
    encoder = load_encoder(folder, hparams)
    if huggingface.is_huggingface(folder):
        config, weights = map_safetensors(folder)
        if not huggingface.is_plain(config):
            return encoder, hparams, flatten(huggingface.nest_weights(weights, config))
        return encoder, hparams, {name: tensor.read() for name, tensor in weights.items()}
    prefix, tensors = map_weights(folder, hparams)
    try:
        verify_once(prefix)
    except (CheckpointError, OSError) as error:
        raise ModelError(why_unreadable(error, REFETCH_WEIGHTS)) from error
    return encoder, hparams, find_tensors(tensors, shapes(hparams))


def check_fits(params, dtype):
    """Raise CheckpointError where a weight is too large for float16."""
    for name, array in name_tensors(params).items():
        if np.abs(array).max() > np.finfo(dtype).max:
            raise CheckpointError(f"{name} has a weight too large for {np.dtype(dtype)}")


def save_encoder(encoder, model_dir):
    """Write an Encoder's encoder.json and vocab.bpe into a folder, made if there is none.

    Both are written whole before they replace any that were there. Raises EncoderError that names
    the file and the reason.
    """
    folder = Path(model_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(encoder_files(encoder, folder))
    except OSError as error:
        raise EncoderError(error.strerror, error.filename) from None


def encoder_files(encoder, folder):
    """{path: content} of an Encoder's two files in a folder."""
    json_text, bpe_text = format_encoder(encoder)
    return {folder / "encoder.json": json_text.encode(), folder / "vocab.bpe": bpe_text.encode()}


def memory_needed(hparams):
    """Bytes of weights, of the keys and values of a whole context, and of everything else."""
    keys_and_values = 2 * 4 * hparams["n_layer"] * hparams["n_ctx"] * hparams["n_embd"]
    return 4 * n_parameters(hparams) + keys_and_values + WORKING_MEMORY


def check_memory(model, hparams):
    """Announce a big model, refuse one that can never fit in memory, warn of one that cannot now.

    Raises ModelError.
    """
    weights, needed = 4 * n_parameters(hparams), memory_needed(hparams)
    sizes = f"{model}: {readable(weights)} of weights, {readable(needed)} of memory needed"
    try:
        require_memory(model, needed, announcement=sizes if weights >= BIG else "")
    except LowMemoryError as error:
        raise ModelError(str(error)) from error


def download(model, models_dir=None):
    """Fetch what models_dir/model lacks of one of OpenAI's models: the path of this folder.

    Of two processes the second waits, and finds the work done. Raises ModelError; after that, as
    after Ctrl-C or a power cut, the same call goes on where this one stopped.
    """
    folder, hparams = models_folder(models_dir) / model, released_hparams(model)
    check_memory(model, hparams)
    weights, memory = 4 * n_parameters(hparams), memory_needed(hparams)
    try:
        fetch_released(model, folder, shapes(hparams), weights, memory)
    except DownloadError as error:
        raise ModelError(str(error)) from error
    return folder


def download_from_hub(model, folder, models_dir):
    """Fetch what a folder lacks of a model on Hugging Face's Hub: see hub.fetch_model. Raises
    ModelError, which says where else the model was looked for when nothing of it came."""

    def check(hparams):
        check_memory(model, hparams)
        load_encoder(folder, hparams)

    try:
        hub.fetch_model(folder, hub.parse_name(model), check)
    except DownloadError as error:
        if is_folder(folder):
            raise ModelError(str(error)) from error
        hint = suggest(os.fspath(model), models_dir)
        raise ModelError(
            f"there is no folder {os.fspath(model)!r} here or in {models_dir}{hint}, so the Hub "
            f"was asked: {error}; --list shows what is here"
        ) from error
