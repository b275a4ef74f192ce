"""Models on Hugging Face's Hub, fetched by name: OWNER/NAME or OWNER/NAME@REVISION.

A repository there is Git's, with branches, tags and commits. Each of its files lies at

    https://huggingface.co/OWNER/NAME/resolve/REVISION/FILE

and large ones are redirected from there to a signed address on another server. What the Hub itself
answers says of which commit the file is (X-Repo-Commit), how long it is (X-Linked-Size), and what
its bytes hash to (X-Linked-Etag or ETag): SHA-256 for large files, Git's SHA-1 for the others. All
of it is asked for before anything is fetched, and compared before a file gets its name.

The commit of the first answer is noted in the folder, and every file is fetched of this one. The
weights come last: where they are, so is everything else.

Source: huggingface_hub, file_download.py (get_hf_file_metadata) and utils/_http.py.
"""

import contextlib
import hashlib
import json
import os
import re
from typing import NamedTuple
from urllib.parse import quote

from files.download import (
    LOCK,
    SMALL_FILE,
    DiskError,
    DownloadError,
    Refused,
    explain_writing,
    fetch_files,
    hold_lock,
    is_empty_folder,
    look_up,
    origin,
)
from files.huggingface import (
    ADDED,
    CONFIG,
    MERGES,
    TOKENIZER,
    TOKENIZER_CONFIG,
    VOCAB,
    WEIGHTS,
    WEIGHTS_INDEX,
    is_huggingface,
    list_missing,
    parse_config,
    parse_weight_map,
)
from files.messages import notice, one_line, printable, readable
from files.openai_folder import FolderError, parse_json_object, read_small
from files.whole import write_whole

ENDPOINT = "https://huggingface.co"  # or $HF_ENDPOINT
DEFAULT_REVISION = "main"

TOKENIZERS = ((TOKENIZER,), (VOCAB, MERGES))  # either is one, and the first is preferred
OPTIONAL = (ADDED, TOKENIZER_CONFIG)
ANOTHER_MODEL = "give a GPT-2, such as openai-community/gpt2"

NOTE = "revision.json"  # in a folder: the repository and the commit that its files are of
BEFORE_ALL_ELSE = {LOCK, NOTE, f"{NOTE}.tmp"}  # what a download makes before it fetches anything


class HubError(DownloadError):
    """A model cannot be fetched: one line that says what, where, what to do."""


class Unsuitable(HubError):
    """A repository has no model that can be run here."""


class Note(NamedTuple):
    """A model on the Hub, as a name or the file NOTE says it."""

    repository: str  # OWNER/NAME
    revision: str  # that was asked for: a branch, a tag, a commit
    commit: str | None = None  # that this was when it was asked for, once it is known


class RemoteFile(NamedTuple):
    """What the Hub says of a file before it is fetched."""

    size: int | None  # bytes
    hash: str  # in hexadecimal digits: 64 of SHA-256, or 40 of Git's SHA-1
    commit: str


def parse_name(model):
    """The Note of a model's name, "OWNER/NAME" or "OWNER/NAME@REVISION"; None for what can be none
    on the Hub."""
    word = r"\w(?:[\w.-]{0,94}\w)?"
    pattern = rf"({word}/{word})(?:@(\w(?:[\w./-]{{0,98}}\w)?))?"
    match = re.fullmatch(pattern, model, re.ASCII) if isinstance(model, str) else None
    if not match or ".." in model or "//" in model or "--" in match[1]:
        return None
    return Note(match[1], match[2] or DEFAULT_REVISION)


def find_place(model, models_dir):
    """The folder that a model on the Hub has, or will have; a revision's slashes are written --."""
    repository, _, revision = model.partition("@")
    return models_dir / (repository + ("@" + revision.replace("/", "--") if revision else ""))


def is_model(folder):
    """Whether a folder has a model in Hugging Face's layout, or a part of one, as far as it may be
    looked into."""
    try:
        return os.path.isfile(folder / NOTE) or is_huggingface(folder)
    except OSError:
        return False


