"""The HTTP session: connections, how they are read and closed, and redirects."""

import contextlib
import datetime
import gc
import itertools
import socket
import ssl
import sys
import threading
import time

import pytest
from patience import PATIENCE, eventually
from scripted_model import ScriptedModel, says, texts_of
from scripted_server import SILENCE, Reply, error, new, result

from chapters.http_session import direct, new_session, send
from chapters.inboxes import Inbox
from chapters.jobs import finish, together
from chapters.outside import Failure, Problem
from chat import LLM, Chat, Server

CALL = {"name": "count", "arguments": {}}
DONE = new({"content": [{"type": "text", "text": "done"}]})


# ── Connections ──────────────────────────────────────────────────────────────────────────


def answer_as_stream(message):
    yield result(message, DONE)


@pytest.mark.parametrize("answer", [DONE, answer_as_stream], ids=["JSON", "a stream"])
def test_one_connection_serves_all_requests(http_server, connect, answer):
    server = http_server({"tools/list": answer, "tools/call": answer})
    connection = connect(server.entry())
    for _ in range(5):
        connection.ask("tools/list")
        connection.ask("tools/call", CALL)
    assert len(server.seen) == 10 and server.connections == 1


def test_one_connection_serves_an_old_server(http_server, connect):
    server = http_server({"tools/call": answer_as_stream}, old="2025-06-18", session="visit-1")
    connection = connect(server.entry())
    for _ in range(5):
        connection.ask("tools/call", CALL)
    shaken = server.methods.index("initialize")
    assert len({seen.connection for seen in server.seen[shaken:]}) == 1


