"""Model folders: find one, download it, check it, load it.

A model folder holds OpenAI's files: hparams.json (the sizes), encoder.json and vocab.bpe (the
vocabulary), and a TensorFlow checkpoint (the weights). This file reads from the top down: first how
a folder becomes `encoder, hparams, params`, then how a folder comes to this computer.

A download may be cut off at any moment and run again. Each file grows under its name with ".part"
added, and gets its own name only when it is complete and has been checked, so whatever has its own
name can be trusted. What is true of a .part file is told by the file itself and the ".part.etag"
beside it (the server's mark of the version it is a part of): there is no other state to lose.
"""

import contextlib
import glob
import json
import math
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from encoder import EncoderError, format_encoder, get_encoder
from files.tf_checkpoint import (
    Checkpoint,
    CheckpointError,
    map_shard,
    parse_index,
    read_checkpoint,
    write_checkpoint,
)
from files.tf_names import name_tensors, nest_tensors
from files.whole import write_whole

BASE_URL = "https://openaipublic.blob.core.windows.net/gpt-2/models"  # or $GPT2_BASE_URL
MODELS_DIR = Path(__file__).resolve().parent / "models"  # or $GPT2_MODELS_DIR

INDEX = "model.ckpt.index"
DATA = "model.ckpt.data-00000-of-00001"
FILES = ("hparams.json", "encoder.json", "vocab.bpe", "checkpoint", INDEX, DATA)
# Where two files do not fit together, either may be wrong: both are fetched again.
CHECKED_WITH = {"vocab.bpe": "encoder.json", DATA: INDEX}

BUNDLED = "tales"  # comes with the code, in MODELS_DIR beside it

SIZES = ("n_vocab", "n_ctx", "n_embd", "n_head", "n_layer")
RELEASED = {
    "124M": (50257, 1024, 768, 12, 12),
    "355M": (50257, 1024, 1024, 16, 24),
    "774M": (50257, 1024, 1280, 20, 36),
    "1558M": (50257, 1024, 1600, 25, 48),
    "117M": (50257, 1024, 768, 12, 12),  # the first names of 124M and 355M, from before
    "345M": (50257, 1024, 1024, 16, 24),  # the parameters were counted with care
}

CONTAINER_LIMITS = (  # of Linux control groups, version 2 and 1, as seen inside a container
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)

VERIFIED = "verified.json"  # in a model folder: which files were compared with their checksums
QUICKLY_VERIFIED = 64 * 10**6  # bytes: that much is compared in a tenth of a second

BIG = 10**9  # bytes: weights of this size are announced before they are loaded
WORKING_MEMORY = 200 * 10**6  # bytes: Python, NumPy, the vocabulary, a long prompt's activations
SMALL_FILE = 16 * 2**20  # bytes: no file but the weights may be larger (encoder.json has 1 MB)

CHUNK = 2**16  # bytes
CONNECT_TIMEOUT = 10  # seconds
READ_TIMEOUT = 30  # seconds without a single byte
ATTEMPTS = 6  # in a row without progress, before a download is given up
FIRST_WAIT, LONGEST_WAIT = 1, 60  # seconds between two attempts: doubled each time, up to this
LOCK_WAIT = 0.5  # seconds between two looks at another process's lock


class ModelError(Exception):
    """A model cannot be found, fetched or loaded: one line that says what, where, what to do."""