def is_blank(folder):
    """Whether no file of a model has come into a folder yet, which need not be there."""
    try:
        return set(os.listdir(folder)) <= BEFORE_ALL_ELSE
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False


def is_unfinished(folder):
    """Whether a folder's files are from the Hub, and more of them are still to come."""
    return os.path.isfile(folder / NOTE) and not is_fetched(folder)


def is_fetched(folder):
    """Whether a folder has all the files that a model needs."""
    try:
        return is_huggingface(folder) and not list_missing(folder)
    except (OSError, FolderError):  # an index that names no files
        return False


def fetch_model(folder, name, check):
    """Fetch what a folder lacks of a model on the Hub.

    name: its Note; None where a download into this folder has begun
    check: called with the model's hparams when the vocabulary is there, and before the weights are
        fetched; what it raises ends the download

    The folder is made if there is none. Of two processes the second waits, and finds the work done.
    Raises HubError; after that, as after Ctrl-C or a power cut, the same call goes on where this
    one stopped, with the same commit.
    """
    is_kept = is_empty_folder(folder.parent)  # that somebody else has made
    try:
        check_token()
        check_endpoint()
        name = name or read_note(folder)
        with hold_lock(folder / LOCK):
            try:
                if not is_fetched(folder):
                    note = read_note(folder) or name._replace(commit=None)
                    fetch_noted(folder, note, check)
            finally:
                if is_blank(folder):  # nothing binds the next call to this commit
                    for file in BEFORE_ALL_ELSE - {LOCK}:
                        (folder / file).unlink(missing_ok=True)
    except HubError:
        raise
    except (DiskError, OSError) as error:
        raise HubError(explain_writing(error, folder)) from error
    except DownloadError as error:
        raise HubError(f"{error}; {ask_again()}") from error
    finally:
        if name and not is_kept and folder.parent.name == name.repository.split("/")[0]:
            with contextlib.suppress(OSError):  # there is something in it
                folder.parent.rmdir()


def fetch_noted(folder, note, check):
    """Fetch what a folder lacks of a model: of the commit that a Note has, or the one it is now.

    The small files come first, so that anything wrong shows before gigabytes are fetched. Raises
    DownloadError and OSError.
    """
    found = look_for([CONFIG], note, folder)
    if not found:
        raise Unsuitable(f"{page_of(note)} has no {CONFIG}, so it is no model; {ANOTHER_MODEL}")
    if note.commit is None:
        note = note._replace(commit=found[CONFIG].commit)
        write_whole({folder / NOTE: (json.dumps(note._asdict()) + "\n").encode()})
    try:
        fetch_checked(found, note, folder)
        text = read_small(folder / CONFIG)
        config = check_small_file(CONFIG, note, lambda: parse_config(text.decode("utf-8")))
        weights = look_for_weights(note, folder)
        others = look_for_tokenizer(note, folder) | look_for(OPTIONAL, note, folder)
    except Unsuitable:
        for name in (CONFIG, WEIGHTS_INDEX):
            (folder / name).unlink(missing_ok=True)
        raise
    size = readable(sum(file.size or 0 for file in (others | weights).values()))
    announcement = f"downloading {note.repository} from {endpoint()} into {folder}: {size} of disk"
    fetch_checked(others, note, folder, announcement)
    check(config.hparams)
    fetch_checked(weights, note, folder)  # last: where they are, so is everything else


