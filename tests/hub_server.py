"""A Hub on this computer, as Hugging Face's is, whose large files lie on another server."""

import hashlib
import itertools
import json
from pathlib import Path
from urllib.parse import unquote

from file_server import Server, send, serve

REPOSITORY = "someone/small-gpt2"
COMMITS = "a" * 40, "b" * 40


def small_model(version=b""):
    """{name: bytes} of a model whose weights only look like some, in files of a few kB; no two
    versions, which are white space, share any of them."""
    vocabulary = model_of_transformers("old")
    return {
        "config.json": b'{"model_type": "gpt2", "vocab_size": 348}' + version,
        "model.safetensors": bytes(range(256)) * 400 + version,
        "vocab.json": vocabulary["vocab.json"] + version,
        "merges.txt": vocabulary["merges.txt"] + version.replace(b" ", b"\n"),
        "tokenizer_config.json": b"{}" + version,
        "README.md": b"# A model" + version,
        "pytorch_model.bin": b"not to be fetched" + version,
    }


def model_of_transformers(name="plain"):
    """{file: content} of a model that can be loaded, from the fixtures."""
    folder = Path(__file__).parent / "fixtures" / "huggingface" / name
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def sharded_model(names=("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")):
    """As small_model, with its weights in files of these names, and an index."""
    files = small_model()
    del files["model.safetensors"]
    weight_map = {f"tensor.{i}": name for i, name in enumerate(names)}
    files["model.safetensors.index.json"] = json.dumps({"weight_map": weight_map}).encode()
    return files | {name: f"{name}'s bytes".encode() * 999 for name in names}


class Storage(Server):
    """Where the large files lie, each under its SHA-256; every address that leads there serves for
    one request. The server's name is localhost, another than that of the Hub."""

    def __init__(self):
        super().__init__({})
        self.url = self.url.replace("127.0.0.1", "localhost")
        self.tickets = set()

    def answer(self, handler):
        ticket = handler.path.split("/")[1]
        if ticket in self.tickets:
            self.tickets.remove(ticket)
            super().answer(handler)
        else:
            self.requests.append((None, handler.headers))
            send(handler, 403, b"expired")


class Hub(Server):
    """Serves a repository, and misbehaves as told.

    faults: as Server's for a GET, and for a HEAD under "HEAD " and the name
    commits: {commit: {name: bytes}} of REPOSITORY
    revisions: {branch or tag: commit}
    asked: "GET config.json", "HEAD config.json", ... of every request
    """

    def __init__(self):
        super().__init__({})
        self.storage, self.numbers, self.asked = Storage(), itertools.count(), []
        self.commits = {COMMITS[0]: small_model()}
        self.revisions = {"main": COMMITS[0]}

    def answer(self, handler):
        *_, owner, name, _, revision, file = handler.path.split("/")
        self.requests.append((file, handler.headers))
        key = f"{handler.command} {file}"
        self.asked.append(key)
        faults = self.faults.get(key.removeprefix("GET "), [])
        if faults:
            return faults.pop(0)(handler, b"")
        if f"{owner}/{name}" != REPOSITORY:
            return self.refuse(handler, 401, "RepoNotFound")
        commit = self.revisions.get(unquote(revision), revision)
        if commit not in self.commits:
            return self.refuse(handler, 404, "RevisionNotFound")
        if file not in self.commits[commit]:
            return self.refuse(handler, 404, "EntryNotFound")
        return self.serve_file(handler, commit, file)

    def refuse(self, handler, status, code, message="no"):
        headers = {"X_Error_Code": code, "X_Error_Message": message}
        send(handler, status, b"no", **headers)

    def serve_file(self, handler, commit, file, **headers):
        """As the Hub does; headers replace those that describe the file."""
        body = self.commits[commit][file]
        headers = {"X_Repo_Commit": commit} | headers
        if not file.endswith(".safetensors"):
            serve(handler, body, **{"ETag": f'"{git_hash(body)}"'} | headers)
            return
        digest = hashlib.sha256(body).hexdigest()
        ticket = str(next(self.numbers))
        self.storage.tickets.add(ticket)
        self.storage.files[digest] = body
        headers = {"X_Linked_Size": len(body), "X_Linked_ETag": f'"{digest}"'} | headers
        location = f"{self.storage.url}/{ticket}/{digest}"
        send(handler, 302, b"Found", Location=location, **headers)

    def close(self):
        super().close()
        self.storage.close()


def git_hash(body):
    """What git hash-object says of a file."""
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
