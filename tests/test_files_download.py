"""Downloads survive a hostile server, and nothing wrong gets the name of a model's file."""

import errno
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
import urllib3

import utils
from file_server import (
    TOO_LATE,
    Server,
    assert_complete,
    cut,
    refusal,
    send,
    serve,
    stall_after,
    status,
    wait_until,
)
from files import download as fetching
from files import released
from files.lock import try_lock
from files.openai_folder import DATA, FILES, INDEX
from helpers import HPARAMS, vocabulary_digests
from utils import download

DRIPPING = 2  # seconds after which a server that drips breaks off: a download waits 0.1 s for it


def serve_without_ranges(handler, body):
    send(handler, 200, body)


def serve_like_azure(handler, body):
    """Azure's public storage by default: an ETag without quotes, and no ranges without an end."""
    headers = {"ETag": "0x8D193DF6FABC526", "Last_Modified": "Mon, 01 Sep 2014 09:37:09 GMT"}
    span = re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers.get("Range", ""))
    if not span:
        return send(handler, 200, body, **headers)
    start, stop = int(span[1]), int(span[2]) + 1
    headers["Content_Range"] = f"bytes {start}-{stop - 1}/{len(body)}"
    return send(handler, 206, body[start:stop], **headers)


def html(handler, body):
    send(handler, 200, b"<html>Sign in to the Wi-Fi</html>", Content_Type="text/html")


def reset(handler, body):
    linger = (1).to_bytes(4, sys.byteorder) + (0).to_bytes(4, sys.byteorder)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    socket.close(handler.connection.detach())
    handler.close_connection = True


@pytest.mark.parametrize("n", [0, 1, 999, 1000, 70_001, -1])
def test_a_cut_download_goes_on_where_it_stopped(server, files, tmp_path, n):
    n = n % len(files[DATA])
    server.faults[DATA] = [cut(n)]
    assert_complete(download("124M", tmp_path), files)
    first, second = server.starts(DATA)
    assert first == 0 and second == n
    assert not second or server.ranges(DATA)[1].endswith(f"-{len(files[DATA]) - 1}")


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_resumed(server, files, tmp_path, monkeypatch, name):
    monkeypatch.setattr(fetching, "CHUNK", 5)
    server.faults[name] = [cut(10), cut(5)]
    assert_complete(download("124M", tmp_path), files)
    assert server.starts(name) == [0, 10, 15]


def test_progress_starts_the_count_of_attempts_anew(server, files, tmp_path):
    server.faults[DATA] = [cut(5000)] * 20
    assert_complete(download("124M", tmp_path), files)
    assert len(server.ranges(DATA)) == 21


def test_without_progress_attempts_come_to_an_end(server, tmp_path):
    server.faults[DATA] = [cut(5000)] + [cut(0)] * 20
    assert "broke off" in refusal(tmp_path)
    assert len(server.ranges(DATA)) == 1 + fetching.ATTEMPTS - 1


def test_a_server_without_ranges_starts_from_the_beginning(server, files, tmp_path):
    server.faults[DATA] = [cut(9000), serve_without_ranges]
    assert_complete(download("124M", tmp_path), files)
    assert server.ranges(DATA)[1].startswith("bytes=9000-")


def test_a_server_without_ranges_that_always_cuts_comes_to_an_end(server, tmp_path):
    server.faults[DATA] = [cut(9000, serve_without_ranges)] * 20
    assert "broke off" in refusal(tmp_path)
    assert server.ranges(DATA) == [None] * fetching.ATTEMPTS


def test_azures_old_answers_are_understood(server, files, tmp_path):
    server.faults = {name: [cut(1000, serve_like_azure), serve_like_azure] for name in FILES}
    assert_complete(download("124M", tmp_path), files)
    assert server.ranges(DATA) == [None, f"bytes=1000-{len(files[DATA]) - 1}"]
    dates = [headers["If-Range"] for name, headers in server.requests if name == DATA]
    assert dates == [None, "Mon, 01 Sep 2014 09:37:09 GMT"]


def test_a_new_version_is_fetched_from_its_beginning(server, files, tmp_path, monkeypatch):
    server.faults["encoder.json"] = [cut(2000), status(404)]
    refusal(tmp_path)
    part = fetching.part_of(tmp_path / "124M" / "encoder.json")
    assert part.read_bytes() == files["encoder.json"][:2000]
    server.etag = '"2"'
    server.files["encoder.json"] = files["encoder.json"].replace(b", ", b",  ")
    monkeypatch.setattr(released, "VOCABULARY", vocabulary_digests(server.files))
    assert_complete(download("124M", tmp_path), server.files)
    asked = [headers["If-Range"] for name, headers in server.requests if name == "encoder.json"]
    assert asked == [None, '"1"', '"1"']


