"""The explorer's server: for this machine alone, and nonsense ends in a status and one line."""

import http.client
import json
import socket
import threading
import time

import pytest

from explorer import server as module
from explorer.server import STATIC, Server


def reply(question, asked):
    if question == "wrong":
        raise ValueError("this is\nwrong")
    if question == "bug":
        raise ZeroDivisionError("a bug")
    if question == "memory":
        raise MemoryError
    return {"question": question, "asked": asked}


@pytest.fixture(scope="module")
def served():
    with Server(0, reply) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def send(served, method, path, body=None, **headers):
    """One request: status, headers, text. Headers are given with _ for -."""
    connection = http.client.HTTPConnection("127.0.0.1", served.server_port, timeout=10)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, response.headers, text


def ask(served, question, body=b"{}", **headers):
    headers = {"Content_Type": "application/json"} | headers
    return send(served, "POST", f"/ask/{question}", body, **headers)


def send_raw(served, data):
    """Bytes as they are: all that comes back until the server hangs up."""
    with socket.create_connection(("127.0.0.1", served.server_port), timeout=10) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


def test_the_page_and_its_files_are_served(served):
    status, headers, text = send(served, "GET", "/")
    assert status == 200 and headers["Content-Type"].startswith("text/html")
    assert text == (STATIC / "index.html").read_text("utf-8")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    for path in STATIC.iterdir():
        status, headers, text = send(served, "GET", f"/{path.name}?again")
        assert status == 200 and text == path.read_text("utf-8")
        assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "/../server.py",
        "/server.py",
        "//etc/passwd",
        "/%2e%2e/server.py",
        "/static/main.js",
        "/.",
        "/x",
    ],
)
def test_nothing_else_is_served(served, path):
    status, _, text = send(served, "GET", path)
    assert (status, text) == (404, "there is no such page\n")


def test_a_question_gets_its_answer(served):
    status, headers, text = ask(served, "run", json.dumps({"ids": [1, 2]}))
    assert status == 200 and headers["Content-Type"] == "application/json"
    assert json.loads(text) == {"question": "run", "asked": {"ids": [1, 2]}}


def test_it_listens_on_the_loopback_interface_alone(served):
    assert served.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "localhost:1", "", "127.0.0.1.evil.example"]
)
def test_another_host_is_refused(served, host):
    for method, path in (("GET", "/"), ("POST", "/ask/run")):
        status, _, text = send(
            served, method, path, b"{}", Host=host, Content_Type="application/json"
        )
        assert status == 403 and text.count("\n") == 1 and "alone" in text


def test_localhost_by_name_is_this_machine(served):
    assert send(served, "GET", "/", Host=f"localhost:{served.server_port}")[0] == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1"])
def test_another_sites_page_is_refused(served, origin):
    assert ask(served, "run", Origin=origin)[0] == 403
    own = f"http://127.0.0.1:{served.server_port}"
    assert ask(served, "run", Origin=own)[0] == 200


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"\xff\xfe", {}, 400),
        (b"[]", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b"{}", {"Content_Type": "text/plain"}, 415),
        (b"{}", {"Content_Length": "-1"}, 411),
        (b"{}", {"Content_Length": "many"}, 411),
        (b"{}", {"Content_Length": "9999999999"}, 413),
        (b"x" * 200_001, {}, 413),
    ],
)
def test_nonsense_is_a_status_and_one_line(served, body, headers, status):
    answered, _, text = ask(served, "run", body, **headers)
    assert answered == status and text.count("\n") == 1 and text.endswith("\n")


def test_what_an_answer_raises_is_one_line(served):
    assert ask(served, "wrong")[::2] == (400, "this is wrong\n")
    assert ask(served, "bug")[::2] == (500, "a bug in the explorer: ZeroDivisionError: a bug\n")
    assert ask(served, "memory")[0] == 507
    assert send(served, "POST", "/elsewhere", b"{}", Content_Type="application/json")[0] == 400


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"\x00\xff\x16\x03\x01\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"DELETE / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n",
    ],
)
def test_what_is_no_request_is_survived(served, data):
    answer = send_raw(served, data)
    assert answer == b"" or b" 4" in answer[:14] or b" 5" in answer[:14], answer[:80]
    assert b"Traceback" not in answer and ask(served, "run")[0] == 200


def test_a_client_that_hangs_up_in_the_middle_is_survived(served, capsys):
    head = f"POST /ask/run HTTP/1.1\r\nHost: 127.0.0.1:{served.server_port}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    send_raw(served, head.encode())
    assert ask(served, "run")[0] == 200
    assert capsys.readouterr().err == ""


def test_a_silent_client_is_given_up(monkeypatch):
    monkeypatch.setattr(module.Handler, "timeout", 0.1)
    with Server(0, reply) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as client:
            assert client.recv(100) == b""
        server.shutdown()
        thread.join()


def test_too_many_clients_at_a_time_are_turned_away(monkeypatch):
    monkeypatch.setattr(module, "MOST_CLIENTS", 2)
    with Server(0, reply) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        clients = [socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(3)]
        clients[2].settimeout(10)
        assert clients[2].recv(100) == b""
        for client in clients:
            client.close()
        deadline = time.monotonic() + 10
        while server.places._value < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert ask(server, "run")[0] == 200
        server.shutdown()
        thread.join()


def test_a_taken_port_is_an_os_error(served):
    with pytest.raises(OSError):
        Server(served.server_port, reply)
