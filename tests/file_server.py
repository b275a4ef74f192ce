"""A server on this computer that serves a model's files, and misbehaves as told."""

import contextlib
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from files.openai_folder import FILES
from utils import ModelError, download

TOO_LATE = 20  # seconds after which a test that waits for another process has failed


def wait_until(condition):
    """Wait for what another thread or process does, but not for ever."""
    end = time.monotonic() + TOO_LATE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class Server:
    """Serves {path: bytes} on 127.0.0.1 and misbehaves as told.

    faults: {path: functions}. Each request for the path takes the first function and answers by
        function(handler, body); when none is left, the file is served as it should be.
    requests: (path, headers) of every request
    """

    def __init__(self, files):
        self.files, self.faults, self.requests, self.etag = files, {}, [], '"1"'
        self.released = threading.Event()  # what a stalled answer waits for
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            server_of_files = outer

            def do_GET(self):
                with contextlib.suppress(ConnectionError):
                    outer.answer(self)

            do_HEAD = do_GET

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.handle_error = lambda *args: None  # a client that hangs up is none
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, handler):
        """Answer a request, which is noted."""
        name = handler.path.rpartition("/")[2]
        self.requests.append((name, handler.headers))
        faults = self.faults.get(name, [])
        answer = faults.pop(0) if faults else serve
        answer(handler, self.files[name])

    def ranges(self, name):
        """The Range header (or None) of each request for a file."""
        return [headers["Range"] for asked, headers in self.requests if asked == name]

    def starts(self, name):
        """The first byte that each request for a file asks for."""
        return [
            int(span.removeprefix("bytes=").split("-")[0]) if span else 0
            for span in self.ranges(name)
        ]

    def close(self):
        self.released.set()
        self.http.shutdown()
        self.http.server_close()


def send(handler, status, body=b"", length=None, **headers):
    """Send an answer; length "none" leaves Content-Length out and closes the connection instead."""
    handler.send_response(status)
    headers = {"Content_Length": len(body) if length is None else length} | headers
    if length == "none":
        del headers["Content_Length"]
        handler.close_connection = True
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), str(value))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


def serve(handler, body, ETag=None, **headers):
    """What a good server does, ranges and If-Range included."""
    etag = ETag or handler.server_of_files.etag
    span = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", ""))
    if not span or handler.headers.get("If-Range", etag) != etag:
        send(handler, 200, body, ETag=etag, **headers)
    elif int(span[1]) >= len(body):
        send(handler, 416, Content_Range=f"bytes */{len(body)}")
    else:
        start, stop = int(span[1]), int(span[2] or len(body) - 1) + 1
        content_range = f"bytes {start}-{stop - 1}/{len(body)}"
        headers |= {"ETag": etag, "Content_Range": content_range}
        send(handler, 206, body[start:stop], **headers)


def cut(n, answer=serve):
    """As `answer`, but the connection ends after n bytes of the body."""

    def cut_short(handler, body):
        write = handler.wfile.write
        sent = 0

        def write_up_to_n(data):
            nonlocal sent
            if data.startswith(b"HTTP/"):
                return write(data)
            write(data[: n - sent])
            sent += len(data[: n - sent])
            return len(data)

        handler.wfile.write = write_up_to_n
        answer(handler, body)
        handler.wfile.write = write
        handler.close_connection = True

    return cut_short


def stall_after(n):
    def stall(handler, body):
        cut(n)(handler, body)
        handler.wfile.flush()
        handler.server_of_files.released.wait(TOO_LATE)

    return stall


def status(code, **headers):
    return lambda handler, body: send(handler, code, b"no", **headers)


def assert_complete(folder, files):
    """Every file is there as served, and nothing else."""
    for name in FILES:
        assert (folder / name).read_bytes() == files[name], name
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)


def refusal(models_dir):
    with pytest.raises(ModelError) as caught:
        download("124M", models_dir)
    message = str(caught.value)
    assert "\n" not in message
    return message