def load_encoder_hparams_and_params(model="tales", models_dir=None):
    """Return `encoder, hparams, params` of a model; one of OpenAI's is downloaded when not there.

    model: "tales", which comes with the code; one of OpenAI's names (see RELEASED), looked for in
        models_dir/name; or the path of a model folder.
    models_dir: by default $GPT2_MODELS_DIR, or else "models" beside this file.

    params are float32, nested as the names in the checkpoint are (see load_params). They are
    read-only views of the mapped file, which is read when they are used; copy.deepcopy makes them
    writable. Every tensor is compared with its checksum, large ones once. Raises ModelError.
    """
    folder = find_folder(model, models_dir)
    hparams = load_hparams(folder)
    if is_released(model) and hparams != released_hparams(model):
        raise ModelError(
            f"{folder} holds another model than {model}: {hparams}; remove it, or give its path "
            "as --model"
        )
    check_memory(model, hparams)
    try:
        encoder = get_encoder(folder)
    except (EncoderError, OSError) as error:
        raise ModelError(
            f"{one_line(error)}; remove encoder.json and vocab.bpe and fetch or copy them again"
        ) from error
    if len(encoder.encoder) != hparams["n_vocab"]:
        raise ModelError(
            f"{folder}: encoder.json has {len(encoder.encoder)} tokens, hparams.json says "
            f"{hparams['n_vocab']}; these are of different models, fetch or copy them again"
        )
    params = load_params(folder, hparams)
    verify_once(folder)
    return encoder, hparams, params


def is_released(model):
    """Whether `model` is one of OpenAI's names, and not a path."""
    return isinstance(model, str) and model in RELEASED


def released_hparams(model):
    return dict(zip(SIZES, RELEASED[model], strict=True))


def find_folder(model, models_dir=None):
    """The folder of a model with all its files in it, downloaded first where a name needs it."""
    if is_released(model):
        folder = models_folder(models_dir) / model
        return folder if is_complete(folder) else download(model, models_dir)

    path = MODELS_DIR / BUNDLED if model == BUNDLED else os.path.expanduser(model)
    if not os.path.isdir(path):
        names = ", ".join([BUNDLED, *RELEASED])
        raise ModelError(
            f"no model {os.fspath(model)!r}: it is neither one of these ({names}) nor a "
            "folder; write a folder with its path, such as ./my-model"
        )
    folder = Path(path)
    prefix = checkpoint_prefix(folder)
    needed = [folder / name for name in ("hparams.json", "encoder.json", "vocab.bpe")]
    needed.append(prefix.with_name(f"{prefix.name}.index"))
    missing = [path.name for path in needed if not os.path.isfile(path)]
    if not glob.glob(f"{glob.escape(str(prefix))}.data-*-of-*"):
        missing.append(f"{prefix.name}.data-00000-of-00001")
    if missing:
        raise ModelError(
            f"{folder} is not a whole model folder: missing are {', '.join(missing)}; put them "
            "there, or give one of OpenAI's names to have its files downloaded"
        )
    return folder


def models_folder(models_dir=None):
    path = models_dir or os.environ.get("GPT2_MODELS_DIR") or MODELS_DIR
    return Path(os.path.expanduser(path))


def is_complete(folder):
    return all(os.path.isfile(folder / name) for name in FILES)


