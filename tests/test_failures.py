"""Failures: what it means when no answer comes back, in words, and what is asked again."""

import contextlib
import threading

import pytest
from scripted_server import Reply, ScriptedHttp, error, new

from chapters.outside import Failure, briefly
from chat import Server, list_tools

CALL = {"name": "count", "arguments": {}}


@pytest.mark.parametrize("status, words", [
    (400, "400"), (401, "token"), (403, "403"), (404, "no MCP server at this address"),
    (405, "405"), (406, "406"), (413, "413"), (418, "418"), (429, "429"), (500, "500"),
    (502, "502"), (503, "503"), (599, "599")])
def test_an_http_status_in_place_of_an_answer(http_server, connect, status, words):
    server = http_server({"tools/call": Reply(status, b"<html>Sorry</html>",
                                              {"Content-Type": "text/html"})})
    with pytest.raises(Failure, match=words) as caught:
        connect(server.entry()).request("tools/call", CALL)
    assert (caught.value.kind, caught.value.status) == ("status", status)


@pytest.mark.parametrize("url, words", [
    ("http://127.0.0.1:9/mcp", "127.0.0.1:9"),
    ("http://no-such-host.invalid/mcp", "no-such-host.invalid"),
    ("http://[::1/mcp", ""), ("http://[bad]/mcp", ""), ("http://127.0.0.1:99999/mcp", ""),
    ("http://127.0.0.1:port/mcp", ""), ("http://.example.invalid/", ""), ("http://*/", ""),
    ("http://" + "a" * 70 + ".invalid/", ""), ("http://ä" + "a" * 70 + ".invalid/", ""),
    ("http://a b/", ""), ("http://\x7f/", ""), ("http://%/", ""), ("https://x@/", ""),
    ("http://me:s3cret@127.0.0.1:9/mcp?token=s3cret", "127.0.0.1:9"),
])
def test_a_server_that_is_not_there(connect, url, words):
    with pytest.raises(Failure) as caught:
        connect(Server("lost", url=url)).ask("tools/list")
    message = str(caught.value)
    assert words in message and "s3cret" not in message


def test_a_server_that_speaks_no_https(http_server, connect):
    server = http_server({})
    with pytest.raises(Failure, match="https") as caught:
        connect(server.entry(url=server.url.replace("http:", "https:"))).request("tools/list")
    assert caught.value.kind == "unreachable"


@pytest.mark.parametrize("headers", [{"X-Key": "käse 世界"}, {"X-Key": "two\nlines"},
                                     {"X-Key": " padded"}, {"X Key:": "x"}, {"": "x"}, {"Ä": "x"}],
                         ids=str)
def test_headers_that_cannot_be_sent_are_a_failure_like_others(http_server, connect, headers):
    server = http_server({"tools/list": new({"tools": []})})
    with contextlib.suppress(Failure):
        connect(server.entry(headers=headers)).ask("tools/list")


def test_questions_in_a_wrong_shape_end_the_call(http_server, connect):
    question = {"method": "elicitation/create", "params": {
        "mode": "form", "message": "Really?", "requestedSchema": {"type": "object"}}}
    server = http_server({"tools/list": new({"tools": []}), "tools/call": {
        "resultType": "input_required", "inputRequests": [question]}})
    connection = connect(server.entry(), person=threading.Lock())
    connection.ask("tools/list")
    with pytest.raises(Failure, match="say to what"):
        connection.ask("tools/call", CALL)
    assert len(server.saw("tools/call")) == 1


# ── What the server said ─────────────────────────────────────────────────────────────────

METADATA = {"WWW-Authenticate": 'Bearer resource_metadata="https://example.com/.well-known/x"'}


def refused(http_server, connect, reply, path="/mcp", **entry) -> str:
    """What a server is said to have, that answers everything like this."""
    server = http_server({name: reply for name in ("tools/list", "initialize", "GET")})
    url = server.url.removesuffix("/mcp") + path
    with pytest.raises(Failure) as caught:
        list_tools(connect(server.entry(url=url, **entry)))
    text = str(caught.value)
    assert len(text) < 560 and briefly(text) == text, "it is shown whole"
    return text


@pytest.mark.parametrize("path, more", [
    ("/mcp", {}), ("/mcp?project_ref=abc&read_only=true", {}), ("/mcp", {"X-Team": "blue"})])