def test_a_range_of_a_new_version_is_thrown_away(server, files, tmp_path):
    def new_version(handler, body):
        headers = {"ETag": '"2"', "Content_Range": f"bytes 5000-{len(body) - 1}/{len(body)}"}
        send(handler, 206, body[5000:], **headers)

    server.faults[DATA] = [cut(5000), new_version]
    assert_complete(download("124M", tmp_path), files)
    assert server.ranges(DATA)[2] is None


@pytest.mark.parametrize(
    "content_range",
    ["bytes 4999-{last}/{size}", "bytes */{size}", "items 1-2/3", "", "bytes 5000-"],
)
def test_a_wrong_content_range_is_thrown_away(server, files, tmp_path, content_range):
    def wrong(handler, body):
        span = content_range.format(last=len(body) - 1, size=len(body))
        send(handler, 206, body[5000:], ETag='"1"', Content_Range=span)

    server.faults[DATA] = [cut(5000), wrong]
    assert_complete(download("124M", tmp_path), files)
    assert server.ranges(DATA)[2] is None


def test_a_server_may_send_less_than_the_asked_range(server, files, tmp_path):
    def serve_a_hundred(handler, body):
        headers = {"ETag": '"1"', "Content_Range": f"bytes 5000-5099/{len(body)}"}
        send(handler, 206, body[5000:5100], **headers)

    server.faults[DATA] = [cut(5000), serve_a_hundred]
    assert_complete(download("124M", tmp_path), files)
    assert server.starts(DATA) == [0, 5000, 5100]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("extra", [0, 1])
def test_a_part_file_that_is_complete_or_too_long(server, files, tmp_path, name, extra):
    part = fetching.part_of(tmp_path / "124M" / name)
    part.parent.mkdir()
    part.write_bytes(files[name] + bytes(extra))
    fetching.etag_of(part).write_text('"1"')
    assert_complete(download("124M", tmp_path), files)
    asked = len(server.ranges(name))
    assert asked == (2 if name != DATA else extra)  # a range, its refusal (416), all of it


@pytest.mark.parametrize("etag", [None, b"", b"\xff\n\x00"])
def test_a_part_file_of_unknown_version_is_begun_anew(server, files, tmp_path, etag):
    part = fetching.part_of(tmp_path / "124M" / DATA)
    part.parent.mkdir()
    part.write_bytes(b"?" * 500)
    if etag is not None:
        fetching.etag_of(part).write_bytes(etag)
    assert_complete(download("124M", tmp_path), files)
    assert server.ranges(DATA) == [None]


