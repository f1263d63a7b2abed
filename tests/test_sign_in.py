"""Signing in, as a person sees it: chat.py whole, with a server and an authorization server that
really listen (login_server.py). What oauth_handler.py does by itself is in
test_oauth_handler.py."""

import json
import os
import re
import shutil
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import pytest
from folder import model_for
from login_server import AuthorizationServer, McpServer, Reply, Visit
from oauth_world import free_port
from scripted_model import ScriptedModel, says, wants
from terminal import CTRL_C, ROOT, Terminal, run

from chapters.events import Text
from chapters.versions import NEWEST
from chat import load_servers, open_chat

# A browser that clicks by itself: it fetches the login page, and goes where that sends it.
BROWSER = "curl -sL -o /dev/null %s &"
pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="Windows has no pseudo-terminals"),
    pytest.mark.skipif(not shutil.which("curl"), reason="curl is needed, in place of a browser"),
]
FIRST_LOGIN = """\
  Discovered auth endpoint: {origin}/authorize
  Discovered token endpoint: {origin}/token
  Registering OAuth client for sheets...
  [OK] Client registered successfully

  Opening browser for OAuth authentication...
  If the browser does not open, copy this address:
{origin}/authorize?"""
SIGNED_IN = """\
  Waiting for authorization...

  [SUCCESS] Authorization code received
  [SUCCESS] Access token obtained
  [SUCCESS] Token stored for future use

"""


class Sheets(McpServer):
    """A server of 2026-07-28 with one tool, for those who are signed in."""

    def mcp(self, visit: Visit) -> Reply:
        reply = super().mcp(visit)
        if reply.status != 200:
            return reply
        asked = json.loads(visit.body)
        result = {"server/discover": {"supportedVersions": [NEWEST], "capabilities": {"tools": {}}},
                  "tools/list": {"tools": [{"name": "rows", "inputSchema": {"type": "object"}}],
                                 "ttlMs": 3_600_000},
                  "tools/call": {"content": [{"type": "text", "text": "3 rows"}]}}[asked["method"]]
        return Reply(200, {"jsonrpc": "2.0", "id": asked["id"],
                           "result": {"resultType": "complete", **result}})

    def calls(self) -> list[Visit]:
        return [visit for visit in self.asked("/mcp") if b"tools/call" in visit.body]


@pytest.fixture
def sheets(tmp_path) -> Iterator[Sheets]:
    """The server, and a configuration with it and the toy server."""
    server = Sheets(AuthorizationServer())
    (tmp_path / "mcp_servers.json").write_text(json.dumps({"servers": [
        {"name": "sheets", "url": server.url, "auth_type": "oauth", "oauth": {"redirect_port": 0}},
        {"name": "toy", "command": "python", "args": [str(ROOT / "demo/toy_server.py")]}]}))
    yield server
    server.close()
    server.auth_server.close()


@pytest.fixture
def model(tmp_path) -> Iterator[ScriptedModel]:
    with model_for(tmp_path) as model:
        yield model


def no_secret_in(text: str, sheets: Sheets) -> bool:
    return not any(secret in text for secret in sheets.auth_server.confidential)


def test_the_first_time_you_sign_in_and_from_then_on_it_is_remembered(tmp_path, sheets, model):
    with Terminal("chat.py", cwd=tmp_path, BROWSER=BROWSER) as terminal:
        first = terminal.wait_for("You: ")
    with Terminal("chat.py", cwd=tmp_path, BROWSER="false") as terminal:
        again = terminal.wait_for("You: ")

    assert FIRST_LOGIN.format(origin=sheets.auth_server.origin) in first
    assert SIGNED_IN in first and "  - sheets: 1 tool\n  - toy: 5 tools\n" in first
    assert "Using stored token for sheets\n" in again and "Opening" not in again
    assert "  - sheets: 1 tool\n  - toy: 5 tools\n" in again
    assert len(sheets.auth_server.asked("/authorize")) == 1
    assert stat.S_IMODE(os.stat(tmp_path / ".mcp_tokens.json").st_mode) == 0o600
    assert no_secret_in(first + again, sheets)


