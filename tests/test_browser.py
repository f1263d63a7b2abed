"""Signing in, seen with a real browser: chat.py whole and a headless Chromium, with others' servers
at the other end. The authorization server is oidc-provider (helpers/oidc_provider.py), with its own
pages; the MCP server is the official SDK's (servers/oauth_guarded_server.py).

The person is the test: it reads each page, and clicks. What a machine lacks of this (Chromium, npx)
is said, and the tests are skipped.
"""

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Chromium
from folder import model_for, needs_terminal
from oidc_provider import AuthorizationServer, installed
from scripted_model import ScriptedModel, says, wants
from terminal import CTRL_C, Terminal, run

pytestmark = needs_terminal
DONE = "You have signed in. You can close this page and go back to the terminal."
NOT_YET = ("You are not signed in yet. You can close this page: another one opens, or the terminal "
           "says why.")


@pytest.fixture(scope="module")
def packages() -> Path:
    return installed()


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


class World:
    """A person at a terminal and at a browser, and the servers that they sign in to."""

    def __init__(self, folder: Path, browser: Chromium, auth_server: AuthorizationServer,
                 url: str, tokens: set[str], model: ScriptedModel):
        self.folder, self.browser, self.auth_server = folder, browser, auth_server
        self.url, self.tokens, self.model = url, tokens, model
        self.page = browser.new_page()
        browser.forget_addresses()  # in case that the test before has failed
        with socket.create_server(("127.0.0.1", 0)) as found:
            self.redirect_port = found.getsockname()[1]
        self.configure()

    def configure(self, **oauth: object) -> None:
        # With a port of its own, a registration is good for the next sign-in, too.
        (self.folder / "mcp_servers.json").write_text(json.dumps({"servers": [{
            "name": "sheets", "url": self.url, "auth_type": "oauth",
            "oauth": {"redirect_port": self.redirect_port, **oauth}}]}))

    @contextlib.contextmanager
    def chat(self, *words: str) -> Iterator[Terminal]:
        with Terminal("chat.py", *words, cwd=self.folder, BROWSER=self.browser.command) as terminal:
            yield terminal
            assert "Traceback" not in terminal.text
            assert not any(token in terminal.text for token in self.tokens)

    def read_login_page(self, terminal: Terminal) -> str:
        """Go to the page that the program opens; return what is on it. (Or to the next one, if this
        leads back at once, because the authorization server wants something else first.)"""
        while True:
            terminal.wait_for("Waiting for authorization...")
            self.page.go_to(self.browser.next_address())
            text = self.page.wait_for("Sign-in\n", "close this page")
            if "Sign-in\n" in text:
                return text
            assert text == NOT_YET

    def log_in(self) -> str:
        """Say who we are; return what the page says that asks for consent."""
        self.say_who_we_are()
        return self.page.wait_for("Authorize\n")

    def say_who_we_are(self) -> None:
        self.page.type("login", "ada")
        self.page.type("password", "Ada's own secret")
        self.page.press("Sign-in")

    def allow(self) -> str:
        self.page.press("Continue")
        return self.page.wait_for("close this page")

    def sign_in(self, terminal: Terminal) -> None:
        self.read_login_page(terminal)
        self.log_in()
        assert self.allow() == DONE

    def wants_rows(self) -> None:
        self.model.script += [wants("sheets__rows", {}), says("There are 3 rows.")]


@pytest.fixture
def world(tmp_path, packages, browser) -> Iterator[World]:
    pytest.importorskip("mcp.server.mcpserver", reason="needs the SDK mcp, version 2")
    from servers.oauth_guarded_server import guarded_server
    with AuthorizationServer(packages, "rows.read", "rows.write") as auth_server, \
            guarded_server(auth_server.issuer, ["rows.read"]) as (url, tokens), \
            model_for(tmp_path) as model:
        yield World(tmp_path, browser, auth_server, url, tokens, model)


