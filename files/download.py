"""Downloads that may be cut off at any moment, and run again.

Each file grows under its name with ".part" added, and gets its own name only when it is complete
and has been checked, so whatever has its own name can be trusted. What is true of a .part file is
told by the file itself and the ".part.etag" beside it (the server's mark of the version it is a
part of): there is no other state to lose. Source: RFC 9110, section 14 (range requests).
"""

import contextlib
import errno
import itertools
import os
import re
import shutil
import sys
import threading
import time
from urllib.parse import urljoin, urlsplit

from files.lock import open_lock
from files.messages import notice, one_line, readable, why_unreadable

LOCK = "download.lock"  # in a folder while files are downloaded into it

SMALL_FILE = 16 * 2**20  # bytes: no file whose size is not known beforehand may be larger

CHUNK = 2**16  # bytes
CONNECT_TIMEOUT = 10  # seconds
READ_TIMEOUT = 30  # seconds without a single byte
ANSWER_TIMEOUT = 60  # seconds until the headers are there, redirections included
SLOWEST, WINDOW = 1000, 60  # bytes a second, over so many seconds: less is as good as nothing
ATTEMPTS = 6  # in a row without progress, before a download is given up
FIRST_WAIT, LONGEST_WAIT = 1, 60  # seconds between two attempts: doubled each time, up to this
REDIRECTS = 5  # in a row: more of them are taken for a circle
LOCK_WAIT = 0.5  # seconds between two looks at another process's lock


class DownloadError(Exception):
    """A file cannot be fetched: one line that says which, and why."""


class DiskError(DownloadError):
    """There is too little room for the files: one line that says where, and how much they need."""


class Refused(ValueError):
    """A server's final answer is no file. status, headers: of this answer."""

    def __init__(self, reason, response):
        super().__init__(reason)
        self.status, self.headers = response.status_code, response.headers


class Interrupted(Exception):
    """An attempt to download stopped by something that may pass; never leaves this file.

    wait: seconds that the server asks to wait
    unreachable: there was no connection to it at all
    """

    def __init__(self, reason, wait=0.0, unreachable=False):
        super().__init__(reason)
        self.wait, self.unreachable = wait, unreachable


def fetch_missing(url, folder, sizes, check, partners, announcement):
    """As fetch_files, in a folder that is made if there is none, and that only one process at a
    time downloads into: of two the second waits, and finds the work done."""
    with hold_lock(folder / LOCK):
        return fetch_files(url, folder, sizes, check, partners, announcement)


def fetch_files(url, folder, sizes, check, partners=(), announcement=None, auth=None):
    """Fetch those files that a folder lacks, each whole and checked: a list of their names.

    sizes: {name: bytes, or None where nobody knows beforehand}; each file is at url/name, and they
        are fetched in this order
    check: called as check(name, part) with each finished file, which still lies under the name
        `part`; raises ValueError that says what is wrong with it
    partners: {name: the file before it that it is checked with}; where two do not fit together,
        either may be wrong, and both are fetched again
    announcement: a notice, before anything is fetched
    auth: see follow

    The folder's lock is held by the caller. Raises DownloadError, and OSError where the folder
    cannot be written to; after either, as after Ctrl-C or a power cut, the same call goes on where
    this one stopped.
    """
    missing = [name for name in sizes if not (folder / name).is_file()]
    if missing:
        check_disk(folder, sizes)
        if announcement:
            notice(announcement)
    for name in missing:
        path = folder / name
        try:
            part = fetch(f"{url}/{name}", path, sizes[name], auth)
            check_part(check, part, path, partners)
        except ValueError as error:
            raise DownloadError(f"{url}/{name}: {one_line(error)}") from error
        # A crash of the machine must not leave the name without the bytes.
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
        etag_of(part).unlink(missing_ok=True)
    return missing


def explain_writing(error, folder):
    """The line that says why files cannot be written into a folder (a DiskError or an OSError), and
    what to do."""
    elsewhere = "give another place with --models-dir or GPT2_MODELS_DIR"
    if isinstance(error, DiskError):
        return f"{error}; make room or {elsewhere}"
    if error.errno in (errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EIO):  # not the place's
        return why_unreadable(error, "")
    room = "" if isinstance(error, PermissionError) else "make room or "
    return f"cannot write to {folder}: {error.strerror or error}; {room}{elsewhere}, then run again"