def load_hparams(folder):
    """Return {"n_vocab", "n_ctx", "n_embd", "n_head", "n_layer"} from a folder's hparams.json.

    Other keys in the file are left out. Raises ModelError.
    """
    path = Path(folder) / "hparams.json"
    try:
        return parse_hparams(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: {one_line(error)}; fetch or copy it again") from error


def parse_hparams(text):
    """The five numbers that hparams.json holds; ValueError where they cannot be GPT-2's."""
    hparams = parse_json_object(text)
    for name in SIZES:
        value = hparams.get(name)
        if type(value) is not int or not 0 < value < 2**31:  # bool is an int, too
            found = "is missing" if value is None else f"is {str(value)[:40]}"
            raise ValueError(f"{name} {found}, where a positive whole number is expected")
    if hparams["n_embd"] % hparams["n_head"]:
        raise ValueError(
            f"n_embd {hparams['n_embd']} cannot be divided among n_head {hparams['n_head']} heads"
        )
    return {name: hparams[name] for name in SIZES}


def parse_json_object(text):
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        page = " (it looks like an HTML page)" if text.lstrip().startswith("<") else ""
        raise ValueError(f"is not JSON{page}: {error}") from None
    if not isinstance(value, dict):
        raise ValueError("is not a JSON object")
    return value


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
    the results nested alike: tree_map(np.add, gradients, others)."""
    first = trees[0]
    if isinstance(first, dict):
        return {key: tree_map(function, *(tree[key] for tree in trees)) for key in first}
    if isinstance(first, list):
        return [tree_map(function, *children) for children in zip(*trees, strict=True)]
    return function(*trees)


def n_parameters(hparams):
    """The number of a model's parameters; a float32 each, they fill the data file exactly."""

    def count(n_layer):
        return sum(map(math.prod, leaves(shapes(hparams | {"n_layer": n_layer}))))

    return count(0) + hparams["n_layer"] * (count(1) - count(0))


def load_params(folder, hparams):
    """Return the weights of a model folder, nested as their names are, float32.

    Every tensor that hparams ask for must be there in its shape, and no other. Raises ModelError.
    """
    prefix = checkpoint_prefix(Path(folder))
    try:
        tensors = read_checkpoint(prefix)
        # Of a billion layers that hparams.json may claim, the first that is missing is enough.
        n_layer = min(hparams["n_layer"], len(tensors))
        return nest_tensors(tensors, shapes(hparams | {"n_layer": n_layer}))
    except CheckpointError as error:
        raise ModelError(f"{one_line(error)}; remove it and fetch or copy it again") from error
    except ValueError as error:
        raise ModelError(f"{prefix}, with hparams.json: {one_line(error)}") from error


def verify_once(folder):
    """Compare the weights of a model folder with their checksums. Raises ModelError.

    Small files are checked every time, as it takes no time. Of large ones a note is left in the
    folder, and they are checked again only when size or date differ from it.
    """
    prefix = checkpoint_prefix(Path(folder))
    state = file_state(prefix)
    large = sum(size for size, _ in state.values()) > QUICKLY_VERIFIED
    if large:
        with contextlib.suppress(OSError, ValueError):
            if json.loads((prefix.parent / VERIFIED).read_text("utf-8")) == state:
                return
        notice(f"comparing the weights in {folder} with their checksums")
    try:
        read_checkpoint(prefix, verify=True)
    except CheckpointError as error:  # it says what to do
        raise ModelError(one_line(error)) from error
    if large:
        note_verified(prefix)


def note_verified(prefix):
    """Leave the note that `verify_once` looks for, where the folder can be written to."""
    with contextlib.suppress(OSError):
        (prefix.parent / VERIFIED).write_text(json.dumps(file_state(prefix)), "utf-8")


def file_state(prefix):
    """{name: [bytes, date in ns]} of a checkpoint's files."""
    paths = [Path(f"{prefix}.index"), *prefix.parent.glob(f"{glob.escape(prefix.name)}.data-*")]
    stats = {path.name: path.stat() for path in paths}
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}