@pytest.mark.parametrize("headers", [METADATA, {}], ids=["with metadata", "without"])
def test_a_401_to_a_stranger_says_how_to_sign_in(http_server, connect, headers, path, more):
    text = refused(http_server, connect, Reply(401, b"", headers), path, headers=more)
    assert '"auth_type": "oauth"' in text and "our token" not in text


@pytest.mark.parametrize("path, more", [
    ("/mcp?token=abc", {}), ("/mcp?api_key=abc", {}), ("/mcp", {"Authorization": "Bearer abc"}),
    ("/mcp", {"X-API-Key": "abc"})])
@pytest.mark.parametrize("headers", [METADATA, {}], ids=str)
def test_a_401_to_our_token_names_the_token_and_the_way_to_sign_in(
        http_server, connect, headers, path, more):
    text = refused(http_server, connect, Reply(401, b"", headers), path, headers=more)
    assert "doesn't accept our token" in text and '"auth_type": "oauth"' in text


@pytest.mark.parametrize("body", [
    b"Host not allowed: example.com", b'{"error": "Host not allowed"}', b'"Host not allowed"',
    b'{"error": "forbidden", "message": "Host not allowed"}', b'{"detail": "Host not allowed"}',
    b'{"error": "forbidden", "error_description": "Host not allowed"}',
    b'{"jsonrpc": "2.0", "id": null, "error": {"code": -32000, "message": "Host not allowed"}}',
    b"<!DOCTYPE html><html><head><title>x</title></head><body><h1>Host not allowed</h1></body>",
    b"<p>\x1b[31mHost   not\nallowed</p>"], ids=str)
@pytest.mark.parametrize("status", [403, 401, 503])
def test_a_refusal_shows_what_the_server_says(http_server, connect, status, body):
    text = refused(http_server, connect, Reply(status, body, {"Retry-After": "0"}))
    assert "Host not allowed" in text and "\x1b" not in text and "our token" not in text


@pytest.mark.parametrize("status", [400, 404, 418])
def test_an_error_that_is_not_of_mcp_is_shown_too(http_server, connect, status):
    text = refused(http_server, connect, Reply(status, {"error": "No", "message": "Cannot POST"}))
    assert "Cannot POST" in text and str(status) in text


@pytest.mark.parametrize("body", [
    {"error": "Your trial has ended."},
    {"error": "invalid_token", "error_description": "Your trial has ended."},
    {"error": "Forbidden", "message": "Your trial has ended."}], ids=str)
def test_an_error_with_status_200_says_why(http_server, connect, body):
    text = refused(http_server, connect, Reply(200, body))
    assert "Your trial has ended." in text


@pytest.mark.parametrize("echo", ["s3cret-token", "s3cret token+/=", "s3cret%20token%2B%2F%3D",
                                  "a-long-secret-in-the-path"])
def test_what_a_server_says_is_shown_without_our_secrets(http_server, connect, echo):
    text = refused(http_server, connect, Reply(403, f"Go away, {echo} of /x.".encode()),
                   "/a-long-secret-in-the-path/mcp?token=s3cret%20token%2B%2F%3D",
                   headers={"Authorization": "Bearer s3cret-token"})
    assert "s3cret-token" not in text and "a-long-secret" not in text and "token+" not in text
    assert "%2B" not in text and "Go away" in text


@pytest.mark.parametrize("location, shown", [
    ("https://new.example.com/mcp", "https://new.example.com/mcp"),
    ("//new.example.com/v2/mcp", "//new.example.com/v2/mcp"), ("http://[", "http://["),
    ("https://me:s3cret@x.example.com/mcp?key=s3cret#access_token=s3cret", "x.example.com/mcp"),
    ("https://x.example.com/s3cret-token-of-ours/mcp", "x.example.com/")])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_it_has_moved_says_where_to(http_server, connect, status, location, shown):
    text = refused(http_server, connect, Reply(status, b"", {"Location": location}),
                   headers={"Authorization": "Bearer s3cret-token-of-ours"})
    assert "has moved to" in text and shown in text and "s3cret" not in text