def test_calls_side_by_side_have_a_connection_each_and_leave_them_to_the_next(http_server, connect):
    gate = threading.Barrier(4)

    def together(message):
        gate.wait(PATIENCE)
        return DONE

    server = http_server({"tools/list": new({"tools": []}), "tools/call": together})
    connection = connect(server.entry())
    connection.ask("tools/list")
    for _ in range(3):
        threads = [threading.Thread(target=connection.ask, args=("tools/call", CALL))
                   for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(server.seen) == 13 and server.connections == 4


@pytest.fixture
def often():
    """The threads take turns as often as they can, so that they do so everywhere."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


# (Of a stream, nobody waits long for the end, so its connection may be lost, but no answer.)
@pytest.mark.parametrize("answer, most", [(DONE, 6), (answer_as_stream, 600)],
                         ids=["JSON", "a stream"])
def test_calls_side_by_side_never_hang_up_on_each_other(http_server, connect, often, answer, most):
    # Whoever has an answer takes no interest in its connection any more, which may serve another.
    def call(job):
        for _ in range(100):
            assert connection.request("tools/call", CALL, job) == DONE

    server = http_server({"tools/call": answer})
    connection = connect(server.entry())
    finish(together([call] * 6))
    assert len(server.seen) == 600 and server.connections <= most


def test_connections_side_by_side_share_their_cookies(http_server, connect):
    # By a cookie, a machine in front of several servers knows which of them is ours.
    both = threading.Barrier(2)

    def call(message):
        both.wait(PATIENCE)
        return DONE

    server = http_server({"tools/call": call, "tools/list": lambda message: Reply(
        200, result(message, new({"tools": []})), {"Set-Cookie": "backend=3"})})
    connection = connect(server.entry())
    connection.ask("tools/list")
    finish(together([lambda job: connection.ask("tools/call", CALL, job)] * 2))
    assert [seen.headers["Cookie"] for seen in server.saw("tools/call")] == ["backend=3"] * 2
    assert server.connections == 2


def test_a_connection_that_the_server_has_closed_meanwhile_costs_nothing(http_server, connect):
    server = http_server({"tools/list": new({"tools": []}), "tools/call": DONE})
    connection = connect(server.entry())
    connection.ask("tools/list")
    server.open[0].shutdown(socket.SHUT_RDWR)
    time.sleep(0.05)  # for the news to arrive
    assert connection.ask("tools/call", CALL) == DONE
    assert server.methods == ["tools/list", "tools/call"]


def test_a_server_that_ends_each_connection(http_server, connect):
    def once(message):
        return Reply(200, result(message, DONE), {"Connection": "close"})

    server = http_server({"tools/call": once})
    connection = connect(server.entry())
    for _ in range(3):
        assert connection.request("tools/call", CALL) == DONE
    assert server.connections == 3


@pytest.mark.parametrize("answer", [
    Reply(500), Reply(500, b"<html>Sorry</html>"), Reply(200, b"<html>"), Reply(302),
    lambda message: Reply(400, error(message, -32602))],
    ids=["500", "500 and a page", "a page", "a redirect", "an error"])
def test_a_connection_is_used_again_whatever_the_answer_was(http_server, connect, answer):
    server = http_server({"tools/call": [answer, DONE]})
    connection = connect(server.entry())
    with pytest.raises(Failure):
        connection.request("tools/call", CALL)
    assert connection.request("tools/call", CALL) == DONE and server.connections == 1


@pytest.mark.parametrize("answer", [
    lambda message: itertools.repeat(b"x" * 2**20),
    lambda message: Reply(500, b" " * (9 * 2**20)),
    lambda message: Reply(200, b"<html>", {"Content-Length": "7"})],
    ids=["a stream without end", "much too large", "it breaks off"])
def test_a_connection_that_will_not_be_used_again_is_closed_at_once(http_server, connect, answer):
    server = http_server({"tools/call": answer})
    gc.disable()
    try:
        with pytest.raises(Failure):
            connect(server.entry(timeout=0.5)).request("tools/call", CALL)
        eventually(lambda: server.open[0].fileno() < 0)
    finally:
        gc.enable()


# ── Reading ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("rest", [
    SILENCE,           # the server keeps the stream open
    b": more\n\n",     # or talks on, for ever
    b"x" * 2**20,
], ids=["silence", "more", "much more"])
def test_after_the_answer_nobody_waits_for_more(http_server, connect, rest):
    def talks_on(message):
        yield result(message, DONE)
        yield from itertools.repeat(rest)

    server = http_server({"tools/call": [talks_on, DONE]})
    connection = connect(server.entry())
    assert connection.request("tools/call", CALL) == DONE
    assert connection.request("tools/call", CALL) == DONE
    assert server.hung_up.wait(PATIENCE)


def raw(*parts: bytes, headers=b"Content-Type: text/event-stream\r\n"):
    """A server that says these bytes to whoever comes, and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                visitor, _ = listener.accept()
                with visitor:
                    visitor.recv(65536)
                    for part in parts:
                        visitor.sendall(part)
                    visitor.shutdown(socket.SHUT_WR)
                    visitor.recv(65536)

    threading.Thread(target=serve, daemon=True).start()
    return listener, f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"


ANSWER = b'{"jsonrpc": "2.0", "id": 1, "result": {"resultType": "complete", "content": []}}'
EVENT = b"data: " + ANSWER + b"\n\n"
START = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


@pytest.mark.parametrize("said", [
    START + b"\r\n" + EVENT,  # its end is the end of the connection
    b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + EVENT,
    b"HTTP/1.1 200\r\nContent-Type: application/json\r\n\r\n" + ANSWER,
    START + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(EVENT) + EVENT + b"\r\n",
    START + b"Content-Length: 99999\r\n\r\n" + EVENT,
    START + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(EVENT) + EVENT + b"\r\nnonsense\r\n",
], ids=["to the end", "HTTP/1.0", "no reason", "no last chunk", "too short", "a bad chunk"])
def test_an_answer_that_is_there_counts_whatever_comes_after_it(connect, said):
    listener, url = raw(said)
    with listener:
        assert connect(Server("raw", url=url)).request("tools/call", CALL)["content"] == []


@pytest.mark.parametrize("said", [
    b"", b"nonsense", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{",
    START + b"\r\n", START + b"\r\ndata: {", START + b"\r\ndata: " + ANSWER,
    START + b"Transfer-Encoding: chunked\r\n\r\n",
    START + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    START + b"Transfer-Encoding: chunked\r\n\r\nff\r\ndata:",
    START + b"Content-Encoding: gzip\r\n\r\n" + EVENT,
    b"HTTP/1.1 999 What\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n", b"HTTP/1.1 200 OK\r\n" + b"X" * 70_000,
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"HTTP/1.1 200 OK\r\n\xff\xfe: \xff\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.9\r\n",
], ids=lambda said: str(said[-30:]))
def test_an_answer_that_breaks_off_is_a_failure_in_words(connect, said):
    listener, url = raw(said)
    with listener, pytest.raises(Failure) as caught:
        connect(Server("raw", url=url)).request("tools/call", CALL)
    assert caught.value.kind in ("broken", "status") and str(caught.value)


def endless(message):
    while True:
        yield b"x" * 2**20


def too_long(message):
    return Reply(200, b"[" + b" " * (9 * 2**20) + b"]")


def too_long_for_an_event(message):
    yield b'data: {"a": "'
    for _ in range(9):
        yield b"x" * 2**20
    yield b"\n\n"


@pytest.mark.parametrize("answer", [too_long, too_long_for_an_event, endless],
                         ids=["JSON", "an event", "endless"])
@pytest.mark.line(50)
def test_more_than_8_mb_is_too_much(http_server, connect, answer):
    server = http_server({"tools/call": answer})
    with pytest.raises(Failure, match="8 MB"):
        connect(server.entry()).request("tools/call", CALL)


def test_6_mb_are_not(http_server, connect):
    text = "x" * (6 * 2**20)
    server = http_server({"tools/call": new({"content": [{"type": "text", "text": text}]})})
    assert connect(server.entry()).request("tools/call", CALL)["content"][0]["text"] == text


@pytest.mark.parametrize("text", ["a,b," * 1_500_000, "C:\\users\\" * 500_000,
                                  "x" * 6_000_000 + "\u00e9"], ids=["commas", "paths", "escapes"])
def test_a_large_text_may_have_anything_in_it(http_server, connect, text):
    long = {"content": [{"type": "text", "text": text}]}
    server = http_server({"tools/call": new(long)})
    assert connect(server.entry()).request("tools/call", CALL) == new(long)


# ── Redirects ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.line(48)
def test_a_redirect_takes_no_secrets_elsewhere(http_server, connect, status):
    elsewhere = http_server({"tools/list": new({"tools": []})})
    server = http_server({"tools/list": Reply(status, b"", {"Location": elsewhere.url}),
                          "initialize": Reply(status, b"", {"Location": elsewhere.url})})
    with pytest.raises(Failure, match="moved") as caught:
        connect(server.entry(headers={"X-Api-Key": "s3cret"})).ask("tools/list")
    assert caught.value.status == status
    assert elsewhere.seen == [] and elsewhere.connections == 0


def moving(server, status, ways):
    """Answer at the last of these places; from the others, lead to the next."""
    def answer(message):
        at = [server.url.removesuffix("/mcp") + way if way[:1] == "/" else way
              for way in ["/mcp", *ways]].index(server.url.removesuffix("/mcp")
                                                + server.seen[-1].path)
        return Reply(status, b"", {"Location": ways[at]}) if at < len(ways) else DONE

    return answer


@pytest.mark.line(48)
@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("ways", [["/mcp/"], ["{origin}/other?token=abc"], ["/a", "/b", "/c"]],
                         ids=str)
def test_a_server_may_have_moved_within_its_own_house(http_server, connect, status, ways):
    server = http_server({})
    origin = server.url.removesuffix("/mcp")
    ways = [way.format(origin=origin) for way in ways]
    server.script["tools/call"] = moving(server, status, ways)
    assert connect(server.entry(headers={"X-Api-Key": "k"})).request("tools/call", CALL) == DONE
    assert [seen.path for seen in server.seen] == [
        "/mcp", *(way.removeprefix(origin) for way in ways)]
    for seen in server.seen:
        assert (seen.verb, seen.message, seen.headers["X-Api-Key"]) == (
            "POST", server.seen[0].message, "k")


def test_where_an_answer_came_from_the_next_request_goes_at_once(http_server, connect):
    server = http_server({})
    server.script["tools/call"] = moving(server, 307, ["/mcp/"])
    connection = connect(server.entry())
    assert connection.request("tools/call", CALL) == DONE
    server.script["tools/call"] = DONE
    assert connection.request("tools/call", CALL) == DONE
    assert [seen.path for seen in server.seen] == ["/mcp", "/mcp/", "/mcp/"]


@pytest.mark.parametrize("there", [Reply(503, b"<h1>Down</h1>"), Reply(200, b"<h1>Sorry</h1>"),
                                   Reply(307, b"", {"Location": "/down"})],
                         ids=["503", "a page", "it leads on and on"])
def test_where_no_answer_came_from_the_next_request_does_not_go(http_server, connect, there):
    server = http_server({"tools/call": [Reply(307, b"", {"Location": "/down"}), there, there,
                                         there, DONE] if there.status == 307 else
                          [Reply(307, b"", {"Location": "/down"}), there, DONE]})
    connection = connect(server.entry())
    with pytest.raises(Failure):
        connection.request("tools/call", CALL)
    assert connection.request("tools/call", CALL) == DONE
    assert server.seen[-2].path == "/down" and server.seen[-1].path == "/mcp"


def test_redirects_in_a_circle_end(http_server, connect):
    server = http_server({"tools/call": Reply(307, b"", {"Location": "/mcp?key=s3cret"})})
    with pytest.raises(Failure, match="it has moved to /mcp") as caught:
        connect(server.entry()).request("tools/call", CALL)
    assert "s3cret" not in str(caught.value)
    assert len(server.seen) == 4


def test_between_a_redirect_and_the_next_request_there_is_no_connection_to_close(http_server):
    server = http_server({"": [Reply(307, b"", {"Location": "/mcp/"}), Reply(202)]})
    inbox, held = Inbox(), []

    def look(request):  # requests calls it before it sends one
        held.append(inbox.socket)
        return request

    with new_session("s") as session, \
            send(session, "POST", server.url, inbox, {}, auth=look, data="{}"):
        assert inbox.socket is not None
    assert held == [None, None]


def test_where_a_server_has_moved_again_its_own_address_is_asked(http_server, connect):
    server, place = http_server({"tools/list": new({"tools": []})}), "/a"

    def by_path(message):
        path = server.seen[-1].path
        return Reply(307, b"", {"Location": place}) if path == "/mcp" else \
            DONE if path == place else Reply(404)

    server.script["tools/call"] = by_path
    connection = connect(server.entry())
    assert connection.ask("tools/call", CALL) == DONE
    place = "/b"
    with pytest.raises(Failure):  # we were told that it is at /a
        connection.ask("tools/call", CALL)
    assert connection.ask("tools/call", CALL) == DONE


@pytest.mark.line(48)
@pytest.mark.parametrize("status, ways, sent", [
    (307, ["/a", "/b", "/c", "/d"], 4), (307, ["/a", "{elsewhere}"], 2), (308, ["{encrypted}"], 1),
    (307, ["{by_another_name}"], 1), (307, ["//{elsewhere_host}/mcp"], 1),
    (301, ["/a"], 1), (302, ["/a"], 1), (303, ["/a"], 1)], ids=str)
def test_but_not_farther(http_server, connect, status, ways, sent):
    elsewhere, server = http_server({"tools/call": DONE}), http_server({})
    server.script["tools/call"] = moving(server, status, [way.format(
        elsewhere=elsewhere.url, elsewhere_host=elsewhere.url.split("/")[2],
        encrypted=server.url.replace("http:", "https:"),
        by_another_name=server.url.replace("127.0.0.1", "localhost")) for way in ways])
    with pytest.raises(Failure, match="moved"):
        connect(server.entry(headers={"X-Api-Key": "k"})).request("tools/call", CALL)
    assert elsewhere.connections == 0 and server.methods == ["tools/call"] * sent


@pytest.mark.line(48)
def test_passwords_of_other_programs_are_not_used(http_server, connect, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password s3cret\ndefault login me password no\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server = http_server({"tools/list": {"tools": []}, "tools/call": DONE}, old="2025-06-18",
                         session="visit-1")
    for headers in {}, {"Authorization": "Bearer mine"}:
        connection = connect(server.entry(headers=headers))
        connection.ask("tools/list")
        connection.close()
        assert {seen.headers["Authorization"] for seen in server.seen} == {
            headers.get("Authorization")}
        assert server.methods[-1] == "DELETE"
        server.seen.clear()


# ── Proxies and certificates ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [307, 308])
def test_also_after_a_redirect_no_proxy_is_in_the_way_to_this_computer(
        http_server, connect, monkeypatch, status):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    server = http_server({})
    server.script["tools/call"] = moving(server, status, ["/mcp/"])
    assert connect(server.entry()).request("tools/call", CALL) == DONE


@pytest.mark.parametrize("url, is_here", [
    ("http://localhost:8000/mcp", True), ("https://LOCALHOST/mcp", True),
    ("http://me:pass@localhost/", True), ("http://app.localhost:3000", True),
    ("http://127.8.9.1:80/mcp?a=b", True), ("http://[::1]:8000/mcp", True),
    ("http://0.0.0.0:8000", True),
    ("https://localhost.example.com/mcp", False), ("https://127.0.0.1.example.com/", False),
    ("https://example.com/localhost", False), ("https://example.com?@localhost", False),
    ("https://localhost@example.com/mcp", False), ("http://192.168.0.1/mcp", False),
    ("http://[::2]/mcp", False), ("http://[::1/mcp", False), ("http://mylocalhost/", False)])
def test_which_addresses_are_on_this_computer(url, is_here):
    assert bool(direct(url)) is is_here


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A file with a certificate for localhost that nobody has signed, and its key."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.timezone.utc)
    end = now + datetime.timedelta(days=1)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    made = x509.CertificateBuilder(name, name, key.public_key(), 7, now, end)
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
    file = tmp_path_factory.mktemp("tls") / "corp.pem"
    file.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
                     + key.private_bytes(serialization.Encoding.PEM,
                                         serialization.PrivateFormat.PKCS8,
                                         serialization.NoEncryption()))
    return str(file)


def encrypted(server, certificate, listener):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    listener.socket = context.wrap_socket(listener.socket, server_side=True)


NAMES = ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"]


@pytest.mark.parametrize("name", NAMES)
def test_a_companys_certificate_counts_for_servers(http_server, connect, monkeypatch, certificate,
                                                   name):
    server = http_server({"tools/call": DONE})
    encrypted(server, certificate, server.listener)
    for other in NAMES:
        monkeypatch.delenv(other, raising=False)
    there = server.entry(url=server.url.replace("http://127.0.0.1", "https://localhost"))
    with pytest.raises(Failure, match="certificate verify failed: self.signed") as caught:
        connect(there).request("tools/call", CALL)
    assert "REQUESTS_CA_BUNDLE" in str(caught.value) and caught.value.kind == "unreachable"
    monkeypatch.setenv(name, certificate)
    if name == "SSL_CERT_FILE":  # which is for the model
        with pytest.raises(Failure, match="certificate verify failed"):
            connect(there).request("tools/call", CALL)
    else:
        assert connect(there).request("tools/call", CALL) == DONE


@pytest.mark.parametrize("name", NAMES)
def test_a_companys_certificate_counts_for_the_model(monkeypatch, certificate, name):
    with ScriptedModel(says("Hi.")) as model:
        encrypted(model, certificate, model)
        for other in [*NAMES, "SSL_CERT_DIR"]:
            monkeypatch.delenv(other, raising=False)
        url = model.base_url.replace("http://127.0.0.1", "https://localhost")
        with Chat(LLM("m", "a-key", url), {}) as chat, \
                pytest.raises(Problem, match="certificate verify failed: self.signed") as caught:
            finish(chat.ask("Hello"))
        assert "SSL_CERT_FILE" in str(caught.value)
        monkeypatch.setenv(name, certificate)
        with Chat(LLM("m", "a-key", url), {}) as chat:
            if name == "SSL_CERT_FILE":
                assert texts_of(chat.ask("Hello")) == "Hi."
            else:  # which is for servers
                with pytest.raises(Problem, match="certificate verify failed"):
                    finish(chat.ask("Hello"))


def test_after_a_redirect_there_is_no_proxy_on_the_way_either(http_server, connect, monkeypatch):
    proxy = http_server({})
    server = http_server({"tools/list": [Reply(307, b"", {"Location": "/mcp/"}),
                                         new({"tools": []})]})
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    connection = connect(server.entry(headers={"Authorization": "Bearer s3cret"}))
    assert connection.ask("tools/list")["tools"] == []
    assert [seen.path for seen in server.seen] == ["/mcp", "/mcp/"] and proxy.seen == []