def test_the_readme_shows_the_lines_that_are_printed():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    first = FIRST_LOGIN.format(origin="https://id.workato.com/oauth")
    assert re.search(re.escape(first) + r"\S+\n" + re.escape(SIGNED_IN), readme)


def test_a_token_that_is_refused_in_the_middle_of_an_answer(tmp_path, sheets, model):
    model.script += [wants("sheets__rows", {}), says("There are 3 rows.")]
    with Terminal("chat.py", cwd=tmp_path, BROWSER=BROWSER) as terminal:
        terminal.wait_for("You: ")
        sheets.auth_server.valid.clear()  # taken back: the access token, and the refresh token
        sheets.auth_server.refreshing.clear()
        answer = terminal.ask("How many rows are there?")

    assert SIGNED_IN in answer and "A: There are 3 rows." in answer
    assert len(sheets.auth_server.asked("/authorize")) == 2
    assert len(sheets.calls()) == 2  # the one that was refused, and the one that was not
    assert model.was_sent[1]["messages"][-1]["content"] == "3 rows"


def test_an_expired_token_is_renewed_without_a_word(tmp_path, sheets, model):
    model.script += [wants("sheets__rows", {}), says("There are 3 rows.")]
    with Terminal("chat.py", cwd=tmp_path, BROWSER=BROWSER) as terminal:
        terminal.wait_for("You: ")
        sheets.auth_server.valid.clear()
        answer = terminal.ask("How many rows are there?")

    assert "A: There are 3 rows." in answer and "Opening" not in answer
    assert len(sheets.auth_server.asked("/authorize")) == 1


def test_more_scopes_are_asked_for_when_a_tool_needs_them(tmp_path, sheets, model):
    model.script += [wants("sheets__rows", {}), says("There are 3 rows.")]
    with Terminal("chat.py", cwd=tmp_path, BROWSER=BROWSER) as terminal:
        terminal.wait_for("You: ")
        sheets.scope = "rows.read"
        assert "A: There are 3 rows." in terminal.ask("How many rows are there?")
    assert sheets.auth_server.asked("/authorize")[1].query["scope"].split()[-1] == "rows.read"


def test_a_login_that_fails_costs_only_its_own_server(tmp_path, sheets, model):
    sheets.auth_server.callback = lambda asked: {
        "error": "access_denied", "state": asked["state"], "iss": sheets.auth_server.issuer}
    model.script += [wants("toy__add", {"a": 17, "b": 25}), says("42.")]
    with Terminal("chat.py", cwd=tmp_path, BROWSER=BROWSER) as terminal:
        start = terminal.wait_for("You: ")
        assert "42." in terminal.ask("What is 17 + 25?")
    assert "  - sheets: OAuth authentication failed for sheets: " in start
    assert "  - toy: 5 tools\n" in start and "Connected to 1 server(s)" in start


def test_ctrl_c_while_the_browser_is_open_cancels_that_login_only(tmp_path, sheets, model):
    with Terminal("chat.py", cwd=tmp_path, BROWSER="true") as terminal:
        terminal.wait_for("Waiting for authorization...")
        terminal.type(CTRL_C)
        start = terminal.wait_for("You: ")
    assert "OAuth authentication failed for sheets: login cancelled" in start
    assert "  - toy: 5 tools\n" in start


def page_in(shown: str) -> dict[str, str]:
    """What the login page is told, by the address that was printed."""
    [page] = re.findall(r"^http://\S+/authorize\?(\S+)$", shown, re.MULTILINE)
    return dict(parse_qsl(page))


def test_an_address_is_pasted_although_a_browser_was_opened_and_nothing_typed_is_a_question(
        tmp_path, sheets, model):
    with Terminal("chat.py", cwd=tmp_path, BROWSER="true") as terminal:
        asked = page_in(terminal.wait_for("  Waiting for authorization...\n"))
        terminal.type("What is on my mind?\n")
        terminal.wait_for("That is not the address of this login. It starts with http://localhost:")
        # (Its code is longer than a line of a terminal may be.)
        back = {**sheets.auth_server.callback(asked), "more": "x" * 5000}
        terminal.type(f"{asked['redirect_uri']}?{urlencode(back)}\nToo early?\nHalf a li")
        start = terminal.wait_for("You: ")
        model.script += [says("Hello.")]
        answer = terminal.ask("Hello?")

    assert "[SUCCESS] Token stored for future use" in start and "  - sheets: 1 tool\n" in start
    assert "A: Hello." in answer
    [conversation] = [sent["messages"] for sent in model.was_sent]
    assert [one["content"] for one in conversation if one["role"] == "user"] == ["Hello?"]
    assert no_secret_in(terminal.text, sheets) and "mind" not in terminal.text