def checkpoint_prefix(folder):
    """The path that the weights' files begin with: the file "checkpoint" says, else model.ckpt."""
    path = folder / "checkpoint"
    if not os.path.isfile(path):
        return folder / "model.ckpt"
    try:
        name = parse_checkpoint_state(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: {one_line(error)}") from error
    prefix = folder / name
    if not prefix.resolve().is_relative_to(folder.resolve()):
        raise ModelError(f"{path} points out of its folder, to {name}; give the bare name there")
    return prefix


def parse_checkpoint_state(text):
    """The path in the file "checkpoint", a CheckpointState protocol buffer in its text form."""
    match = re.search(r'^model_checkpoint_path: *"([^"\\\x00-\x1f]{1,200})" *$', text, re.MULTILINE)
    if not match:
        raise ValueError('has no line such as model_checkpoint_path: "model.ckpt"')
    return match[1]


def save_encoder(encoder, model_dir):
    """Write an Encoder's encoder.json and vocab.bpe into a folder, made if there is none.

    Both are written whole before they replace any that were there. Raises EncoderError that names
    the file and the reason.
    """
    json_text, bpe_text = format_encoder(encoder)
    folder = Path(model_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(
            {folder / "encoder.json": json_text.encode(), folder / "vocab.bpe": bpe_text.encode()}
        )
    except OSError as error:
        raise EncoderError(error.strerror, error.filename) from None


def save_model(folder, encoder, hparams, params, dtype=np.float32):
    """Write a model folder that load_encoder_hparams_and_params and OpenAI's code read.

    dtype: float32, or float16 for half the size. Each file is written whole or not at all, the
    weights last; what was there under the same names is replaced. Raises OSError, EncoderError or
    CheckpointError, the last also where a weight is too large for float16.
    """
    check_fits(params, dtype)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_encoder(encoder, folder)
    write_whole({
        folder / "hparams.json": (json.dumps(hparams) + "\n").encode(),
        folder / "checkpoint": b'model_checkpoint_path: "model.ckpt"\n',
    })
    tensors = tree_map(lambda array: array.astype(dtype, copy=False), params)
    write_checkpoint(folder / "model.ckpt", name_tensors(tensors))


def check_fits(params, dtype):
    """Raise CheckpointError where a weight is too large for float16."""
    largest = np.finfo(dtype).max
    for name, array in name_tensors(params).items():
        if np.abs(array).max() > largest:
            raise CheckpointError(f"{name} has a weight too large for {np.dtype(dtype)}")


def memory_needed(hparams):
    """Bytes of weights, of the keys and values of a whole context, and of everything else."""
    keys_and_values = 2 * 4 * hparams["n_layer"] * hparams["n_ctx"] * hparams["n_embd"]
    return 4 * n_parameters(hparams) + keys_and_values + WORKING_MEMORY


def check_memory(model, hparams):
    """Announce a big model, refuse one that can never fit in memory, warn of one that cannot now.

    Every token reads every weight. Mapped weights that find no room are dropped and read from the
    file again: nothing breaks, but each token waits for the disk. Raises ModelError.
    """
    weights, needed = 4 * n_parameters(hparams), memory_needed(hparams)
    total, available = memory()
    if total is not None and total < needed:
        raise ModelError(
            f"{model} needs {readable(needed)} of memory, and this computer has {readable(total)}; "
            "take a smaller model"
        )
    if weights >= BIG:
        notice(f"{model}: {readable(weights)} of weights, {readable(needed)} of memory needed")
    if available is not None and available < needed:
        notice(
            f"{model} needs {readable(needed)} of memory, only {readable(available)} are available:"
            " it may be very slow; close other programs or take a smaller model"
        )


def memory():
    """(total, available): bytes of memory that this process can have; None where nobody tells."""
    total = available = None
    try:
        with open("/proc/meminfo") as file:
            kib = {key: int(rest.split()[0]) for key, rest in (line.split(":") for line in file)}
        total, available = 1024 * kib["MemTotal"], 1024 * kib["MemAvailable"]
    except (OSError, KeyError, ValueError):  # not Linux
        with contextlib.suppress(AttributeError, OSError, ValueError):  # Windows has no sysconf
            total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = []
    for path in CONTAINER_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # the file may say "max", which is no limit
            limits.append(int(Path(path).read_text()))
    return tuple(None if n is None else min([n, *limits]) for n in (total, available))


def download(model, models_dir=None):
    """Fetch what models_dir/model lacks of one of OpenAI's models; return this folder.

    The small files come first, so that anything wrong shows before gigabytes are fetched. Of two
    processes the second waits, and finds the work done. Raises ModelError; after that, as after
    Ctrl-C or a power cut, the same call goes on where this one stopped.
    """
    import requests  # not at the top: a small model has spoken by the time that this is imported

    folder = models_folder(models_dir) / model
    url = f"{(os.environ.get('GPT2_BASE_URL') or BASE_URL).rstrip('/')}/{model}"
    hparams = released_hparams(model)
    check_memory(model, hparams)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with lock(folder / "download.lock"), requests.Session() as session:
            if not is_complete(folder):
                check_disk(folder, 4 * n_parameters(hparams))
                size, needed = 4 * n_parameters(hparams), memory_needed(hparams)
                notice(f"downloading {model} from {url} into {folder}: {readable(size)} of disk, "
                       f"and {readable(needed)} of memory to run it")
            for name in FILES:
                if not (folder / name).is_file():
                    fetch_and_check(session, url, folder, name, hparams)
    except OSError as error:
        raise ModelError(
            f"cannot write to {folder}: {error.strerror or error}; make room or give another place "
            "with --models-dir or GPT2_MODELS_DIR, then run again"
        ) from error
    return folder


def check_disk(folder, size):
    """Refuse a download that does not fit on the disk, less what a .part file already holds."""
    have = n_bytes(folder / DATA) or n_bytes(part_of(folder / DATA))
    needed, free = max(0, size - have) + SMALL_FILE, shutil.disk_usage(folder).free
    if free < needed:
        raise ModelError(
            f"not enough disk space: {folder} needs {readable(needed)}, {readable(free)} are free; "
            "make room or give another place with --models-dir or GPT2_MODELS_DIR"
        )


@contextlib.contextmanager
def lock(path):
    """Hold a lock that the operating system lets go of when this process ends, however it ends."""
    with open(path, "a") as file:
        if not try_lock(file):
            notice(f"another process is downloading into {path.parent}, waiting for it")
            while not try_lock(file):
                time.sleep(LOCK_WAIT)
        yield


def try_lock(file):
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # how POSIX and Windows say that another holds it
        return False
    return True


def fetch_and_check(session, url, folder, name, hparams):
    """Bring one file of a model into its folder, whole and checked, or raise ModelError."""
    size = 4 * n_parameters(hparams) if name == DATA else None
    try:
        part = fetch(session, f"{url}/{name}", folder / name, size)
        check(part, name, hparams)
    except ValueError as error:
        raise ModelError(
            f"{url}/{name}: {one_line(error)}; run again later, or set GPT2_BASE_URL to a mirror, "
            f"or put {', '.join(FILES)} from {url}/ into {folder} yourself"
        ) from error
    with open(part, "rb+") as file:  # a crash of the machine must not leave the name without bytes
        os.fsync(file.fileno())
    os.replace(part, folder / name)
    etag_of(part).unlink(missing_ok=True)
    if name == DATA and size > QUICKLY_VERIFIED:
        note_verified(folder / "model.ckpt")


class Interrupted(Exception):
    """An attempt to download stopped by something that may pass; never leaves this file.

    wait: seconds that the server asks to wait
    unreachable: there was no connection to it at all
    """

    def __init__(self, reason, wait=0.0, unreachable=False):
        super().__init__(reason)
        self.wait, self.unreachable = wait, unreachable


def fetch(session, url, path, size=None):
    """Download url into a .part file beside path, through interruptions; return the .part's path.

    size: of the whole file in bytes, where it is known beforehand. An attempt that takes the file
    further than it has been starts the count of attempts anew. Raises ValueError.
    """
    from tqdm import tqdm

    part = part_of(path)
    before = furthest = n_bytes(part)
    failures = 0
    bar = {"desc": path.name, "total": size, "unit": "B", "unit_scale": True, "initial": before}
    with tqdm(**bar, file=sys.stderr, disable=None) as bar:  # None: unless it is not a terminal
        while size is None or n_bytes(part) != size:
            try:
                fetch_rest(session, url, part, size, bar)
                break
            except Interrupted as fault:
                failures = 1 if n_bytes(part) > furthest else failures + 1
                furthest = max(furthest, n_bytes(part))
                if failures == ATTEMPTS or (fault.unreachable and furthest == before):
                    raise ValueError(str(fault)) from fault
                wait = min(max(FIRST_WAIT * 2 ** (failures - 1), fault.wait), LONGEST_WAIT)
                bar.write(f"{url}: {fault}; trying again in {wait:.0f} s", file=sys.stderr)
                time.sleep(wait)
    return part


def fetch_rest(session, url, part, size, bar):
    """Ask once for the bytes that a .part file lacks, and write them as they come.

    Raises Interrupted when another attempt may help, ValueError when not.
    """
    import requests

    have, version = resume_point(part, size)
    headers = {"Accept-Encoding": "identity"}  # offsets in a compressed file would mean nothing
    if have:
        # With the last byte, where it is known: Azure's storage, where OpenAI's files lie, by
        # default behaves as in 2009, when it ignored "bytes=500-".
        last = "" if size is None else size - 1
        headers |= {"Range": f"bytes={have}-{last}", "If-Range": version}
    try:
        with session.get(
            url, headers=headers, stream=True, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT)
        ) as response:
            check_status(response, part)
            start, total = body_range(response, part, have, version)
            check_size(size, total)
            bar.total = total or size
            bar.update(start - bar.n)
            if have > start:
                bar.write(f"{url}: the server starts over from the beginning", file=sys.stderr)
            with open(part, "ab" if start else "wb") as file:
                if start == 0:
                    etag_of(part).write_text(version_of(response), "latin-1")
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
                    if file.tell() > (size or SMALL_FILE):
                        check_size(size, file.tell())
    except requests.RequestException as error:
        raise explain(error) from error
    if n_bytes(part) < (size or total or 0):
        raise Interrupted(
            f"the connection broke off after {n_bytes(part)} of {size or total} bytes"
        )


def resume_point(part, size):
    """(bytes that a .part file holds, version they are of), or (0, "") if it must begin anew."""
    try:
        version = etag_of(part).read_text("latin-1")
    except FileNotFoundError:
        version = ""
    have = n_bytes(part)
    usable = version and version.isprintable() and have <= (size or SMALL_FILE)
    return (have, version) if usable else (0, "")


def version_of(response):
    """What identifies this version of a file on its server: a strong ETag, a date, or "".

    Azure's ETags have no quotes by default; as If-Range these are not valid.
    """
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def check_status(response, part):
    """Raise unless the response has the file, or a range of it."""
    status = response.status_code
    answer = f"the server answered {status} {response.reason}"
    if status == 416:  # our .part is as long as the file there, or longer: do not trust it
        discard(part)
        raise Interrupted(answer)
    if status in (408, 425, 429) or status >= 500:
        wait = response.headers.get("Retry-After", "")  # a number of seconds (or a date: ignored)
        raise Interrupted(answer, wait=float(wait) if wait.isdecimal() else 0.0)
    if status not in (200, 206):
        raise ValueError(answer)
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise ValueError("the server sends it compressed, unasked")
    if "text/html" in response.headers.get("Content-Type", ""):
        raise ValueError("an HTML page came instead of the file")


def body_range(response, part, have, version):
    """(where a response's body begins in the file, size of the whole file or None)."""
    if response.status_code == 200:  # the whole file: no ranges here, or it is another version now
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if re.fullmatch("[0-9]{1,18}", length) else None
    given = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]+/([0-9]{1,18}|\*)", given)
    if not match or int(match[1]) != have or (have and version_of(response) not in ("", version)):
        discard(part)
        raise Interrupted(f"asked for the bytes from {have}, got {given or 'some'!r}")
    return have, None if match[2] == "*" else int(match[2])