@contextlib.contextmanager
def hold_lock(path):
    """Hold a lock, after waiting for whoever holds it; its file is there only while it is held, and
    a folder that was made for it afterwards only where it has something in it."""
    told, is_kept = False, is_empty_folder(path.parent)  # that somebody else has made
    while (file := open_lock(path)) is None:
        if not told:
            notice(f"another process is downloading into {path.parent}, waiting for it")
        told = True
        time.sleep(LOCK_WAIT)
    with file:
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows removes no open file
                path.unlink()
                if not is_kept:
                    path.parent.rmdir()  # nor does anyone a folder that is not empty


def is_empty_folder(path):
    """Whether there is a folder of this name with nothing in it."""
    try:
        return not os.listdir(path)
    except OSError:
        return False


def check_disk(folder, sizes):
    """Raise DiskError unless the disk has room for what the folder and its .part files lack."""
    needed = SMALL_FILE
    for name, size in sizes.items():
        path = folder / name
        needed += max(0, (size or 0) - (size_of(path) or size_of(part_of(path))))
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskError(
            f"not enough disk space: {folder} needs {readable(needed)}, {readable(free)} are free"
        )


def check_part(check, part, path, partners):
    """Remove a finished .part file that is not what it should be. Raises ValueError."""
    problem = None
    try:
        check(path.name, part)
    except ValueError as error:
        problem = one_line(error)
    if problem:  # no longer inside `except`: Windows removes no file that a traceback keeps mapped
        discard(part)
        if path.name in partners:
            path.with_name(partners[path.name]).unlink()
        raise ValueError(problem)


def fetch(url, path, size=None, auth=None):
    """Download url into a .part file beside path, through interruptions: the .part's path.

    size: of the whole file in bytes, where it is known beforehand. auth: see follow. An attempt
    that takes the file further than it has been, and that no slower than SLOWEST, starts the count
    of attempts anew. Raises ValueError.
    """
    from tqdm import tqdm

    part = part_of(path)
    before = furthest = size_of(part)
    failures = 0
    tqdm.monitor_interval = 0  # no thread for bars that skip steps: with miniters=1 none does
    bar = {"desc": path.name, "total": size, "unit": "B", "unit_scale": True, "initial": before}
    bar |= {"file": sys.stderr, "miniters": 1, "disable": None}  # None: unless it is no terminal
    with tqdm(**bar) as bar:
        while size is None or size_of(part) != size or not part.exists():
            began = time.monotonic()
            try:
                fetch_rest(url, part, size, bar, auth)
                break
            except Interrupted as fault:
                further = size_of(part) - furthest
                is_progress = further > 0 and further >= SLOWEST * (time.monotonic() - began)
                failures = 1 if is_progress else failures + 1
                furthest = max(furthest, size_of(part))
                if failures == ATTEMPTS or (fault.unreachable and furthest == before):
                    raise ValueError(str(fault)) from fault
                wait_after(fault, failures, url, lambda line: bar.write(line, file=sys.stderr))
    return part


def wait_after(fault, failures, url, tell):
    """Wait before the next attempt, after so many failed ones in a row, and tell why."""
    wait = min(max(FIRST_WAIT * 2 ** (failures - 1), fault.wait), LONGEST_WAIT)
    tell(one_line(f"{url}: {fault}") + f"; trying again in {wait:.0f} s")
    time.sleep(wait)


def fetch_rest(url, part, size, bar, auth=None):
    """Ask once for the bytes that a .part file lacks, and write them as they come.

    Raises Interrupted when another attempt may help, ValueError when not.
    """
    have, version = resume_point(part, size)
    with ask(url, range_headers(have, version, size), auth) as response:
        check_status(response, part)
        start, total = body_range(response, part, have, version)
        check_size(size, total)
        bar.total = total or size
        bar.update(start - bar.n)
        if have > start:
            reason = one_line(f"{url}: the server starts over from the beginning")
            bar.write(reason, file=sys.stderr)
        with open(part, "ab" if start else "wb") as file:
            if start == 0:
                etag_of(part).write_text(version_of(response), "latin-1")
            for chunk in receive(response):
                file.write(chunk)
                bar.update(len(chunk))
                if file.tell() > (size or SMALL_FILE):
                    break
    n_bytes = size_of(part)
    if n_bytes > (size or SMALL_FILE):
        discard(part)
        check_size(size, n_bytes)
    if n_bytes < (size or total or 0):
        raise Interrupted(
            f"the connection broke off after {size_of(part)} of {size or total} bytes"
        )