def test_the_keys_that_are_typed_are_shown_again_after_a_sign_in(tmp_path, sheets, model):
    with Terminal("chat.py", cwd=tmp_path, BROWSER="true") as terminal:
        terminal.wait_for("  Waiting for authorization...\n")
        terminal.press_until(CTRL_C, "You: ")
        terminal.type("visible")
        terminal.wait_for("visible")


def test_a_browser_that_runs_until_its_window_is_closed_does_not_hold_up_the_terminal(
        tmp_path, sheets, model):
    note = tmp_path / "browser.pid"
    script = f"'echo $$ > {note}; curl -sL -o /dev/null \"$0\"; exec sleep 600'"
    with Terminal("chat.py", cwd=tmp_path, BROWSER=f"sh -c {script} %s") as terminal:
        start = terminal.wait_for("You: ")
        number = int(note.read_text())
        os.kill(number, 0)  # or it raises: its window is still open
        os.kill(number, signal.SIGKILL)

    assert FIRST_LOGIN.format(origin=sheets.auth_server.origin) in start and SIGNED_IN in start


def test_after_a_program_was_killed_in_mid_login_the_next_one_registers_anew(tmp_path, sheets):
    (tmp_path / "mcp_servers.json").write_text(json.dumps({"servers": [
        {"name": "sheets", "url": sheets.url, "auth_type": "oauth",
         "oauth": {"redirect_port": free_port()}}]}))
    sheets.auth_server.strict = True
    with Terminal("chat.py", "--login", "sheets", cwd=tmp_path, BROWSER=BROWSER) as terminal:
        assert terminal.exit_status() == 0
    sheets.auth_server.restart()
    tokens = tmp_path / ".mcp_tokens.json"
    tokens.write_text(json.dumps({**json.loads(tokens.read_text()), "tokens": {}}))
    with Terminal("chat.py", "--login", "sheets", cwd=tmp_path, BROWSER=BROWSER) as terminal:
        terminal.wait_for("  Waiting for authorization...\n")
        terminal.process.kill()
    with Terminal("chat.py", "--login", "sheets", cwd=tmp_path, BROWSER=BROWSER) as terminal:
        assert terminal.exit_status() == 0
    assert len(sheets.auth_server.asked("/register")) == 2


def test_a_message_is_not_cut_in_its_advice(tmp_path, sheets):
    del sheets.auth_server.metadata["registration_endpoint"]
    with Terminal("chat.py", "--login", "sheets", cwd=tmp_path, BROWSER="true") as terminal:
        assert terminal.exit_status() == 1
    assert 'in the "oauth" section of mcp_servers.json. (To sign in after all: chat.py --login ' \
        "sheets, also in a second terminal.)\n" in terminal.rest()


def test_the_file_of_fastchat_mcp_works_unchanged(tmp_path, sheets, model):
    """It names 127.0.0.1, and its server calls itself localhost."""
    (tmp_path / "mcp_servers.json").write_text(json.dumps({"app_name": "x", "mcp_servers": {
        "sheets": {"protocol": "MCP", "transport": "httpstream", "name": "sheets",
                   "httpstream-url": sheets.url, "description": "Sheets.",
                   "auth": {"required": True, "post_body": {"username": "ada", "password": "pw"}}}
    }}))
    sheets.resource["resource"] = sheets.url.replace("127.0.0.1", "localhost")
    model.script += [wants("sheets__rows", {}), says("3.")]
    done = run("chat.py", "How many?", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "3.\n"), done.stderr
    [form] = [visit.form for visit in sheets.auth_server.asked("/authorize")]
    assert (form["username"], form["password"]) == ("ada", "pw")