def test_the_first_time_a_person_signs_in_and_the_second_time_nobody_has_to(world):
    world.wants_rows()
    with world.chat() as terminal:
        assert "[ Cancel ]" in world.read_login_page(terminal)
        consent = world.log_in()
        assert world.allow() == DONE and world.page.title == "Simple MCP Chat"
        first = terminal.wait_for("You: ")
        assert "A: There are 3 rows." in terminal.ask("How many rows are there?")
    # The page has said to whom, to what, and for how long.
    assert f"{world.url}:\nrows.read" in consent and "offline access" in consent
    assert "rows.write" not in consent
    assert "[SUCCESS] Token stored for future use" in first and "  - sheets: 1 tool\n" in first

    opened = len(world.browser.addresses)
    world.wants_rows()
    with world.chat() as terminal:
        again = terminal.wait_for("You: ")
        assert "A: There are 3 rows." in terminal.ask("How many rows are there?")
    assert "Using stored token for sheets\n" in again and "  - sheets: 1 tool\n" in again
    assert len(world.browser.addresses) == opened
    assert world.auth_server.of("registered") == [
        {"what": "registered", "client": "simple-mcp-chat-sheets"}]
    assert len(world.auth_server.of("authorization_code")) == 1 and len(world.tokens) == 1
    assert f"sheets: signed in at {world.auth_server.issuer}\n" in run(
        "chat.py", "--logins", cwd=world.folder).stdout


def test_tokens_that_end_in_the_middle_of_a_chat_are_renewed_without_a_word(world):
    with world.chat() as terminal:
        world.sign_in(terminal)
        terminal.wait_for("You: ")
        opened = len(world.browser.addresses)
        for _ in range(2):
            world.auth_server.set_clock_forward(1)
            world.wants_rows()
            answer = terminal.ask("How many rows are there?")
            assert "A: There are 3 rows." in answer and "browser" not in answer
    assert len(world.browser.addresses) == opened
    assert len(world.auth_server.of("authorization_code")) == 1
    # Each refresh token was used once, and brought the next.
    given_out, used_up = ([one["token"] for one in world.auth_server.of(what)]
                          for what in ("given out", "used up"))
    assert len(set(given_out)) == 3 and used_up == given_out[:2]
    assert len(world.auth_server.of("refresh_token")) == 2 and len(world.tokens) == 3


def test_an_authorization_server_that_has_lost_its_memory_in_the_middle_of_a_chat(world):
    world.wants_rows()
    with world.chat() as terminal:
        world.sign_in(terminal)
        terminal.wait_for("You: ")
        world.auth_server.restart()
        terminal.type("How many rows are there?\n")
        world.sign_in(terminal)
        assert "A: There are 3 rows." in terminal.wait_for("\nYou: ")
    assert len(world.auth_server.of("registered")) == 1  # since it was restarted
    assert world.model.was_sent[1]["messages"][-1]["content"] == "3 rows"


def test_an_authorization_server_that_has_lost_its_memory_in_the_middle_of_a_sign_in(world):
    with world.chat("--login", "sheets") as terminal:
        world.read_login_page(terminal)
        world.auth_server.restart()
        world.say_who_we_are()
        world.page.wait_for("interaction session not found")
        terminal.type(CTRL_C)  # because that page leads nowhere
        assert terminal.exit_status() == 1
    assert "OAuth authentication failed for sheets: login cancelled." in terminal.text

    with world.chat("--login", "sheets") as terminal:
        world.sign_in(terminal)
        assert terminal.exit_status() == 0
    assert "  - sheets: 1 tool\n" in terminal.text


def test_a_person_who_says_no(world):
    denied = "OAuth authentication failed for sheets: access was not granted in the browser."
    world.model.script += [says("Hello.")]
    with world.chat() as terminal:
        world.read_login_page(terminal)
        world.page.press("[ Cancel ]")
        assert world.page.wait_for("close this page") == NOT_YET
        assert denied in terminal.wait_for("You: ")
        assert "A: Hello." in terminal.ask("Hello?")

    with world.chat("--login", "sheets") as terminal:  # the second time, a page later
        world.read_login_page(terminal)
        world.log_in()
        world.page.press("[ Cancel ]")
        assert world.page.wait_for("close this page") == NOT_YET
        assert world.page.title == "Simple MCP Chat"
        assert terminal.exit_status() == 1
    assert denied in terminal.text
    assert not world.tokens


def test_a_scope_that_is_added_later(world):
    with world.chat("--login", "sheets") as terminal:
        world.sign_in(terminal)
        assert terminal.exit_status() == 0
    world.configure(scopes=["rows.read", "rows.write", "offline_access"])
    world.auth_server.set_clock_forward(15 * 24)  # so that the refresh token has ended, too

    with world.chat("--login", "sheets") as terminal:
        world.read_login_page(terminal)
        assert "rows.write" in world.log_in()
        assert world.allow() == DONE
        assert terminal.exit_status() == 0
    assert "  - sheets: 1 tool\n" in terminal.text
    # What oidc-provider knows of a client includes the scopes that it may ask for.
    assert len(world.auth_server.of("registered")) == 2
