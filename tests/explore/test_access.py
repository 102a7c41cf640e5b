"""Who is let in: requests by raw sockets to a server that the command line started."""

import json
import re
import socket
from typing import NamedTuple

import pytest

pytest.importorskip("bokeh", reason="needs bokeh")

from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from stellarhml.explore.access import Access

EVIL = "evil.example"
UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "MDEyMzQ1Njc4OTAxMjM0NQ==",
}
PROMISED = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Answer(NamedTuple):
    status: int
    headers: dict
    body: str


class Door:
    """The server at an address, as a socket sees it."""

    def __init__(self, address):
        self.origin, self.code = address.rsplit("/", 1)
        self.name = self.origin.removeprefix("http://")
        host, port = self.name.rsplit(":", 1)
        self.place, self.port = (host.strip("[]"), int(port)), int(port)

    def ask(self, part="", *, method="GET", path=None, version="1.1", hosts=None, **more):
        """Answer to a request for a part of the page, or for any path; `more` are headers, with _ for -."""
        path = f"/{self.code}/{part}" if path is None else path
        pairs = [("Host", name) for name in ([self.name] if hosts is None else hosts)]
        for name, values in more.items():
            pairs += [(name.replace("_", "-"), value) for value in ([values] if isinstance(values, str) else values)]
        lines = [f"{method} {path} HTTP/{version}", *(f"{name}: {value}" for name, value in pairs)]
        with socket.create_connection(self.place, timeout=20) as line:
            line.sendall("".join(f"{text}\r\n" for text in [*lines, ""]).encode())
            with line.makefile("rb") as answer:
                first, *rest = iter(lambda: answer.readline().decode().rstrip("\r\n"), "")
                headers = dict(text.split(": ", 1) for text in rest)
                length = 0 if method == "HEAD" else int(headers.get("Content-Length", 0))
                return Answer(int(first.split()[1]), headers, answer.read(length).decode(errors="replace"))

    def open_socket(self, *protocols, **more):
        more = {"Origin": self.origin} | more
        protocol = {"Sec_WebSocket_Protocol": ", ".join(protocols)} if protocols else {}
        return self.ask("ws", **UPGRADE, **protocol, **{name: part for name, part in more.items() if part is not None})

    def token(self):
        """Token of the session of a new page."""
        page = self.ask()
        assert page.status == 200
        return json.loads(re.search(r'id="render-items">(.*?)</script>', page.body).group(1))[0]["token"]


@pytest.fixture(scope="module")
def door(address):
    return Door(address)


def wrong_names(door):
    yield from ([], [EVIL], [f"{EVIL}:{door.port}"], [f"localhost:{door.port + 1}"], ["localhost"], ["127.0.0.1"])
    yield from ([f"localhost.:{door.port}"], [f"localhost:{door.port}", EVIL], [EVIL, f"localhost:{door.port}"])
    yield from ([f"[::1]:{door.port + 1}"], [f"[::2]:{door.port}"], [f"0.0.0.0:{door.port}"], [f"127.1:{door.port}"])
    yield from ([f"{EVIL}@localhost:{door.port}"], [f"localhost:{door.port}.{EVIL}"], [f"localhost:0{door.port}"], [""])
    yield from ([f"localhost:{door.port}:80"], [f"localhost:{door.port}:443"], [f"localhost:{door.port}:80:443"])
    yield [f"localhost:{door.port}"] * 2


@pytest.mark.slow
@pytest.mark.parametrize("part", ["", "ws", "page.js", "static/js/bokeh.min.js", "autoload.js", "metadata", "x"])
def test_no_part_answers_under_another_name(door, part):
    for hosts in wrong_names(door):
        more = UPGRADE if part == "ws" else {}
        for origin in (f"http://{hosts[0]}", door.origin) if hosts else (door.origin,):
            answer = door.ask(part, hosts=hosts, Origin=origin, **more)
            # tornado itself turns away what is no HTTP: no name, two names, or no name of a host
            assert answer.status in (400, 403), (hosts, part)
            assert "bokeh" not in answer.body.lower(), (hosts, part)
            if answer.status == 403:
                assert "--origin HOST:PORT" in answer.body


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_no_method_answers_under_another_name(door, method):
    for path in (f"/{door.code}/", f"/{door.code}/ws", "/", "*", f"http://localhost:{door.port}/{door.code}/"):
        answer = door.ask(method=method, path=path, hosts=[EVIL], Origin=f"http://{EVIL}")
        assert answer.status in (400, 403, 405), path


def test_rebound_name_is_refused_by_the_servers_own_code(door):
    """Host and Origin are the same name, as for a browser to which DNS has said that it is this machine."""
    answer = door.open_socket("bokeh", door.token(), hosts=[f"{EVIL}:{door.port}"], Origin=f"http://{EVIL}:{door.port}")
    assert answer.status == 403
    assert "--origin HOST:PORT" in answer.body


def test_forwarded_names_do_not_count(door):
    assert (
        door.ask(hosts=[EVIL], X_Forwarded_Host=door.name, X_Real_Ip="127.0.0.1", Forwarded=f"host={door.name}").status
        == 403
    )
    assert door.ask(X_Forwarded_Host=EVIL).status == 200


def test_request_of_http_1_0_without_a_name_is_refused(door):
    assert door.ask(version="1.0", hosts=[]).status == 403


@pytest.mark.slow
@pytest.mark.parametrize("name", ["localhost", "LOCALHOST", "127.0.0.1", "[::1]"])
def test_names_of_this_machine_are_answered(door, name):
    assert door.ask(hosts=[f"{name}:{door.port}"]).status == 200