def look_up(url, auth=None):
    """The response to a HEAD, through interruptions: what url's own server says of a file, or that
    it is another server that has it. auth: see follow. Raises ValueError."""
    for failures in itertools.count(1):
        try:
            with ask(url, {"Accept-Encoding": "identity"}, auth, "HEAD") as response:
                if not response.is_redirect:
                    check_answer(response)
                return response
        except Interrupted as fault:
            if failures == ATTEMPTS or fault.unreachable:
                raise ValueError(str(fault)) from fault
            wait_after(fault, failures, url, notice)


def ask(url, headers, auth=None, method="GET"):
    """The response to a request, as soon as its headers are there, at the end of redirections: see
    follow. Raises Interrupted, also when they take long, and ValueError.

    A timeout of requests is about silence, and starts anew with every byte. So the answer is waited
    for in a thread; if it does not come, the thread is left to itself, with a connection that
    nothing else uses, and ends with the server's patience or with this process.
    """
    from concurrent.futures import Future

    import requests

    answer = Future()

    def get():
        try:
            answer.set_result(follow(url, headers, auth, method))
        except Exception as error:  # to be raised where the answer is waited for
            answer.set_exception(error)

    try:
        threading.Thread(target=get, daemon=True).start()
    except RuntimeError:  # no thread can be had: it is silence alone that ends the waiting
        get()
    try:
        return answer.result(ANSWER_TIMEOUT)
    except TimeoutError:
        answer.add_done_callback(close_late)
        raise Interrupted(f"no whole answer came in {ANSWER_TIMEOUT} s") from None
    except requests.RequestException as error:
        raise as_fault(error) from error


def follow(url, headers, auth, method):
    """The response at the end of url's redirections; those before it are its history.

    auth: called with each request, to add what only its server may see; None is requests' own
    way, with the names and passwords in ~/.netrc

    A HEAD goes as far as url's own server: that others have a file is what it says of it, and an
    address that is signed may be so for GET alone. Raises requests' exceptions, and ValueError.
    """
    import requests  # not at the top: a small model speaks sooner without

    class Session(requests.Session):
        def get_redirect_target(self, response):
            """None, lest a redirection's body, of whatever length, be read to the end."""

    timeout, hop, history = (CONNECT_TIMEOUT, READ_TIMEOUT), url, []
    settings = dict(headers=headers, auth=auth, stream=True, timeout=timeout)
    while True:
        with Session() as session:
            response = session.request(method, hop, allow_redirects=False, **settings)
        response.history = history
        if not response.is_redirect:
            return response
        hop = urljoin(response.url, response.headers["Location"])
        if method == "HEAD" and origin(hop) != origin(url):
            return response
        response.close()
        if len(history) == REDIRECTS:
            raise ValueError(f"more than {REDIRECTS} redirects in a row")
        if urlsplit(response.url).scheme == "https" != urlsplit(hop).scheme:
            raise ValueError("is redirected from https to an address without encryption")
        history = [*history, response]