@pytest.mark.parametrize("length", ["none", "chunked"])
def test_a_server_need_not_tell_the_length(server, files, tmp_path, length):
    def serve_unmeasured(handler, body):
        if length == "none":
            return send(handler, 200, body, length="none")
        chunks = [body[i : i + 3000] for i in range(0, len(body), 3000)]
        coded = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in [*chunks, b""])
        headers = {"Transfer_Encoding": "chunked"}
        return send(handler, 200, coded, length="none", **headers)

    server.faults = {name: [serve_unmeasured] for name in FILES}
    assert_complete(download("124M", tmp_path), files)
    assert len(server.requests) == len(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_off_by_a_server_that_does_not_tell_the_length(server, files, tmp_path, name):
    half = len(files[name]) // 2
    server.faults[name] = [lambda handler, body: send(handler, 200, body[:half], length="none")] * 9
    assert f"/124M/{name}: " in refusal(tmp_path)
    assert not (tmp_path / "124M" / name).exists()


@pytest.mark.parametrize("off", [-1, 1, 10**12])
def test_weights_of_the_wrong_length_are_refused_before_they_are_fetched(
    server, files, tmp_path, off
):
    server.faults[DATA] = [lambda handler, body: send(handler, 200, b"", length=len(body) + off)]
    size = len(files[DATA])
    assert f"is {size + off} bytes long instead of {size}" in refusal(tmp_path)
    assert len(server.ranges(DATA)) == 1


def test_a_wrong_total_in_a_range_is_refused(server, files, tmp_path):
    def wrong_total(handler, body):
        send(handler, 206, body[5000:], ETag='"1"', Content_Range=f"bytes 5000-{len(body) - 1}/999")

    server.faults[DATA] = [cut(5000), wrong_total]
    assert "is 999 bytes long instead of" in refusal(tmp_path)


def test_weights_without_an_end_are_stopped(server, files, tmp_path, monkeypatch):
    sizes, discard = [], fetching.discard

    def discard_and_note(part):
        sizes.append(part.stat().st_size)
        discard(part)

    monkeypatch.setattr(fetching, "discard", discard_and_note)

    def endless(handler, body):
        send(handler, 200, body, length="none")
        for _ in range(1000):
            handler.wfile.write(bytes(10_000))

    server.faults[DATA] = [endless]
    assert "bytes long instead of" in refusal(tmp_path)
    assert len(sizes) == 1 and len(files[DATA]) < sizes[0] < len(files[DATA]) + 2000
    assert not fetching.part_of(tmp_path / "124M" / DATA).exists()
    assert_complete(download("124M", tmp_path), files)


@pytest.mark.parametrize("length", ["none", 10**12])
def test_a_small_file_without_an_end_is_stopped(server, files, tmp_path, monkeypatch, length):
    def endless(handler, body):
        send(handler, 200, body, length=length)
        for _ in range(1000):
            handler.wfile.write(bytes(10_000))

    monkeypatch.setattr(fetching, "SMALL_FILE", 50_000)
    server.faults["vocab.bpe"] = [endless]
    assert "far more than this file has" in refusal(tmp_path)
    assert_complete(download("124M", tmp_path), files)


@pytest.mark.parametrize(
    "fault",
    [status(500), status(503, Retry_After=0), status(429, Retry_After=99999), status(408), reset],
)
def test_a_fault_that_passes_is_waited_for(server, files, tmp_path, fault, capfd):
    server.faults = {name: [fault] for name in FILES}
    assert_complete(download("124M", tmp_path), files)
    assert capfd.readouterr().err.count("trying again") == len(FILES)


@pytest.mark.parametrize("retry_after", ["", "soon", "-1", "Wed, 21 Oct 2015 07:28:00 GMT", "٣"])
def test_an_odd_retry_after_is_ignored(server, files, tmp_path, retry_after):
    server.faults[INDEX] = [status(503, Retry_After=retry_after.encode().decode("latin-1"))]
    assert_complete(download("124M", tmp_path), files)


def test_the_waits_double_up_to_the_longest_and_heed_retry_after(server, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(fetching, "ATTEMPTS", 9)
    monkeypatch.setattr(fetching, "FIRST_WAIT", 1)
    monkeypatch.setattr(fetching, "LONGEST_WAIT", 60)
    asked = [None, None, 7, None, 10**9, None, None, None, None]
    headers = [{} if seconds is None else {"Retry_After": seconds} for seconds in asked]
    server.faults["hparams.json"] = [status(503, **header) for header in headers]
    refusal(tmp_path)
    assert waits == [1, 2, 7, 8, 60, 32, 60, 60]


def test_a_fault_that_does_not_pass_ends_in_one_line(server, tmp_path):
    server.faults["vocab.bpe"] = [status(503)] * 99
    message = refusal(tmp_path)
    assert f"{server.url}/models/124M/vocab.bpe: the server answered 503" in message
    assert "GPT2_BASE_URL" in message and str(tmp_path / "124M") in message
    assert len(server.ranges("vocab.bpe")) == fetching.ATTEMPTS
    assert not (tmp_path / "124M" / "vocab.bpe").exists()


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 204, 304])
def test_other_answers_are_final(server, tmp_path, code):
    server.faults["encoder.json"] = [lambda handler, body: send(handler, code)] * 9
    assert f"the server answered {code}" in refusal(tmp_path)
    assert len(server.ranges("encoder.json")) == 1


def test_a_redirection_is_followed_but_not_in_circles(server, files, tmp_path):
    there = {"Location": f"{server.url}/elsewhere/hparams.json"}
    server.faults["hparams.json"] = [lambda handler, body: send(handler, 302, **there)] * 99
    assert "hparams.json: more than 5 redirects in a row" in refusal(tmp_path)
    assert len(server.requests) == 6
    server.faults["hparams.json"] = [lambda handler, body: send(handler, 302, **there)] * 5
    assert_complete(download("124M", tmp_path), files)


@pytest.fixture
def elsewhere(server):
    """The same files on another server, on another port and under another name."""
    other = Server(dict(server.files))
    other.url = other.url.replace("127.0.0.1", "localhost")
    yield other
    other.close()


def redirect_to(url, status=302):
    return lambda handler, body: send(handler, status, Location=url)