@pytest.mark.parametrize("location, shown", [("/v2/mcp", "/v2/mcp"), ("", "another address")])
def test_a_redirect_that_we_may_not_follow_says_where_to(http_server, connect, location, shown):
    text = refused(http_server, connect, Reply(302, b"", {"Location": location}))
    assert "has moved to" in text and shown in text


# ── The transport of 2024 ────────────────────────────────────────────────────────────────

def endpoint(message):
    yield b": hello\n\n"
    yield b"event: endpoint\ndata: /messages?session=1\n\n"
    yield b": more\n\n"


@pytest.mark.parametrize("status", [400, 404, 405, 406, 415, 500, 501])
@pytest.mark.parametrize("path", ["/mcp", "/sse", "/", "/sse/?token=abc"])
def test_an_address_of_the_transport_of_2024_is_called_that(http_server, connect, status, path):
    body = b"" if status == 405 else b"Cannot POST"
    server = http_server({"tools/list": Reply(status, body), "initialize": Reply(status, body),
                          "GET": endpoint})
    url = server.url.removesuffix("/mcp") + path
    with pytest.raises(Failure, match="HTTP[+]SSE") as caught:
        list_tools(connect(server.entry(url=url)))
    assert "not supported" in str(caught.value)


def test_also_when_it_answers_each_request_with_its_stream(http_server, connect):
    server = http_server({"tools/list": endpoint, "initialize": endpoint})
    with pytest.raises(Failure, match="HTTP[+]SSE"):
        list_tools(connect(server.entry()))


@pytest.mark.parametrize("path", ["/sse", "/v1/sse", "/SSE/"])
@pytest.mark.parametrize("status", [401, 403, 404, 405, 429, 502])
def test_an_address_that_ends_in_sse_is_named_without_having_to_ask(
        http_server, connect, status, path):
    text = refused(http_server, connect, Reply(status, b"", {"Retry-After": "0"}), path)
    assert "HTTP+SSE" in text
    assert '"auth_type": "oauth"' in text or status not in (401, 403)


@pytest.mark.parametrize("there", [Reply(405), Reply(200, b"<html>"), Reply(401), endpoint])
def test_another_server_is_not_called_that(http_server, connect, there):
    # (A server may speak both: then it takes our messages, and the stream doesn't matter.)
    works = there is endpoint
    server = http_server({"tools/list": new({"tools": []}), "GET": there, "initialize": Reply(404)}
                         if works else {"tools/list": Reply(404), "initialize": Reply(404),
                                        "GET": there})
    if works:
        assert list_tools(connect(server.entry())) == []
    else:
        with pytest.raises(Failure, match="no MCP server"):
            list_tools(connect(server.entry()))


# ── A session that is forgotten ──────────────────────────────────────────────────────────

@pytest.mark.parametrize("forgotten", [
    Reply(404), Reply(404, b"Session not found"), Reply(400, b"No valid session ID provided"),
    lambda message: Reply(400, error({}, -32000, "Bad Request: Server not initialized")),
    lambda message: Reply(404, error(message, -32001, "Session not found")),
    Reply(422, b"Unexpected message: the session is not initialized")],
    ids=["404", "text", "400", "not initialized", "with our id", "422"])
def test_a_session_that_is_forgotten_at_once_comes_from_several_machines(
        http_server, connect, forgotten):
    server = http_server({"tools/list": forgotten}, old="2025-06-18", session="s-1")
    with pytest.raises(Failure, match="[Ss]everal machines") as caught:
        list_tools(connect(server.entry()))
    assert caught.value.kind == "session"
    assert server.methods.count("initialize") == 2


def test_a_session_that_is_forgotten_once_costs_nothing(http_server, connect):
    server = http_server({"tools/list": [Reply(404), {"tools": []}]}, old="2025-06-18",
                         session="s-1")
    assert list_tools(connect(server.entry())) == []


# ── The way there ────────────────────────────────────────────────────────────────────────

class ProxyThatSays(ScriptedHttp):
    """A proxy that answers each request itself, with `reply`."""

    reply = Reply(503)

    def answer_to(self, seen):
        return self.reply