def test_where_nobody_is_nobody_is_asked(tmp_path, sheets, model):
    model.script += [says("Hello.")]
    done = run("chat.py", "Hello?", cwd=tmp_path, BROWSER=BROWSER)
    assert (done.returncode, done.stdout) == (0, "Hello.\n")
    assert "OAuth authentication failed for sheets: a browser login is needed" in done.stderr
    assert sheets.auth_server.asked("/authorize") == []


def test_signing_in_beforehand_looking_and_signing_out(tmp_path, sheets):
    with Terminal("chat.py", "--login", "sheets", cwd=tmp_path, BROWSER=BROWSER) as terminal:
        assert terminal.exit_status() == 0
    looked = run("chat.py", "--logins", cwd=tmp_path)
    out = run("chat.py", "--logout", "sheets", cwd=tmp_path)
    again = run("chat.py", "--logout", "sheets", cwd=tmp_path)

    assert SIGNED_IN in terminal.text and "  - sheets: 1 tool\n" in terminal.text
    assert looked.stdout == f"sheets: signed in at {sheets.auth_server.issuer}\n"
    assert out.stdout == "Signed out of sheets.\n"
    assert again.stdout == "There is no login to sheets.\n"
    assert run("chat.py", "--logins", cwd=tmp_path).stdout == "You are signed in nowhere.\n"


@pytest.mark.parametrize("name", ["nobody", "toy"])
def test_only_a_server_with_a_login_can_be_signed_in_to(tmp_path, sheets, name):
    done = run("chat.py", "--login", name, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        1, f'\n{name} is not an enabled server with "auth_type": "oauth".\n')


def test_a_login_beforehand_that_fails_says_so_with_its_exit_status(tmp_path, sheets):
    done = run("chat.py", "--login", "sheets", cwd=tmp_path)
    assert done.returncode == 1
    assert "OAuth authentication failed for sheets: " in done.stdout


def test_a_trace_of_a_login_has_no_secret(tmp_path, sheets, model):
    with Terminal("chat.py", "--trace", cwd=tmp_path, BROWSER=BROWSER) as terminal:
        shown = terminal.wait_for("You: ")
    assert "Authorization: ***" in shown and no_secret_in(shown, sheets)
    # The browser opens just then, so it isn't said that nobody can sign in.
    assert "<-- sheets  no answer: you have to sign in first\n" in shown
    assert "login is needed" not in shown


def test_a_wrong_option_is_refused_by_name(tmp_path, model):
    (tmp_path / "mcp_servers.json").write_text(json.dumps({"servers": [
        {"name": "sheets", "url": "https://example.com/mcp", "auth_type": "oauth",
         "oauth": {"client-id": "x"}}]}))
    model.script += [says("Hello.")]
    done = run("chat.py", "Hello?", cwd=tmp_path)
    assert "OAuth authentication failed for sheets: " in done.stderr and "client-id" in done.stderr


def test_a_program_of_your_own_uses_the_login_and_never_opens_a_browser(tmp_path, sheets, model,
                                                                       monkeypatch):
    with Terminal("chat.py", "--login", "sheets", cwd=tmp_path, BROWSER=BROWSER) as terminal:
        assert terminal.exit_status() == 0
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_BASE_URL", model.base_url)
    model.script += [wants("sheets__rows", {}), says("3.")]
    with open_chat(str(Path("mcp_servers.json"))) as chat:
        assert "".join(event.text for event in chat("How many?") if isinstance(event, Text)) == "3."


def test_fastchats_way_to_say_that_a_login_page_takes_a_form(tmp_path):
    path = tmp_path / "mcp_servers.json"
    path.write_text(json.dumps({"app_name": "x", "mcp_servers": {"sheets": {
        "transport": "httpstream", "httpstream-url": "https://example.com/mcp",
        "auth": {"required": True, "post_body": {"username": "ada"}}}}}))
    server = load_servers(path)["sheets"]
    assert (server.auth_type, server.oauth) == ("oauth", {"login_form": {"username": "ada"}})