@pytest.mark.parametrize("code", [401, 403])
def test_a_link_to_another_server_that_has_expired_is_asked_for_again(
    server, elsewhere, files, tmp_path, capfd, code
):
    server.faults[DATA] = [redirect_to(f"{elsewhere.url}/signed/{DATA}")] * 2
    elsewhere.faults[DATA] = [cut(5000), status(code)]
    assert_complete(download("124M", tmp_path), files)
    assert server.starts(DATA) == [0, 5000, 5000] and elsewhere.starts(DATA) == [0, 5000]
    assert "; the link to it may have expired; trying again in" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("hop", "is_refused"),
    [("http://there/x", True), ("https://there/x", False), ("/x", False), ("//there/x", False)],
)
def test_encryption_is_not_left_for_an_address_without_it(monkeypatch, hop, is_refused):
    asked = []

    def send_prepared(self, request, **settings):
        asked.append(request.url)
        response = requests.Response()
        response.status_code, response.url, response.request = 302, request.url, request
        response.raw = io.BytesIO()
        if len(asked) == 1:
            response.headers["Location"] = hop
        return response

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send_prepared)
    if is_refused:
        with pytest.raises(ValueError, match="redirected from https to an address without"):
            fetching.follow("https://here/", {}, None, "GET")
    else:
        fetching.follow("https://here/", {}, None, "GET")
    assert len(asked) == (1 if is_refused else 2)


def test_every_request_of_a_redirection_is_authorised_by_itself(server, elsewhere, tmp_path):
    seen = []

    def authorise(request):
        seen.append(request.url)
        request.headers["Authorization"] = f"the {len(seen)}th"
        return request

    first, second, third = f"{server.url}/a/a", f"{server.url}/b/a", f"{elsewhere.url}/a"
    server.files["a"] = elsewhere.files["a"] = b"the file"
    server.faults["a"] = [redirect_to("/b/a", 307), redirect_to(third)]
    fetching.fetch_files(f"{server.url}/a", tmp_path, {"a": 8}, lambda *_: None, auth=authorise)
    assert (tmp_path / "a").read_bytes() == b"the file" and seen == [first, second, third]
    sent = [headers["Authorization"] for _, headers in server.requests + elsewhere.requests]
    assert sent == ["the 1th", "the 2th", "the 3th"]


def test_what_a_server_says_of_a_file_is_asked_of_itself_alone(server, elsewhere, capfd):
    url = f"{server.url}/a/{DATA}"
    server.faults[DATA] = [
        status(503),
        redirect_to(f"/b/{DATA}", 307),
        redirect_to(f"{elsewhere.url}/{DATA}"),
    ]
    response = fetching.look_up(url)
    assert response.headers["Location"] == f"{elsewhere.url}/{DATA}" and response.status_code == 302
    assert [hop.url for hop in response.history] == [url] and elsewhere.requests == []
    assert capfd.readouterr().err == (
        f"{url}: the server answered 503 Service Unavailable; trying again in 0 s\n"
    )
    assert len(fetching.look_up(url).content) == 0 and len(server.requests) == 4
    server.faults[DATA] = [status(503)] * 99
    with pytest.raises(ValueError, match="answered 503"):
        fetching.look_up(url)
    assert len(server.requests) == 4 + fetching.ATTEMPTS
    server.faults[DATA] = [status(404, X_Why="gone")]
    with pytest.raises(fetching.Refused, match="answered 404") as caught:
        fetching.look_up(url)
    assert caught.value.status == 404 and caught.value.headers["x-why"] == "gone"


@pytest.mark.parametrize("n", [0, 20_000])
def test_a_stall_is_a_fault_that_passes(server, files, tmp_path, n):
    server.faults[DATA] = [stall_after(n)]
    assert_complete(download("124M", tmp_path), files)
    assert server.starts(DATA) == [0, n]


def test_silence_is_a_fault_that_passes(server, files, tmp_path, capfd):
    server.faults[DATA] = [lambda handler, body: server.released.wait(TOO_LATE)]
    assert_complete(download("124M", tmp_path), files)
    assert "read timeout=0.2" in capfd.readouterr().err


def drops(handler):
    """Yield now and then until the test is over, or can no longer pass."""
    end = time.monotonic() + DRIPPING
    while time.monotonic() < end and not handler.server_of_files.released.wait(0.01):
        yield


def drip(n, chunked=False):
    """Send n bytes of the file, and from then on a byte now and then."""

    def answer(handler, body):
        headers = {"Transfer_Encoding": "chunked"} if chunked else {"Content_Length": len(body)}
        send(handler, 200, length="none", ETag='"1"', **headers)
        pieces = [body[:n], *(body[i : i + 1] for i in range(n, len(body)))]
        for piece, _ in zip(pieces, drops(handler), strict=False):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)

    return answer


@pytest.fixture
def demanding(monkeypatch):
    """A download that expects 10,000 bytes a second, over a tenth of a second."""
    monkeypatch.setattr(fetching, "SLOWEST", 10_000)
    monkeypatch.setattr(fetching, "WINDOW", 0.1)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("n", [1, 20_000])