def check_size(size, found):
    """Refuse a file of the wrong size, as soon as it is known (found is None where it is not)."""
    if found is None:
        return
    if size is None and found > SMALL_FILE:
        raise ValueError(f"is {readable(found)} long, far more than this file has")
    if size is not None and found != size:
        raise ValueError(f"is {found} bytes long instead of {size}")


def explain(error):
    """A requests exception as Interrupted or, where another attempt cannot help, as ValueError."""
    from requests import exceptions as e
    from urllib3.exceptions import NewConnectionError  # refused, or no such host

    if isinstance(error, e.ChunkedEncodingError):
        return Interrupted("the connection broke off in the middle")
    # The cause is wrapped by urllib3, and its text may begin with "<urllib3... object at 0x...>: "
    # or "HTTPSConnection(host=..., port=...): ".
    cause = getattr(error.args[0] if error.args else None, "reason", None) or error
    reason = re.sub(r"<[^<>]*>: ?|\w+\(host=[^()]*\): ?", "", one_line(cause))
    if not isinstance(error, (e.ConnectionError, e.Timeout)):
        return ValueError(reason)
    refused = isinstance(error, (e.ProxyError, e.SSLError)) or isinstance(cause, NewConnectionError)
    return Interrupted(reason, unreachable=refused)


