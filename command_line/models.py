"""What --list says: the models that are here, and what is known of each without reading weights."""

import os
from typing import NamedTuple

from command_line.stream import write
from files import hub
from files.download import part_of, size_of
from files.messages import one_line, printable, readable, why_unreadable
from files.openai_folder import (
    DATA,
    FILES,
    find_missing,
    find_prefix,
    is_file,
    is_large,
    is_outdated,
    stat_files,
    was_verified,
)
from files.released import is_released, released_hparams
from utils import (
    BUNDLED,
    MODELS_DIR,
    ModelError,
    check_released,
    find_missing_files,
    load_encoder,
    load_hparams,
    map_safetensors,
    map_weights,
    mend,
    models_folder,
    n_parameters,
)


class Row(NamedTuple):
    """A line of the table; "" where something is not known."""

    name: str
    parameters: str = ""
    size: str = ""
    weights: str = ""
    state: str = ""


def write_models(models_dir=None):
    """Write a table of the bundled model and of those in the models folder to standard output, and
    a line that says where that folder is. Nothing is loaded or fetched. Raises ModelError and
    OutputError.
    """
    folder = models_folder(models_dir)
    rows = [Row("model", "parameters", "on disk", "weights", "state")]
    rows += [describe_model(*model) for model in find_models(folder)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, parameters, size, weights, state in rows:
        numbers = f"{parameters:>{widths[1]}}  {size:>{widths[2]}}"
        write(f"{name:<{widths[0]}}  {numbers}  {weights:<{widths[3]}}  {state}".rstrip() + "\n")
    write(f"\n{describe_place(folder)}\n")


def find_models(folder):
    """[(name as --model takes it, folder)] of every model that is here, whole or not."""
    bundled = MODELS_DIR / BUNDLED
    models = [(BUNDLED, bundled)]
    for path in list_folder(folder):
        if looks_like_model(path) and not is_same(path, bundled):
            # A folder called tales is reached by its path: the name means the bundled model.
            models.append((str(path.absolute()) if path.name == BUNDLED else path.name, path))
        models += [
            (f"{path.name}/{inner.name}", inner)
            for inner in list_folder(path)
            if hub.is_model(inner)
        ]
    return models


def list_folder(folder):
    """The paths in a folder, sorted; none where it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def looks_like_model(path):
    """Whether this is a folder with a model in it, or a part of one, or one nobody may read."""
    try:
        names = set(os.listdir(path))
    except PermissionError:
        return path.is_dir()
    except OSError:  # no folder
        return False
    parts = {part_of(path / name).name for name in FILES}
    is_openais = is_released(path.name) or bool(names & {*FILES, *parts})
    return is_openais or hub.is_model(path)


def is_same(path, other):
    """Whether both are the same folder."""
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False


def describe_model(name, folder):
    """The row of a model: what its small files say, and their names and sizes."""
    row = Row(printable(name))
    try:
        if hub.is_model(folder) and not is_file(folder / "hparams.json"):
            return describe_huggingface(name, folder)
        row = row._replace(size=readable(sum_sizes(folder)))
        missing = find_missing(folder)
        if is_outdated(folder):
            return row._replace(state=f"its training was cut off while it saved; {mend(folder)}")
        if missing:
            return row._replace(state=describe_missing(name, folder, missing))
        hparams = load_hparams(folder)
        if is_released(name):
            check_released(name, folder, hparams)
        else:
            load_encoder(folder, hparams)
        prefix, tensors = map_weights(folder, hparams)
        row = row._replace(
            parameters=f"{n_parameters(hparams):,}", weights=str(tensors["model/ln_f/b"].dtype)
        )
        return row._replace(state=describe_verified(prefix))
    except ModelError as error:
        return row._replace(state=one_line(error))
    except (OSError, ValueError) as error:
        return row._replace(state=why_unreadable(error, "fetch or copy it again"))


def describe_huggingface(name, folder):
    """The row of a model in Hugging Face's layout. Raises ModelError, OSError and ValueError."""
    size = sum(path.stat().st_size for path in folder.iterdir())
    row = Row(printable(name), size=readable(size))
    if hub.is_unfinished(folder):
        return row._replace(state=f"incomplete; --model {printable(name)} fetches the rest")
    if missing := find_missing_files(folder):
        return row._replace(state=describe_missing(name, folder, missing))
    hparams = load_hparams(folder)
    load_encoder(folder, hparams)
    _, weights = map_safetensors(folder)
    parameters, dtype = f"{n_parameters(hparams):,}", str(weights["ln_f/b"].dtype)
    return row._replace(parameters=parameters, weights=dtype)


def sum_sizes(folder):
    """Bytes of a model's files in a folder, be they parts yet."""
    weights = find_prefix(folder).name
    return sum(
        path.stat().st_size
        for path in folder.iterdir()
        if path.name.removesuffix(".part") in FILES or path.name.startswith(f"{weights}.data-")
    )


def describe_missing(name, folder, missing):
    """What is said of a model that is not whole."""
    if not is_released(name):
        return f"incomplete: missing are {printable(', '.join(missing))}"
    whole = 4 * n_parameters(released_hparams(name))
    here = size_of(folder / DATA) or size_of(part_of(folder / DATA))
    sizes = f"{readable(here)} of {readable(whole)} are here"
    return f"incomplete: {sizes}; --model {name} fetches the rest"


def describe_verified(prefix):
    """Whether the weights were compared with their checksums."""
    if not is_large(stat_files(prefix)):
        return "compared with its checksums whenever it is loaded"
    if was_verified(prefix):
        return "was compared with its checksums"
    return "not yet compared with its checksums; that is done when it is loaded"


def describe_place(folder):
    """Where models were looked for, and why there are none, where that can be said."""
    place = printable(str(folder))
    try:
        os.listdir(folder)
    except FileNotFoundError:
        return f"looked in {place}, which does not exist"
    except OSError as error:
        return f"looked in {place}: {error.strerror}"
    return f"looked in {place}"
