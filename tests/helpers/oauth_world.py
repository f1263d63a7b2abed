"""What the tests of oauth_handler.py share: a small world with a person, a browser and a clock."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import requests
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from login_server import AuthorizationServer, McpServer, Reply
from patience import PATIENCE

from chapters.challenges import LoginNeeded, OAuthError
from chapters.token_file import TokenStore
from oauth_handler import OAuth

CALL = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}'


class World:
    """A server "sheets", its authorization server, and somebody who signs in there."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.file = folder / ".mcp_tokens.json"
        self.auth_server = AuthorizationServer()
        self.server = McpServer(self.auth_server)
        self.lines: list[str] = []          # what was printed
        self.typed: list = []               # lines to type, or functions that return one
        self.opened: list[str] = []         # pages that the browser was sent to
        self.pages: list[requests.Response] = []      # and what it showed in the end
        self.failures: list[str] = []       # errors that were raised
        self.seconds = 1_800_000_000.0
        self.landed = threading.Event()

    def browser(self, url: str) -> bool:
        self.opened.append(url)

        def visit() -> None:
            self.pages.append(requests.get(url, timeout=PATIENCE))
            self.landed.set()

        threading.Thread(target=visit, daemon=True).start()
        return True

    def store(self, **options) -> TokenStore:
        return TokenStore(self.file, say=self.lines.append, **options)

    @contextlib.contextmanager
    def keyboard(self) -> Iterator["World"]:
        """In place of the terminal's."""
        yield self

    def line(self) -> str | None:
        """The next line that is typed; None: nobody types."""
        line = self.typed.pop(0) if self.typed else None
        return line() if callable(line) else line

    def auth(self, store: TokenStore | None = None, url: str = "", person: bool = True,
             browser=None, patience: float = 5, **settings) -> OAuth:
        settings.setdefault("redirect_port", 0)
        return OAuth("sheets", url or self.server.url, settings, store or self.store(),
                     person=person, say=self.lines.append, open_browser=browser or self.browser,
                     typed=self.keyboard, now=lambda: self.seconds, patience=patience)

    def call(self, auth: OAuth, logins: int = 4) -> int:
        """Send one request as chat.py does: sign in if somebody must, and send it again."""
        try:
            for _ in range(logins):
                try:
                    return requests.post(auth.url, data=CALL, auth=auth, stream=True,
                                         timeout=PATIENCE, allow_redirects=False).status_code
                except LoginNeeded as needed:
                    needed.login()
        except OAuthError as error:
            self.failures.append(str(error))
            raise
        raise AssertionError("it asks for one login after the other")

    def failure(self, auth: OAuth) -> str:
        """The sentence with which a request fails."""
        try:
            self.call(auth)
        except OAuthError as error:
            return str(error)
        raise AssertionError("it did not fail")

    @property
    def stored(self) -> dict:
        return json.loads(self.file.read_text())

    def change(self, **entry) -> None:
        """Edit what is stored for "sheets"."""
        data = self.stored
        data["tokens"]["sheets"].update(entry)
        self.file.write_text(json.dumps(data))
        self.file.chmod(0o600)

    @property
    def printed(self) -> str:
        return "\n".join(self.lines)

    def search_for_secrets(self, elsewhere: str = "") -> None:
        """Nothing that is secret may be anywhere but in the token file."""
        files = [path.read_text(errors="replace") for path in self.folder.rglob("*")
                 if path.is_file() and path != self.file]
        everything = "\n".join([*self.lines, *self.failures, *files, elsewhere,
                                *(page.text for page in self.pages)])
        for secret in self.auth_server.confidential:
            assert secret not in everything

    def close(self) -> None:
        self.auth_server.close()
        self.server.close()


# ── What is changed in it ────────────────────────────────────────────────────────────────

F = "OAuth authentication failed for sheets: "
AFTER_ALL = " (To sign in after all: chat.py --login sheets, also in a second terminal.)"


WELL_KNOWN = "/.well-known/oauth-authorization-server"


RESOURCE = "/.well-known/oauth-protected-resource/mcp"


def answers(*args, **more):
    return lambda visit: Reply(*args, **more)


def html(visit):
    return Reply(200, b"<!doctype html><title>An app</title>")


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Browser:
    """A browser that brings back something else: `change` edits the query, as a dict."""

    def __init__(self, world, *changes):
        self.world, self.changes, self.seen = world, changes, []

    def __call__(self, url):
        self.world.opened.append(url)

        def visit():
            asked = {key: value for key, [value] in parse_qs(urlsplit(url).query).items()}
            good = self.world.auth_server.callback(asked)
            for change in self.changes:
                query = change(dict(good))
                self.seen.append(requests.get(asked["redirect_uri"], params=query,
                                              timeout=PATIENCE))

        threading.Thread(target=visit, daemon=True).start()
        return True


def query(**changes):
    return lambda good: {key: value for key, value in {**good, **changes}.items()
                         if value is not None}


def as_it_is(good):
    return good


def address_of(world, **changes):
    """What stands in the address bar in the end, on a computer where nobody listens."""
    asked = {key: value for key, [value] in parse_qs(urlsplit(world.opened[-1]).query).items()}
    good = {**world.auth_server.callback(asked), **changes}
    return requests.Request("GET", asked["redirect_uri"], params=good).prepare().url


def no_browser(world):
    def open_page(url):
        world.opened.append(url)
        return False
    return open_page


nonsense = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) |
    st.sampled_from(["https://", "http://localhost:x/", "//", "S256", "code", "1e400", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner,
                                                               max_size=3), max_leaves=6)


quickly = settings(max_examples=60, derandomize=True,
                   suppress_health_check=[HealthCheck.function_scoped_fixture])