def check(part, name, hparams):
    """Remove a finished .part file that is not what it should be; a ValueError says what it is."""
    problem = None
    try:
        if name == DATA:
            check_weights(part, hparams)
        elif name == INDEX:
            index_entries(part)
        elif name == "vocab.bpe":
            check_vocabulary(part)
        else:
            check_text(name, part.read_text("utf-8"), hparams)
    except ValueError as error:
        problem = one_line(error)
    if problem:  # no longer inside `except`: Windows removes no file that a traceback keeps mapped
        discard(part)
        if name in CHECKED_WITH:
            (part.parent / CHECKED_WITH[name]).unlink()
        raise ValueError(problem)


def check_text(name, text, hparams):
    if name == "hparams.json" and parse_hparams(text) != hparams:
        raise ValueError(f"is of another model: {parse_hparams(text)}")
    if name == "encoder.json" and len(parse_json_object(text)) != hparams["n_vocab"]:
        n_tokens = len(parse_json_object(text))
        raise ValueError(f"has {n_tokens} tokens instead of {hparams['n_vocab']}")
    if name == "checkpoint" and parse_checkpoint_state(text) != "model.ckpt":
        raise ValueError("names another checkpoint than model.ckpt")


def check_vocabulary(part):
    """Load vocab.bpe, still a .part, together with the encoder.json that is there already."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(part.with_name("encoder.json"), folder)
        shutil.copy(part, Path(folder, "vocab.bpe"))
        try:
            get_encoder(folder)
        except EncoderError as error:
            raise ValueError(str(error).replace(folder, str(part.parent))) from None


def index_entries(path):
    """What the index of a checkpoint in one shard says about its tensors."""
    n_shards, entries = parse_index(path.read_bytes())
    if n_shards != 1:
        raise ValueError(f"is of a checkpoint in {n_shards} shards instead of 1")
    return entries


def check_weights(part, hparams):
    """Compare the tensors of a data file, still a .part, with its index and with hparams."""
    notice("checking every tensor's checksum")
    entries = index_entries(part.with_name(INDEX))
    tensors = Checkpoint(part, entries, {0: map_shard(part, entries)})
    nest_tensors(tensors, shapes(hparams))
    tensors.verify()


def part_of(path):
    return path.with_name(f"{path.name}.part")


def etag_of(part):
    return part.with_name(f"{part.name}.etag")


def n_bytes(path):
    """The size of a file, 0 if it does not exist."""
    return path.stat().st_size if path.exists() else 0


def discard(part):
    part.unlink(missing_ok=True)
    etag_of(part).unlink(missing_ok=True)


def readable(n_bytes):
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"


def one_line(error):
    return " ".join(str(error).split())[:400]


def notice(text):
    with contextlib.suppress(OSError):  # a full disk behind stderr stops nothing
        print(text, file=sys.stderr, flush=True)


# Temporary, for train.py, its tests and the notebooks until they walk trees themselves:
# flatten_params(params) is files.tf_names.name_tensors, nest_params is nest_tensors with shapes.
flatten_params = name_tensors


def nest_params(tensors, hparams):
    return nest_tensors(tensors, shapes(hparams))
