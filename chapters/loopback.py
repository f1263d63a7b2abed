"""Loopback: how does an answer get from your browser into a program?

When you have said yes, the login page sends your browser to an address that we have named, and
puts its answer behind it:

    http://localhost:8080/callback?code=SplxlOBeZQ&state=af0ifjsldk&iss=https%3A%2F%2Fid.example.com

"localhost" is the computer that the browser runs on. If it is ours, we are a web server there, for
this one moment. Anybody may knock: a judge looks at what comes, and our page repeats none of it.

If the browser is on another computer, it ends at a page that can't be reached. But the answer is
in its address bar. So while we wait, we also read what is typed into the terminal, and judge it as
well. (It isn't shown, because there is a code in it. And what is left in the end is thrown away, or
it would become your next question.) Some login pages are just a form: "login_form" fills it in.

https://modelcontextprotocol.io/specification/2026-07-28/basic/authorization and RFC 8252,
https://www.rfc-editor.org/rfc/rfc8252#section-7.3. Left out: another port, where 8080 is taken. It
is part of the address, and the address is part of what was registered.

Try it. Our judge wants to see the right state:

>>> import requests
>>> with listening(0, typed=contextlib.nullcontext) as callback:
...     callback.judge = lambda query: query.startswith("state=af0ifjsldk&") and query[-10:]
...     for query in "state=guessed&code=evil", "state=af0ifjsldk&code=SplxlOBeZQ":
...         print(requests.get(f"{callback.redirect_uri}?{query}").status_code)
...     callback.wait(10, print)
400
200
'SplxlOBeZQ'
"""

import contextlib
import errno
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any

from chapters.addresses import Temporary, fetch, is_safe, origin
from chapters.outside import Problem

if sys.platform == "win32":
    import msvcrt  # keys, one by one: one system has these,
else:
    import os
    import select
    import termios
    import tty  # the others those

REDIRECT_URI = "http://localhost:{}/callback"
OURSELVES = r"(?i)(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"  # what a visit may take us for
NO_CODE = "the sign-in service sent no code. Please try again."
FOREIGN = "This page does not belong to the login you started. Go back to the terminal."
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Simple MCP Chat</title>
<body style="font: 1.2em system-ui; margin: 4em auto; max-width: 30em"><p>{}</p></body></html>"""
PAGE_HEADERS = {"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store",
                "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
                "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
                "Connection": "close"}
PASTE = ("  If the browser ends at a page that can't be reached, paste the full address of it here "
         "and\n  press Enter. (It will not be shown.)")


class Callback:
    """What comes back: from a browser, in its own threads, or pasted."""

    def __init__(self, port: int):
        self.redirect_uri = REDIRECT_URI.format(port)
        self.typed: Any = None  # a Keyboard, if there is one
        self.expect(lambda query: None)

    def expect(self, judge: Callable[[str], str | None]) -> None:
        """Begin. judge() returns the code in a query; None, if it isn't ours; or raises Problem."""
        self.judge = judge
        self.outcome: str | Problem | None = None
        self.done = threading.Event()
        self.stray = False  # whether something came from another login

    def take(self, query: str) -> None:
        try:
            found: str | Problem | None = self.judge(query)
        except Problem as problem:
            found = problem
        self.outcome = self.outcome or found  # (two visits may come at the same time)

    def receive(self, path: str, host: str) -> tuple[int, str]:
        """Hear a browser's request; return the status and the text of the page for it."""
        path, _, query = path.partition("?")
        if path != "/callback" or not re.fullmatch(OURSELVES, host):
            return 404, FOREIGN
        if self.outcome:
            return 200, "This login is over. You can close this page."
        self.take(query)
        if isinstance(self.outcome, Problem):
            return 200, ("You are not signed in yet. You can close this page: another one opens, "
                         "or the terminal says why.")
        self.stray = not self.outcome
        return (400, FOREIGN) if self.stray else (
            200, "You have signed in. You can close this page and go back to the terminal.")

    def wait(self, seconds: float, say: Callable[[str], object], explain: bool = False) -> str:
        """The code. Raises Problem. `explain`: say early how to paste an address."""
        begin, wrong = time.monotonic(), 0
        explain_at = begin + (0.5 if explain else seconds / 10)
        # (In short pieces, because on Windows Ctrl-C waits for their end.)
        while not self.done.wait(0.1):
            if self.typed and explain_at <= time.monotonic():
                say(PASTE)
                explain_at += seconds
            if self.typed and (line := self.typed.line()):
                start, _, query = line.strip().partition("#")[0].partition("?")
                if start in ("", self.redirect_uri):
                    self.take(query)
                if self.outcome:
                    break
                say(f"That is not the address of this login. It starts with {self.redirect_uri}?")
                wrong += 1
            if wrong > 3:
                raise Problem("there was no answer from the browser. Please try again.")
            if time.monotonic() > begin + seconds:
                stray = " (The browser did come, but from another login: close its old pages.)"
                raise Problem(f"no answer within {seconds / 60:g} minutes. If the browser showed "
                              "an error, the next sign-in registers anew." + stray * self.stray)
        return self.result()

    def result(self) -> str:
        outcome = self.outcome or Problem(NO_CODE)
        if isinstance(outcome, Problem):
            raise outcome
        return outcome