@pytest.mark.parametrize("part", ["", "ws", "page.js", "static/js/bokeh.min.js"])
def test_nothing_is_there_without_the_code(door, part):
    for code in ("", "x", door.code[:-1], door.code + "x", door.code.swapcase(), "%2e%2e", "\u00e9"):
        for path in (f"/{code}/{part}", f"/{part}", f"//{door.code}/{part}"):
            answer = door.ask(path=path)
            assert (answer.status, "code in this address" in answer.body) == (403, True), path
            assert door.code not in answer.body


def test_code_is_long_and_new_at_every_start():
    codes = {Access("127.0.0.1", 5006).code for _ in range(20)}
    assert len(codes) == 20
    assert min(map(len, codes)) >= 32


def test_other_parts_of_bokeh_are_closed(door):
    for part in ("autoload.js", "metadata", "favicon.ico", "page.py", "../page.js", "static", "page.js/", "%77s"):
        assert door.ask(part).status == 404, part
    assert door.ask("static/../../../page.py").status in (403, 404)
    assert door.ask(path=f"/{door.code}").status == 404


def test_websocket_is_for_own_pages_alone(door):
    token = door.token()
    for origin in (
        None,
        f"http://{EVIL}",
        "null",
        f"http://localhost:{door.port + 1}",
        f"ftp://{door.name}",
        "",
        door.name,
    ):
        assert door.open_socket("bokeh", token, Origin=origin).status == 403, origin
    assert door.open_socket("bokeh", token, Origin=[door.origin, f"http://{EVIL}"]).status in (400, 403)
    assert door.open_socket("bokeh", token, Origin=None, Sec_WebSocket_Origin=door.origin).status == 403
    answer = door.open_socket("bokeh", token)
    assert answer.status == 101
    assert PROMISED.items() <= answer.headers.items()


def test_foreign_origin_is_refused_everywhere(door):
    for part in ("", "page.js", "static/js/bokeh.min.js"):
        assert door.ask(part, Origin=f"http://{EVIL}").status == 403
        assert door.ask(part, Origin=door.origin).status == 200


def test_session_is_the_pages_own(door):
    from bokeh.util.token import generate_jwt_token

    for protocols in ((), ("bokeh",), ("bokeh", "x"), ("bokeh", generate_jwt_token("chosen"))):
        assert door.open_socket(*protocols).status in (400, 403), protocols
    assert door.ask("?bokeh-session-id=chosen").status == 403
    assert door.ask(f"?bokeh-token={generate_jwt_token('chosen')}").status == 403
    assert door.ask(Bokeh_Session_Id="chosen").status == 403


def test_session_with_a_forged_signature_is_refused(door):
    """The name of a live session, in a token of one's own."""
    from bokeh.util.token import generate_jwt_token, get_session_id

    token = door.token()
    assert (
        door.open_socket("bokeh", generate_jwt_token(get_session_id(token), secret_key=b"guess", signed=True)).status
        == 403
    )
    assert door.open_socket("bokeh", token).status == 101


def test_every_answer_has_the_headers(door):
    answers = [door.ask(), door.ask("page.js"), door.ask("static/js/bokeh.min.js"), door.ask("nothing")]
    answers += [door.ask(path="/"), door.ask(hosts=[EVIL]), door.ask(method="POST"), door.ask(method="HEAD")]
    answers += [door.ask("static/nothing.js"), door.ask("static/js/../../../../secret")]
    for answer in answers:
        assert PROMISED.items() <= answer.headers.items(), answer
        policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == "'self'"
        assert EVIL not in answer.headers["Content-Security-Policy"]
    assert f"ws://{door.name}" in answers[0].headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("address", "origins", "host", "accepted"),
    [
        ("::1", (), "[::1]:5006", True),
        ("::1", (), "[::2]:5006", False),
        ("::", (), "[::]:5006", False),
        ("0.0.0.0", (), "0.0.0.0:5006", False),
        ("192.0.2.7", (), "192.0.2.7:5006", True),
        ("Star.Example", (), "star.example:5006", True),
        ("0.0.0.0", ("star.example:5006",), "Star.Example:5006", True),
        ("0.0.0.0", ("star.example:5006",), "star.example", False),
        ("0.0.0.0", ("star.example",), "star.example", True),  # behind a proxy at the usual port
        ("0.0.0.0", ("star.example",), "star.example:443", True),
        ("0.0.0.0", ("star.example",), "star.example:5006", False),
        ("0.0.0.0", ("[2001:db8::1]:5006",), "[2001:DB8::1]:5006", True),
        ("0.0.0.0", ("star.example",), "x.star.example", False),
        ("0.0.0.0", ("star.example",), "star.example:443:80", False),
        ("::1", (), "[::1]:5006:80", False),
    ],
)
def test_names_that_are_answered(address, origins, host, accepted):
    access = Access(address, 5006, origins)
    headers = HTTPHeaders({"Host": host})
    request = HTTPServerRequest(headers=headers, start_line=RequestStartLine("GET", f"/{access.code}/", "HTTP/1.1"))
    assert (access.refusal(request) is None) is accepted


def test_log_has_neither_code_nor_long_lines(door, folder):
    """Neither for what is refused, nor for an address that lacks a letter, nor for what fails inside."""
    log = folder / "server.log"
    before = len(log.read_text())
    door.ask(path=f"/{door.code[:-1]}/")
    door.ask(door.code)
    door.ask(hosts=[EVIL])
    door.ask("x" * 60_000)
    door.ask(method="POST")
    door.ask("static/nothing.js")
    door.ask(path=f"http://{EVIL}/{door.code}/", hosts=[EVIL])
    lines = log.read_text()[before:].splitlines()
    assert len(lines) >= 5
    assert not any(door.code[:-1] in line for line in lines)
    assert max(map(len, lines)) < 400
    assert any("404 GET /... (127.0.0.1)" in line for line in lines)