def look_for_weights(note, folder):
    """{name: RemoteFile} of a model's weights; an index that says what they are is fetched."""
    if weights := look_for([WEIGHTS], note, folder):
        return weights
    index = look_for([WEIGHTS_INDEX], note, folder)
    if not index:
        raise Unsuitable(
            f"{page_of(note)} has no {WEIGHTS}: weights in other files, such as pytorch_model.bin, "
            f"are not read here, as they may run code; {ANOTHER_MODEL}, or a revision that has it, "
            f"as {note.repository}@REVISION"
        )
    fetch_checked(index, note, folder)
    index = read_small(folder / WEIGHTS_INDEX)
    names = check_small_file(WEIGHTS_INDEX, note, lambda: parse_weight_map(index.decode("utf-8")))
    weights = look_for(names, note, folder)
    if missing := sorted(set(names) - set(weights)):
        raise Unsuitable(
            f"{page_of(note)} has no {missing[0]}, which its {WEIGHTS_INDEX} names; {ANOTHER_MODEL}"
        )
    return weights


def look_for_tokenizer(note, folder):
    """{name: RemoteFile} of the first of TOKENIZERS that the repository has."""
    for names in TOKENIZERS:
        files = look_for(names, note, folder)
        if len(files) == len(names):
            return files
    expected = " nor ".join(" with ".join(names) for names in TOKENIZERS)
    raise Unsuitable(f"{page_of(note)} has no vocabulary, neither {expected}; {ANOTHER_MODEL}")


def check_small_file(name, note, check):
    """What check() returns; Unsuitable that names the file where it raises ValueError."""
    try:
        return check()
    except ValueError as error:
        raise Unsuitable(f"{address(note, name)}: {one_line(error)}; {ANOTHER_MODEL}") from error


def fetch_checked(files, note, folder, announcement=None):
    """Fetch those of {name: RemoteFile} that a folder lacks, and compare them with their hashes."""

    def check(name, part):
        check_hash(part, files[name].hash)

    sizes = {name: file.size for name, file in files.items()}
    url = address(note, "").removesuffix("/")
    fetch_files(url, folder, sizes, check, announcement=announcement, auth=authorise)


def check_hash(path, expected):
    """Raise ValueError unless a file has this hash: SHA-256, or Git's, by the number of digits."""
    size = os.stat(path).st_size
    is_sha256 = len(expected) == 64
    if size > SMALL_FILE:
        notice(f"comparing {path.name.removesuffix('.part')} with its hash")

    def git_hash():
        return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)

    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256" if is_sha256 else git_hash).hexdigest()
    if found != expected:
        kind = "SHA-256" if is_sha256 else "Git's SHA-1"
        raise ValueError(f"{kind} of what came is {found}, and the Hub says {expected}")


def look_for(names, note, folder):
    """{name: RemoteFile} of those files that a repository has. Raises HubError."""
    found = {}
    for name in names:
        try:
            found[name] = describe(look_up(address(note, name), authorise), name, note)
        except Refused as refusal:
            code = refusal.headers.get("X-Error-Code", "")
            if refusal.status != 404 or code not in ("EntryNotFound", ""):
                raise HubError(explain_refusal(refusal, note, folder)) from refusal
        except ValueError as error:
            raise HubError(f"{address(note, name)}: {one_line(error)}; {ask_again()}") from error
    return found


def describe(response, name, note):
    """The RemoteFile that the answer to a HEAD describes. Raises ValueError.

    A redirection says it of the file, and not of itself, in headers of their own; the headers that
    all answers have are of the file only where it is this server that has it.
    """
    hops = [*response.history, response]
    plain = {} if response.is_redirect else response.headers

    def header(special, usual):
        values = [hop.headers[special] for hop in hops if special in hop.headers]
        return values[0] if values else plain.get(usual, "")

    commit = header("X-Repo-Commit", "")
    size = header("X-Linked-Size", "Content-Length")
    digest = header("X-Linked-Etag", "ETag").removeprefix("W/").strip('"')
    if not re.fullmatch("[0-9a-f]{40}", commit):
        raise ValueError("the server does not say which commit it is of, as the Hub does")
    if commit != (note.commit or commit):
        raise ValueError(f"the server answers with another commit, {commit}")
    if not re.fullmatch("[0-9a-f]{64}|[0-9a-f]{40}", digest):
        raise ValueError("the server does not say what it hashes to, so that it cannot be checked")
    n_bytes = int(size) if re.fullmatch("[0-9]{1,18}", size) else None
    if not name.endswith(".safetensors") and (n_bytes or 0) > SMALL_FILE:
        raise ValueError(f"is {readable(n_bytes)} long, far more than this file has")
    return RemoteFile(n_bytes, digest, commit)