def test_a_server_that_drips_is_a_fault_that_passes(
    server, files, tmp_path, demanding, capfd, n, chunked
):
    server.faults[DATA] = [drip(n, chunked)]
    assert_complete(download("124M", tmp_path), files)
    assert len(server.ranges(DATA)) == 2 and server.starts(DATA)[1] >= n
    lines = capfd.readouterr().err
    seen = re.search(
        r"the server is too slow \((\d+) bytes in 0\.\d s, ([\d.]+) bytes/s\); t", lines
    )
    n_bytes, speed = int(seen[1]), float(seen[2])
    assert n_bytes < 1000 and n_bytes / 0.15 < speed <= n_bytes / 0.1


@pytest.mark.parametrize("name", ["hparams.json", DATA])
def test_a_server_that_always_drips_is_given_up(server, files, tmp_path, demanding, name):
    server.faults[name] = [drip(1)] * 99
    message = refusal(tmp_path)
    assert f"/124M/{name}: the server is too slow (" in message and "GPT2_BASE_URL" in message
    assert len(server.ranges(name)) == fetching.ATTEMPTS


def test_a_server_that_sends_little_and_then_drips_each_time_is_given_up(
    server, tmp_path, demanding
):
    def drip_on(handler, body):
        start = int(re.findall(r"\d+", handler.headers.get("Range", "0"))[0])
        headers = {"Content_Range": f"bytes {start}-{len(body) - 1}/{len(body)}", "ETag": '"1"'}
        send(handler, 206 if start else 200, length=len(body) - start, **headers)
        handler.wfile.write(body[start : start + fetching.CHUNK])
        for _ in drops(handler):
            handler.wfile.write(b"x")

    server.faults[DATA] = [drip_on] * 99
    assert "the server is too slow (" in refusal(tmp_path)
    assert server.starts(DATA)[-1] >= 2 * fetching.CHUNK
    assert len(server.ranges(DATA)) == fetching.ATTEMPTS


def test_answers_that_drip_are_given_up(server, files, tmp_path, monkeypatch):
    def drip_headers(handler, body):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nServer: ")
        for _ in drops(handler):
            handler.wfile.write(b"x")

    monkeypatch.setattr(fetching, "ANSWER_TIMEOUT", 0.1)
    server.faults[INDEX] = [drip_headers] * 2
    assert_complete(download("124M", tmp_path), files)
    server.faults[INDEX] = [drip_headers] * 9
    (tmp_path / "124M" / INDEX).unlink()
    assert f"/124M/{INDEX}: no whole answer came in 0.1 s" in refusal(tmp_path)
    assert len(server.ranges(INDEX)) == 3 + fetching.ATTEMPTS


def test_an_answer_that_comes_too_late_is_closed(server, files, tmp_path, monkeypatch):
    def answer_late(handler, body):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nServer: ")
        for _ in drops(handler):
            handler.wfile.write(b"x")
            if len(server.ranges(INDEX)) == 2:
                break
        handler.wfile.write(b"\r\nContent-Length: 9\r\n\r\n")

    closed, close = [], requests.Response.close
    monkeypatch.setattr(
        requests.Response, "close", lambda self: closed.append(self.headers) or close(self)
    )
    monkeypatch.setattr(fetching, "ANSWER_TIMEOUT", 0.1)
    server.faults[INDEX] = [answer_late]
    assert_complete(download("124M", tmp_path), files)
    wait_until(lambda: "9" in [headers.get("Content-Length") for headers in closed])


def test_no_attempt_uses_the_connection_of_another(server, files, tmp_path):
    ports = []

    def serve_and_note(handler, body):
        ports.append(handler.client_address[1])
        serve(handler, body)

    server.faults = {name: [serve_and_note] for name in FILES}
    assert_complete(download("124M", tmp_path), files)
    assert len(set(ports)) == len(FILES)


def test_speed_is_measured_from_window_to_window(monkeypatch):
    """10 bytes a second are enough; the last window has 9, the one before it 1000."""
    clock = iter([0, 0.5, 0.5, 1, 7, 8, 8, 9])  # before and after each read: 7 s are not waited
    pieces = [b"x" * 500, b"x" * 500, b"x" * 10, b"x" * 9]
    monkeypatch.setattr(fetching, "SLOWEST", 10)
    monkeypatch.setattr(fetching, "WINDOW", 1)
    monkeypatch.setattr(fetching, "read_piece", lambda response: pieces.pop(0))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    response = SimpleNamespace(raw=SimpleNamespace(length_remaining=None))
    received = fetching.receive(response)
    assert [len(next(received)) for _ in range(4)] == [500, 500, 10, 9]
    with pytest.raises(fetching.Interrupted, match=r"\(9 bytes in 1\.0 s, 9\.0 bytes/s\)"):
        next(received)


def test_nothing_is_waited_for_after_the_last_byte(monkeypatch):
    pieces = [b"123", b"45"]
    monkeypatch.setattr(fetching, "read_piece", lambda response: pieces.pop(0))
    response = SimpleNamespace(raw=SimpleNamespace(length_remaining=5))
    assert list(fetching.receive(response)) == [b"123", b"45"]