def origin(url):
    """(scheme, host, port) of an address: what says whether two are on the same server."""
    parts = urlsplit(url)
    default = {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, parts.port or default


def close_late(answer):
    """Close the response, if one came after all, that nobody waits for any more."""
    if not answer.exception():
        answer.result().close()


def receive(response):
    """Yield a response's body in pieces, as they come.

    Interrupted when the server becomes too slow, or the connection breaks.
    """
    left = response.raw.length_remaining  # None where the server does not tell
    n_bytes = seconds = 0  # in this window
    while left is None or left > 0:
        asked = time.monotonic()
        piece = read_piece(response)
        seconds += time.monotonic() - asked
        if not piece:
            return
        yield piece
        n_bytes += len(piece)
        left = None if left is None else left - len(piece)
        if seconds >= WINDOW:
            if n_bytes < SLOWEST * seconds and left != 0:
                speed = f"{n_bytes} bytes in {seconds:.1f} s, {n_bytes / seconds:.1f} bytes/s"
                raise Interrupted(f"the server is too slow ({speed})")
            n_bytes = seconds = 0


def read_piece(response):
    """What has come of a body, after waiting for a byte at least; b"" at its end. Interrupted."""
    from http.client import HTTPException  # not at the top, as requests

    try:
        # Of the connection itself: urllib3's own read would wait until the piece is full, however
        # slowly it fills.
        return response.raw._fp.read1(CHUNK)
    except TimeoutError:
        raise Interrupted(f"not a byte came in {READ_TIMEOUT} s") from None
    except (OSError, HTTPException):
        raise Interrupted("the connection broke off in the middle") from None


def resume_point(part, size):
    """(bytes that a .part file holds, version they are of), or (0, "") if it must begin anew."""
    try:
        version = etag_of(part).read_text("latin-1")
    except FileNotFoundError:
        version = ""
    have = size_of(part)
    usable = version and version.isprintable() and have <= (size or SMALL_FILE)
    return (have, version) if usable else (0, "")


def range_headers(have, version, size):
    """The headers that ask for the bytes after the first `have`, as long as the version is that."""
    headers = {"Accept-Encoding": "identity"}  # offsets in a compressed file would mean nothing
    if have:
        # With the last byte, where it is known: Azure's storage, where OpenAI's files lie, by
        # default behaves as in 2009, when it ignored "bytes=500-".
        last = "" if size is None else size - 1
        headers |= {"Range": f"bytes={have}-{last}", "If-Range": version}
    return headers


def version_of(response):
    """What identifies this version of a file on its server: a strong ETag, a date, or "".

    Azure's ETags have no quotes by default; as If-Range these are not valid.
    """
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def check_status(response, part):
    """Raise Interrupted or ValueError unless the response has the file, or a range of it."""
    if response.status_code == 416:  # our .part is as long as the file there, or longer
        discard(part)
        raise Interrupted(describe_answer(response))
    check_answer(response)


def describe_answer(response):
    """What a server said, for a person."""
    return f"the server answered {response.status_code} {response.reason}"


def check_answer(response):
    """Raise Interrupted or ValueError unless this is an answer that has a file."""
    status, answer = response.status_code, describe_answer(response)
    if status in (408, 425, 429) or status >= 500:
        wait = response.headers.get("Retry-After", "")  # a number of seconds (or a date: ignored)
        raise Interrupted(answer, wait=float(wait) if wait.isdecimal() else 0.0)
    if status in (401, 403) and response.history:
        if origin(response.url) != origin(response.history[0].url):
            raise Interrupted(f"{answer}; the link to it may have expired")
    if status not in (200, 206):
        raise Refused(answer, response)
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise ValueError("the server sends it compressed, unasked")
    if "text/html" in response.headers.get("Content-Type", ""):
        raise ValueError("an HTML page came instead of the file")


def body_range(response, part, have, version):
    """(where a response's body begins in the file, size of the whole file or None)."""
    if response.status_code == 200:  # the whole file: no ranges here, or it is another version now
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if re.fullmatch("[0-9]{1,18}", length) else None
    span = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]+/([0-9]{1,18}|\*)", span)
    if not match or int(match[1]) != have or (have and version_of(response) not in ("", version)):
        discard(part)
        raise Interrupted(f"asked for the bytes from {have}, got {span or 'some'!r}")
    return have, None if match[2] == "*" else int(match[2])


def check_size(size, found):
    """Refuse a file of the wrong size, as soon as it is known (found is None where it is not)."""
    if found is None:
        return
    if size is None and found > SMALL_FILE:
        raise ValueError(f"is {readable(found)} long, far more than this file has")
    if size is not None and found != size:
        raise ValueError(f"is {found} bytes long instead of {size}")


def as_fault(error):
    """A requests exception as Interrupted or, where another attempt cannot help, as ValueError."""
    from requests import exceptions as e
    from urllib3.exceptions import NewConnectionError  # refused, or no such host

    # The cause is wrapped by urllib3, and its text may begin with "<urllib3... object at 0x...>: "
    # or "HTTPSConnection(host=..., port=...): ".
    cause = getattr(error.args[0] if error.args else None, "reason", None) or error
    reason = re.sub(r"<[^<>]*>: ?|\w+\(host=[^()]*\): ?", "", one_line(cause))
    if not isinstance(error, (e.ConnectionError, e.Timeout)):
        return ValueError(reason)
    refused = isinstance(error, (e.ProxyError, e.SSLError)) or isinstance(cause, NewConnectionError)
    return Interrupted(reason, unreachable=refused)


def part_of(path):
    """The name under which a file grows."""
    return path.with_name(f"{path.name}.part")


def etag_of(part):
    """The name of the file that says which version a .part file is a part of."""
    return part.with_name(f"{part.name}.etag")


def size_of(path):
    """The size of a file in bytes, 0 if it does not exist."""
    return path.stat().st_size if path.exists() else 0


def discard(part):
    """Remove a .part file and what is known of it."""
    part.unlink(missing_ok=True)
    etag_of(part).unlink(missing_ok=True)