def read_note(folder):
    """The Note in a folder, without commit where no file of it has come; None where there is none.

    Raises HubError.
    """
    path = folder / NOTE
    try:
        fields = parse_json_object(read_small(path).decode("utf-8"))
        note = parse_name(f"{fields.get('repository')}@{fields.get('revision')}")
        commit = fields.get("commit")
        if not note or not isinstance(commit, str) or not re.fullmatch("[0-9a-f]{40}", commit):
            raise ValueError("does not say what its folder is a download of")
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise HubError(
            f"{path}: {one_line(error)}; remove {folder} to have the model fetched anew"
        ) from error
    return note if is_blank(folder) else note._replace(commit=commit)


def endpoint():
    """The address of the Hub, or of a mirror of it."""
    return (os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")


def page_of(note):
    """The address of a model's page, for a person."""
    return f"{endpoint()}/{note.repository}"


def address(note, name):
    """The address of a file of a model, of its commit where that is known."""
    return f"{page_of(note)}/resolve/{quote(note.commit or note.revision, safe='')}/{name}"


def token():
    """The user's access token, or ""."""
    return os.environ.get("HF_TOKEN", "").strip()


def check_token():
    """Raise HubError unless a header can hold the token: other errors would quote it."""
    if not re.fullmatch("[!-~]*", token()):
        raise HubError("HF_TOKEN has characters in it that no token has; set it anew, or unset it")


def check_endpoint():
    """Raise HubError unless the Hub's address is one, and without a password, which lines about it
    would show."""
    try:
        scheme, host, _ = origin(endpoint())
        is_address = scheme in ("http", "https") and host and "@" not in endpoint()
    except ValueError:
        is_address = False
    if not is_address:
        raise HubError(
            f"HF_ENDPOINT is no address such as {ENDPOINT}, or has a password in it; set it anew, "
            "or unset it"
        )


def authorise(request):
    """Add the token to a request if it goes to the Hub itself: no other server may see it."""
    if token() and origin(request.url) == origin(endpoint()):
        request.headers["Authorization"] = f"Bearer {token()}"
    return request


def ask_again():
    """What to do where the Hub cannot be reached, or sends something wrong."""
    if os.environ.get("HF_ENDPOINT"):
        return "run again later, or set HF_ENDPOINT to another mirror, or unset it"
    return "run again later, or set HF_ENDPOINT to a mirror"


def explain_refusal(refusal, note, folder):
    """The line that says why the Hub answers with no file, and what to do."""
    page = page_of(note)
    code = refusal.headers.get("X-Error-Code", "")
    if code == "GatedRepo":
        return (
            f"{page} is gated: accept its terms there, and set HF_TOKEN to a token of the account "
            "that did"
        )
    if code == "RevisionNotFound" and note.commit:
        return (
            f"{page} no longer has the commit {note.commit}, of which {folder} has a part; remove "
            "this folder to fetch the model as it is now"
        )
    if code == "RevisionNotFound":
        return f"{page} has no revision {note.revision}; give a branch, tag or commit that it has"
    if code == "RepoNotFound" or refusal.status == 401:
        if token():
            cure = "or HF_TOKEN is of an account that may not read it, or is no valid token"
        else:
            cure = "or it is private: then set HF_TOKEN to a token that may read it"
        return f"there is no model {page}, {cure}"
    reason = refusal.headers.get("X-Error-Message", "")
    reason = f" ({one_line(reason)})" if reason else ""
    cure = "set HF_TOKEN to a token that may read it" if refusal.status == 403 else ask_again()
    return printable(f"{page}: {one_line(refusal)}{reason}; {cure}")