def test_a_body_that_is_whole_was_never_too_slow(monkeypatch):
    monkeypatch.setattr(fetching, "SLOWEST", 10**9)
    monkeypatch.setattr(fetching, "WINDOW", 1)
    monkeypatch.setattr(fetching, "read_piece", lambda response: b"12345")
    clock = iter([0, 2])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    response = SimpleNamespace(raw=SimpleNamespace(length_remaining=5))
    assert list(fetching.receive(response)) == [b"12345"]


def test_without_threads_everything_is_done_on_one(server, files, tmp_path):
    server.faults = {INDEX: [cut(10)], DATA: [drip(20_000), stall_after(30_000)]}
    code = """
import threading
from files import download

def refuse(self):
    raise RuntimeError("can't start new thread")

threading.Thread.start = refuse
download.READ_TIMEOUT = 0.2
download.FIRST_WAIT = 0.001
download.SLOWEST, download.WINDOW = 10_000, 0.1
"""
    process = start_download(tmp_path, code + PROGRAM)
    _, err = process.communicate(timeout=TOO_LATE)
    assert process.returncode == 0, err
    assert_complete(tmp_path / "124M", files)
    assert err.count("trying again") == 3 and "too slow" in err and "not a byte came" in err
    assert "Traceback" not in err and "Warning" not in err


def test_a_slow_line_is_waited_for(server, files, tmp_path, monkeypatch, capfd):
    def serve_slowly(handler, body):
        send(handler, 200, length=len(body))
        for start in range(0, len(body), 200):
            handler.wfile.write(body[start : start + 200])
            time.sleep(0.01)

    monkeypatch.setattr(fetching, "CHUNK", 100)
    monkeypatch.setattr(fetching, "SLOWEST", 500)
    monkeypatch.setattr(fetching, "WINDOW", 0.1)
    server.faults = {name: [serve_slowly] for name in FILES if name != DATA}
    assert_complete(download("124M", tmp_path), files)
    assert len(server.requests) == len(FILES)


HOSTILE = "\x1b[2J\x9b31m\x07"


def answer_hostile(code, reason="OK", **headers):
    """An answer whose reason and headers have control characters in them."""

    def answer(handler, body):
        handler.send_response(code, reason)
        for name, value in ({"Content_Length": 0} | headers).items():
            handler.send_header(name.replace("_", "-"), str(value))
        handler.end_headers()

    return answer


@pytest.mark.parametrize(
    "answer",
    [
        answer_hostile(404, HOSTILE),
        answer_hostile(503, HOSTILE),
        answer_hostile(416, HOSTILE),
        answer_hostile(200, HOSTILE, ETag=f'"{HOSTILE}"', Content_Type=f"text/html{HOSTILE}"),
        answer_hostile(206, HOSTILE, Content_Range=HOSTILE, ETag=f'"{HOSTILE}"'),
        answer_hostile(206, Content_Range=f"bytes 0-9/10{HOSTILE}"),
        answer_hostile(302, HOSTILE, Location=f"http://127.0.0.1:1/{HOSTILE}"),
        answer_hostile(302, Location=f"{HOSTILE}://there"),
        answer_hostile(302, Location=f"http://{HOSTILE}/"),
        answer_hostile(200, Content_Encoding=HOSTILE),
        answer_hostile(200, Transfer_Encoding=f"chunked{HOSTILE}"),
        lambda handler, body: handler.wfile.write(HOSTILE.encode() + b"\r\n\r\n"),
        lambda handler, body: handler.wfile.write(b"HTTP/1.1 " + HOSTILE.encode() + b"\r\n\r\n"),
    ],
)
def test_a_servers_control_characters_do_not_reach_the_terminal(server, tmp_path, capfd, answer):
    server.faults["encoder.json"] = [answer] * 9
    message = refusal(tmp_path)
    notices = capfd.readouterr().err
    assert message.isprintable() and notices.replace("\n", "").isprintable()
    server.faults["encoder.json"] = [cut(100)] + [answer] * 9  # between attempts
    message = refusal(tmp_path)
    notices = capfd.readouterr().err
    assert message.isprintable() and notices.replace("\n", "").isprintable()


@pytest.mark.parametrize("name", FILES)
def test_an_html_page_instead_of_a_file(server, files, tmp_path, name):
    server.faults[name] = [html]
    message = refusal(tmp_path)
    assert f"/124M/{name}: an HTML page" in message and "GPT2_BASE_URL" in message
    assert not (tmp_path / "124M" / name).exists()
    assert_complete(download("124M", tmp_path), files)