class Keyboard:
    """What is typed into our terminal, until the end of the block."""

    def __enter__(self) -> "Keyboard":
        self.text = ""
        self.is_terminal = sys.stdin is not None and sys.stdin.isatty()
        if self.is_terminal and sys.platform != "win32":
            self.before = termios.tcgetattr(0)
            tty.setcbreak(0)  # key by key: otherwise, lines end after 1024 or 4096 characters
        return self

    def __exit__(self, *error: object) -> None:
        if sys.platform == "win32":
            self.keys()
        elif self.is_terminal:
            termios.tcsetattr(0, termios.TCSAFLUSH, self.before)  # what wasn't read is lost

    def keys(self) -> str:
        """All that was typed since the last time."""
        keys = ""
        if sys.platform == "win32":
            while self.is_terminal and msvcrt.kbhit():
                keys += msvcrt.getwch()
        elif self.is_terminal and select.select([0], [], [], 0)[0]:
            keys = os.read(0, 2**16).decode("utf-8", "replace") or "\x04"
        return keys

    def line(self) -> str | None:
        """A line, if one is complete. Raises EOFError after Ctrl-D."""
        for key in self.keys():
            self.text = self.text[:-1] if key in "\b\x7f" else self.text + key
        if self.text.endswith("\x04"):
            raise EOFError
        line, end, rest = self.text.replace("\r", "\n").partition("\n")
        self.text = rest if end else line
        return line if end else None


class WebServer(ThreadingTCPServer):
    """Each connection has a thread: browsers like to open one and then say nothing."""
    daemon_threads = True
    # Linux keeps a port for a minute, unless we say this. Windows would share it.
    allow_reuse_address = sys.platform != "win32"

    def __init__(self, host: str, port: int, handler: Any):
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), handler)

    def handle_error(self, *connection: object) -> None:
        """Say nothing: a browser that hangs up early is nobody's problem."""


@contextlib.contextmanager
def listening(port: int, by_hand: bool = False, typed: Callable[[], Any] = Keyboard
              ) -> Iterator[Callback]:
    """Be the web server at the redirect URI until the block ends. Port 0: any that is free."""
    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            status, text = callback.receive(self.path, self.headers.get("Host", ""))
            page = PAGE.format(text).encode()
            try:
                self.send_response(status)
                for name, value in {**PAGE_HEADERS, "Content-Length": str(len(page))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(page)
            finally:
                if callback.outcome:
                    callback.done.set()  # after the page: with us, the web server ends

        def log_message(self, *words: object) -> None:
            """Say nothing: it would print the code."""

    servers: list[WebServer] = []
    with contextlib.ExitStack() as at_the_end:
        # "localhost" has two addresses, and a browser may try the second first. If another program
        # listens there, it would get the code. But some computers have only the first.
        for host in "127.0.0.1", "::1":
            try:
                servers.append(at_the_end.enter_context(WebServer(host, port, Handler)))
            except OSError as error:
                if not servers or error.errno == errno.EADDRINUSE:
                    other = port + 1 if port < 65535 else 8080
                    more = f" and register {REDIRECT_URI.format(other)} with your client" * by_hand
                    raise Temporary(
                        f"port {port} is already in use. Close the other program, or set "
                        f'"redirect_port" to another number, for example {other}{more}.',
                        "the port is in use") from None
            port = servers[0].server_address[1]
        callback = Callback(port)
        for server in servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            at_the_end.callback(server.shutdown)
        callback.typed = at_the_end.enter_context(typed())
        yield callback


def post_login_form(endpoint: str, form: dict[str, str], redirect_uri: str) -> str:
    """Sign in where the login page is a form that can be posted. Returns the query that comes back
    to us. Raises Problem."""
    target = endpoint
    for _ in range(4):
        answer = fetch("POST", target, may_redirect=True, data=form)
        if answer.location.startswith(redirect_uri + "?"):
            return answer.location.removeprefix(redirect_uri + "?")
        target = answer.location
        # There is a password in the form. It goes to the authorization server and nowhere else.
        if not is_safe(target, endpoint) or origin(target) != origin(endpoint):
            break
    raise Problem(f'the login form was refused (HTTP {answer.status}). Check "login_form".')
