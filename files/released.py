"""The models that OpenAI released: their names, sizes and vocabulary, and fetching one.

What a model's parameters are and what memory it needs is known elsewhere, and passed in.
"""

import hashlib
import os

from files.download import DiskError, DownloadError, explain_writing, fetch_missing
from files.messages import readable
from files.openai_folder import (
    DATA,
    FILES,
    INDEX,
    SIZES,
    FolderError,
    check_file,
    note_verified,
    read_small,
)

BASE_URL = "https://openaipublic.blob.core.windows.net/gpt-2/models"  # or $GPT2_BASE_URL
RELEASED = {
    "124M": (50257, 1024, 768, 12, 12),  # n_vocab, n_ctx, n_embd, n_head, n_layer
    "355M": (50257, 1024, 1024, 16, 24),
    "774M": (50257, 1024, 1280, 20, 36),
    "1558M": (50257, 1024, 1600, 25, 48),
    "117M": (50257, 1024, 768, 12, 12),  # the first names of 124M and 355M, from before
    "345M": (50257, 1024, 1024, 16, 24),  # the parameters were counted with care
}
ON_THE_HUB = {  # the same weights, where Hugging Face keeps them
    "124M": "openai-community/gpt2",
    "355M": "openai-community/gpt2-medium",
    "774M": "openai-community/gpt2-large",
    "1558M": "openai-community/gpt2-xl",
    "117M": "openai-community/gpt2",
    "345M": "openai-community/gpt2-medium",
}

# SHA-256 of the vocabulary, which all of them share. Nothing else can tell that two merges have
# changed places; with such a vocabulary the model would read other tokens than it was trained on.
# Of the other files none is pinned: damage shows by the sizes in RELEASED, and by the checksum that
# the index has of each tensor.
VOCABULARY = {
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}


def is_released(model):
    """Whether `model` is one of OpenAI's names, and not a path."""
    return isinstance(model, str) and model in RELEASED


def released_hparams(model):
    """The hparams of one of OpenAI's models."""
    return dict(zip(SIZES, RELEASED[model], strict=True))


def check_openai_vocabulary(folder):
    """Raise FolderError, which names the file, unless a folder's vocabulary is OpenAI's.

    Raises OSError where it cannot be read.
    """
    for name in VOCABULARY:
        try:
            check_openai_file(name, folder / name)
        except FolderError as error:
            raise FolderError(f"{folder / name} {error}") from None


def check_openai_file(name, path):
    """Raise FolderError unless a file is OpenAI's encoder.json or vocab.bpe, as its name says."""
    if hashlib.sha256(read_small(path)).hexdigest() != VOCABULARY[name]:
        raise FolderError(f"is not OpenAI's {name}: its SHA-256 is another")


def fetch_released(model, folder, shapes, weights, memory):
    """Fetch what a folder lacks of one of OpenAI's models.

    shapes: of the model's parameters, a tree with tuples for its leaves
    weights, memory: bytes of the data file, and bytes that it takes to run the model

    The small files come first, so that anything wrong shows before gigabytes are fetched. Raises
    DownloadError: one line that says what, where, what to do. After that, as after Ctrl-C or a
    power cut, the same call goes on where this one stopped.
    """
    url = f"{(os.environ.get('GPT2_BASE_URL') or BASE_URL).rstrip('/')}/{model}"
    hparams = released_hparams(model)

    def check(name, part):
        if name in VOCABULARY:
            check_openai_file(name, part)
        else:
            check_file(name, part, hparams, shapes)

    try:
        fetched = fetch_missing(
            url,
            folder,
            sizes=dict.fromkeys(FILES) | {DATA: weights},
            check=check,
            partners={DATA: INDEX},
            announcement=f"downloading {model} from {url} into {folder}: {readable(weights)} of "
            f"disk, and {readable(memory)} of memory to run it",
        )
    except (DownloadError, OSError) as error:
        raise DownloadError(explain_failure(error, model, url, folder)) from error
    if DATA in fetched:
        note_verified(folder / "model.ckpt")


def explain_failure(error, model, url, folder):
    """The line that says why a model's files at url did not come into a folder, and what to do."""
    if isinstance(error, DiskError) or not isinstance(error, DownloadError):
        return explain_writing(error, folder)
    mirror = "set GPT2_BASE_URL to a mirror"
    if os.environ.get("GPT2_BASE_URL"):
        mirror = "set GPT2_BASE_URL to another mirror, or unset it to ask OpenAI's server"
    return (
        f"{error}; run again later, or {mirror}, or give --model {ON_THE_HUB[model]}, which are "
        f"the same weights on Hugging Face's Hub, or put {', '.join(FILES)} from {url}/ into "
        f"{folder} yourself"
    )