def test_a_compressed_answer_is_refused(server, tmp_path):
    server.faults["hparams.json"] = [
        lambda handler, body: send(handler, 200, body, Content_Encoding="gzip")
    ]
    assert "compressed, unasked" in refusal(tmp_path)


def fetch_two(server, folder, check=lambda name, part: None, sizes=(None, None)):
    """Fetch the files a and b, which are of no model, and are checked together."""
    server.files |= {"a": b"the first", "b": b"the second"}
    sizes = dict(zip("ab", sizes, strict=True))
    return fetching.fetch_missing(server.url, folder, sizes, check, {"b": "a"}, "fetching two")


def test_any_files_are_fetched_in_their_order_and_named(server, tmp_path, capfd):
    checked = []

    def check(name, part):
        checked.append((name, part.name, part.read_bytes()))

    assert fetch_two(server, tmp_path / "made", check, (9, None)) == ["a", "b"]
    assert checked == [("a", "a.part", b"the first"), ("b", "b.part", b"the second")]
    assert (tmp_path / "made" / "b").read_bytes() == b"the second"
    assert fetch_two(server, tmp_path / "made", check) == []
    (tmp_path / "made" / "a").unlink()
    assert fetch_two(server, tmp_path / "made", check) == ["a"]
    assert capfd.readouterr().err.count("fetching two") == 2


def test_a_file_without_a_byte_in_it_is_a_file(server, tmp_path):
    server.files["a"] = b""
    fetching.fetch_files(server.url, tmp_path, {"a": 0}, lambda name, part: None)
    assert (tmp_path / "a").read_bytes() == b"" and len(server.requests) == 1


def test_a_file_that_fails_its_check_goes_with_its_partner(server, tmp_path):
    def check(name, part):
        if name == "b":
            raise ValueError("does not fit\na")

    with pytest.raises(fetching.DownloadError) as caught:
        fetch_two(server, tmp_path, check)
    assert str(caught.value) == f"{server.url}/b: does not fit a"
    assert not list(tmp_path.glob("*"))


def test_room_is_needed_for_what_is_lacking_of_all_files(server, tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(bytes(10**6))
    (tmp_path / "b.part").write_bytes(bytes(2 * 10**6))
    room = fetching.SMALL_FILE + 3 * 10**6
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=room - 1))
    with pytest.raises(fetching.DiskError, match=r"needs 19\.8 MB, 19\.8 MB are free$"):
        fetch_two(server, tmp_path, sizes=(10**6, 5 * 10**6))
    fetching.check_disk(tmp_path, {"a": 10**6, "b": 5 * 10**6 - 1, "c": None})


@pytest.fixture
def no_waiting(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("waited"))


def test_no_connection_is_one_line_at_once(server, tmp_path, monkeypatch, capfd, no_waiting):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        monkeypatch.setenv("GPT2_BASE_URL", f"http://127.0.0.1:{port}")
        message = refusal(tmp_path)
    assert "refused" in message and "GPT2_BASE_URL" in message and "<" not in message
    assert capfd.readouterr().err.count("\n") == 1


def test_a_lost_connection_is_waited_for(server, files, tmp_path, monkeypatch):
    connect = "urllib3.util.connection.create_connection"
    working = urllib3.util.connection.create_connection

    def broken(*args, **kwargs):
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    network = [broken, broken, working]  # in the pauses after a cut and two vain attempts
    monkeypatch.setattr(time, "sleep", lambda wait: monkeypatch.setattr(connect, network.pop(0)))
    monkeypatch.setattr(fetching, "ATTEMPTS", 4)
    server.faults[DATA] = [cut(5000)]
    assert_complete(download("124M", tmp_path), files)
    assert not network and server.starts(DATA) == [0, 5000]


def test_a_proxy_that_refuses_is_one_line_at_once(server, tmp_path, monkeypatch, no_waiting):
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, server.url)
    monkeypatch.setenv("GPT2_BASE_URL", "https://models.invalid")
    message = refusal(tmp_path)
    assert "proxy" in message and "GPT2_BASE_URL" in message


def test_a_server_without_tls_is_one_line_at_once(server, tmp_path, monkeypatch, no_waiting):
    monkeypatch.setenv("GPT2_BASE_URL", server.url.replace("http:", "https:"))
    assert "SSL" in refusal(tmp_path)


