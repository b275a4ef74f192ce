"""HTTP, and nothing else: the page's files, and questions handed on. For this machine alone."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HOST = "127.0.0.1"
STATIC = Path(__file__).parent / "static"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
LARGEST_QUESTION = 200_000  # bytes
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "frame-ancestors 'none'"
)
PATIENCE = 30  # seconds that a client may be silent
MOST_CLIENTS = 32  # at a time


class Server(ThreadingHTTPServer):
    """Answers on the loopback interface. answer(question, asked) is called with the last part of
    the path and a dict, and gives what goes into JSON; a ValueError says what was wrong with it.

    OSError where the port is taken.
    """

    daemon_threads = True

    def __init__(self, port, answer):
        self.answer, self.places = answer, threading.Semaphore(MOST_CLIENTS)
        super().__init__((HOST, port), Handler)
        self.hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}

    @property
    def url(self):
        return f"http://{HOST}:{self.server_port}/"

    def process_request(self, request, client_address):
        if not self.places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request, client_address):
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.places.release()

    def handle_error(self, request, client_address):
        """A client that went away in the middle is none of the user's business."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.1"  # else what is no request is answered without a status
    server_version, sys_version = "explorer", ""
    timeout = PATIENCE

    def do_GET(self):
        path = self.path.partition("?")[0]
        name = "index.html" if path == "/" else path[1:]
        if self.is_foreign():
            return
        if name not in list_static():
            self.refuse(404, "there is no such page")
            return
        self.send(200, TYPES[Path(name).suffix], (STATIC / name).read_bytes())

    do_HEAD = do_GET

    def do_POST(self):
        if self.is_foreign():
            return
        question = self.read_question()
        if question is None:
            return
        prefix, _, name = self.path.rpartition("/")
        try:
            if prefix != "/ask":
                raise ValueError("there is no such question")
            answer = json.dumps(self.server.answer(name, question), allow_nan=False)
        except ValueError as error:
            self.refuse(400, str(error))
        except MemoryError:
            self.refuse(507, "not enough memory for this; take a shorter prompt")
        except Exception as error:  # a bug, which is one line for the page, too
            self.refuse(500, f"a bug in the explorer: {type(error).__name__}: {error}")
        else:
            self.send(200, "application/json", answer.encode())

    def is_foreign(self):
        """Refuse what another site, whose name leads here or which the browser shows, has sent."""
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        if host not in self.server.hosts:
            self.refuse(403, f"the explorer answers to {self.server.url} alone")
        elif origin is not None and origin.removeprefix("http://") not in self.server.hosts:
            self.refuse(403, "the explorer answers its own page alone")
        else:
            return False
        return True

    def read_question(self):
        """The question's JSON, a dict; None where there is none, which has been said."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            return self.refuse(411, "a question needs its Content-Length")
        if len(length) > 9 or int(length) > LARGEST_QUESTION:
            return self.refuse(413, f"a question has at most {LARGEST_QUESTION:,} bytes")
        if self.headers.get_content_type() != "application/json":
            return self.refuse(415, "a question is application/json")
        try:
            question = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            return self.refuse(400, "the question is not JSON")
        if not isinstance(question, dict):
            return self.refuse(400, "a question is an object")
        return question

    def refuse(self, status, reason):
        """Answer with one line, and hang up: whatever else the client has sent stays unread."""
        self.close_connection = True
        line = " ".join(reason.split())[:400] + "\n"
        self.send(status, "text/plain; charset=utf-8", line.encode("utf-8", "replace"))

    def send_error(self, code, message=None, explain=None):
        self.refuse(code, message or self.responses.get(code, ("no",))[0])

    def send(self, status, kind, content):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Content-Security-Policy", POLICY)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format, *arguments):
        """Nothing: the terminal says where the page is, and is quiet."""


def list_static():
    return {path.name for path in STATIC.iterdir() if path.suffix in TYPES}
