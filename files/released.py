"""The models that OpenAI released: their names, their sizes, and fetching one.

What a model's parameters are, what memory it needs and whether a vocabulary can be one is known
elsewhere, and passed in.
"""

import os

from files.download import DiskError, DownloadError, fetch_missing
from files.messages import readable
from files.openai_folder import DATA, FILES, INDEX, SIZES, check_file, note_verified

BASE_URL = "https://openaipublic.blob.core.windows.net/gpt-2/models"  # or $GPT2_BASE_URL
RELEASED = {
    "124M": (50257, 1024, 768, 12, 12),  # n_vocab, n_ctx, n_embd, n_head, n_layer
    "355M": (50257, 1024, 1024, 16, 24),
    "774M": (50257, 1024, 1280, 20, 36),
    "1558M": (50257, 1024, 1600, 25, 48),
    "117M": (50257, 1024, 768, 12, 12),  # the first names of 124M and 355M, from before
    "345M": (50257, 1024, 1024, 16, 24),  # the parameters were counted with care
}


def is_released(model):
    """Whether `model` is one of OpenAI's names, and not a path."""
    return isinstance(model, str) and model in RELEASED


def released_hparams(model):
    """The hparams of one of OpenAI's models."""
    return dict(zip(SIZES, RELEASED[model], strict=True))


def fetch_released(model, folder, shapes, weights, memory, check_merges):
    """Fetch what a folder lacks of one of OpenAI's models.

    shapes: of the model's parameters, a tree with tuples for its leaves
    weights, memory: bytes of the data file, and bytes that it takes to run the model
    check_merges: called with the path of a finished vocab.bpe, still a .part beside encoder.json;
        raises ValueError that says what is wrong with it

    The small files come first, so that anything wrong shows before gigabytes are fetched. Raises
    DownloadError: one line that says what, where, what to do. After that, as after Ctrl-C or a
    power cut, the same call goes on where this one stopped.
    """
    url = f"{(os.environ.get('GPT2_BASE_URL') or BASE_URL).rstrip('/')}/{model}"
    hparams = released_hparams(model)

    def check(name, part):
        if name == "vocab.bpe":
            check_merges(part)
        else:
            check_file(name, part, hparams, shapes)

    try:
        fetched = fetch_missing(
            url,
            folder,
            sizes=dict.fromkeys(FILES) | {DATA: weights},
            check=check,
            partners={"vocab.bpe": "encoder.json", DATA: INDEX},
            announcement=f"downloading {model} from {url} into {folder}: {readable(weights)} of "
            f"disk, and {readable(memory)} of memory to run it",
        )
    except (DownloadError, OSError) as error:
        raise DownloadError(explain_failure(error, url, folder)) from error
    if DATA in fetched:
        note_verified(folder / "model.ckpt")


def explain_failure(error, url, folder):
    """The line that says why the files at url did not come into a folder, and what to do."""
    room = "make room or give another place with --models-dir or GPT2_MODELS_DIR"
    if isinstance(error, DiskError):
        return f"{error}; {room}"
    if isinstance(error, DownloadError):
        return (
            f"{error}; run again later, or set GPT2_BASE_URL to a mirror, or put "
            f"{', '.join(FILES)} from {url}/ into {folder} yourself"
        )
    return f"cannot write to {folder}: {error.strerror or error}; {room}, then run again"