def test_a_part_file_counts_as_disk_space_taken_already(server, files, tmp_path, monkeypatch):
    server.faults[DATA] = [cut(100_000), status(404)]
    refusal(tmp_path)
    usage = shutil.disk_usage(tmp_path)._replace(free=16 * 2**20 + 100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert_complete(download("124M", tmp_path), files)


def test_a_disk_that_fills_up_keeps_the_part_file(server, files, tmp_path, monkeypatch):
    class Full:
        """A file on a disk that has room for 50 kB."""

        def __init__(self, file):
            self.file = file

        def write(self, data):
            room = 50_000 - self.file.tell()
            self.file.write(data[:room])
            if room < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def tell(self):
            return self.file.tell()

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            self.file.close()

    def open_full(path, *args, **kwargs):
        file = open(path, *args, **kwargs)
        return Full(file) if Path(path).name == f"{DATA}.part" else file

    with monkeypatch.context() as patch:
        patch.setattr(fetching, "open", open_full, raising=False)
        message = refusal(tmp_path)
    assert os.strerror(errno.ENOSPC) in message and "make room" in message
    assert fetching.part_of(tmp_path / "124M" / DATA).stat().st_size == 50_000
    assert_complete(download("124M", tmp_path), files)
    assert server.ranges(DATA) == [None, f"bytes=50000-{len(files[DATA]) - 1}"]


def test_files_placed_by_hand_are_left_alone(server, files, tmp_path):
    (tmp_path / "124M").mkdir()
    (tmp_path / "124M" / DATA).write_bytes(files[DATA])
    assert_complete(download("124M", tmp_path), files)
    assert server.ranges(DATA) == []


def test_control_c_keeps_the_part_file_and_passes_on(server, files, tmp_path, monkeypatch):
    def interrupt(seconds):
        raise KeyboardInterrupt

    server.faults[DATA] = [cut(7000)]
    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            download("124M", tmp_path)
    assert_complete(download("124M", tmp_path), files)
    assert server.ranges(DATA) == [None, f"bytes=7000-{len(files[DATA]) - 1}"]


PROGRAM = f"""
import json, sys, utils
from files import download, released
released.RELEASED = {{"124M": {tuple(HPARAMS.values())}}}
released.VOCABULARY = json.loads(sys.argv[2])
download.CHUNK, download.LOCK_WAIT = 1000, 0.01
utils.download("124M", sys.argv[1])
"""


def start_download(models_dir, program=PROGRAM):
    return subprocess.Popen(
        [sys.executable, "-c", program, str(models_dir), json.dumps(released.VOCABULARY)],
        cwd=Path(utils.__file__).parent,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_lock_that_was_removed_while_it_was_waited_for_is_no_lock(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    with open(path, "a") as first:
        assert try_lock(first)
        waited = []

        def release_and_remove(seconds):
            waited.append(seconds)
            path.unlink()
            first.close()

        monkeypatch.setattr(time, "sleep", release_and_remove)
        with fetching.hold_lock(path):
            assert len(waited) == 1
            with open(path, "a") as another:
                assert not try_lock(another)
    assert not path.exists()


def test_a_failed_download_leaves_no_lock_and_no_empty_folder(server, tmp_path):
    server.faults["hparams.json"] = [status(404)]
    refusal(tmp_path)
    assert os.listdir(tmp_path) == []
    server.faults["encoder.json"] = [status(404)]
    refusal(tmp_path)
    assert os.listdir(tmp_path / "124M") == ["hparams.json"]


def test_killed_half_way_and_run_again(server, files, tmp_path):
    server.faults[DATA] = [stall_after(60_000)]
    part = fetching.part_of(tmp_path / "124M" / DATA)
    process = start_download(tmp_path)
    wait_until(lambda: part.exists() and part.stat().st_size >= 50_000)
    process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    process.communicate(timeout=TOO_LATE)
    kept = part.stat().st_size
    assert 50_000 <= kept <= 60_000 and not (tmp_path / "124M" / DATA).exists()

    assert_complete(download("124M", tmp_path), files)
    assert server.ranges(DATA) == [None, f"bytes={kept}-{len(files[DATA]) - 1}"]
    assert len(server.requests) == len(FILES) + 1


def test_of_two_processes_one_downloads_and_the_other_waits(server, files, tmp_path, capfd):
    server.faults[DATA] = [stall_after(60_000)]
    part = fetching.part_of(tmp_path / "124M" / DATA)
    first = start_download(tmp_path)
    wait_until(lambda: part.exists() and part.stat().st_size >= 50_000)
    second = start_download(tmp_path)
    assert "another process is downloading" in second.stderr.readline()
    first.kill()  # the operating system gives its lock to the second, which takes the work over
    first.communicate(timeout=TOO_LATE)
    second.communicate(timeout=TOO_LATE)
    assert second.returncode == 0
    assert_complete(tmp_path / "124M", files)
    assert len(server.requests) == len(FILES) + 1


def test_many_at_once_fetch_every_file_once(server, files, tmp_path):
    threads = [threading.Thread(target=download, args=("124M", tmp_path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TOO_LATE)
    assert_complete(tmp_path / "124M", files)
    assert len(server.requests) == len(FILES)