@pytest.fixture
def proxy(monkeypatch):
    with ProxyThatSays({}) as found:
        at = found.url.removesuffix("/mcp").replace("//", "//me:s3cret@")
        for name in ("http_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, at)
        yield found


def no_way(connect, url, **entry) -> Failure:
    with pytest.raises(Failure) as caught:
        connect(Server("far", url=url, **entry)).ask("tools/list")
    text = str(caught.value)
    assert "s3cret" not in text and briefly(text) == text
    return caught.value


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2", "0.0.0.0"])
@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("at", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "nonsense://["])
def test_a_server_on_this_computer_is_reached_without_a_proxy(
        http_server, connect, monkeypatch, at, name, host):
    monkeypatch.setenv(name, at)
    server = http_server({"tools/list": new({"tools": []})})
    url = server.url.replace("127.0.0.1", host)
    if host == "127.0.0.2":  # nobody listens there, and that is what is said
        assert "your proxy" not in str(no_way(connect, url))
    else:
        assert connect(server.entry(url=url)).ask("tools/list")["tools"] == []


@pytest.mark.parametrize("reply, words", [
    (Reply(407), "407"), (Reply(403, b"<h1>Blocked by policy</h1>"), "Blocked by policy"),
    (Reply(502), "502"), (Reply(200, b"<html>", {"Content-Type": "text/html"}), "text/html"),
    (Reply(302, b"", {"Location": "http://login.example/?t=s3cret"}), "login.example")])
def test_what_may_come_from_a_proxy_is_said_to(proxy, connect, reply, words):
    proxy.reply = reply
    failure = no_way(connect, "http://mcp.example/mcp")
    assert words in str(failure) and "your proxy, 127.0.0.1:" in str(failure)


def test_what_a_server_says_in_json_comes_from_no_proxy(proxy, connect):
    proxy.reply = Reply(403, {"message": "Not on the list."})
    assert "proxy" not in str(no_way(connect, "http://mcp.example/mcp"))


def test_a_proxy_that_refuses_the_tunnel_is_named(proxy, connect):
    failure = no_way(connect, "https://mcp.example/mcp")
    assert "your proxy doesn't let us through to mcp.example" in str(failure)
    assert "Tunnel" in str(failure) and failure.kind == "unreachable"


@pytest.mark.parametrize("at, words", [
    ("http://me:s3cret@127.0.0.1:9", "Connection refused"), ("socks5://127.0.0.1:9", "pysocks"),
    ("socks5h://me:s3cret@127.0.0.1:9", "pysocks"), ("ftp://me:s3cret@127.0.0.1:9", "proxy"),
    ("http://", "proxy"), ("http://me:s3cret#x@127.0.0.1:9", "proxy"),
    ("http://me:s3cret@127.0.0.1:port", "proxy"), ("me:s3cret@127.0.0.1:9", "proxy")])
def test_a_proxy_that_cannot_be_used_is_named_without_its_password(monkeypatch, connect, at, words):
    monkeypatch.setenv("HTTPS_PROXY", at)
    failure = no_way(connect, "https://mcp.example/mcp")
    assert words in str(failure) and "your proxy" in str(failure)
    assert failure.kind == "unreachable"


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_certificate_file_that_is_not_there_is_named(monkeypatch, connect, name):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv(name, "/nowhere/corp.pem")
    text = str(no_way(connect, "https://127.0.0.1:9/mcp"))
    assert "/nowhere/corp.pem" in text and name in text and "broke off" not in text


def test_a_server_without_https_and_its_reason(http_server, connect):
    text = str(no_way(connect, http_server({}).url.replace("http:", "https:")))
    assert "wrong version number" in text or "record" in text


@pytest.mark.parametrize("key", ["Bearer s3cret ", "Bearer s3cret\n", " \tBearer s3cret\r\n"])
def test_a_key_is_stripped_of_blanks_and_line_ends(http_server, connect, key):
    server = http_server({"tools/list": new({"tools": []})})
    connect(server.entry(headers={"Authorization": key})).ask("tools/list")
    assert server.seen[0].headers["Authorization"] == "Bearer s3cret"


@pytest.mark.parametrize("key", ["Bearer s3cret\nx", "Bearer s3cret ключ", "s3cret\x00\r\n\r\nx"])
def test_a_key_with_an_odd_character_is_not_shown(http_server, connect, key):
    assert '"headers"' in str(no_way(connect, http_server({}).url, headers={"X-Key": key}))
