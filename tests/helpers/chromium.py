"""A real browser without a window: Chromium, driven through its own remote-debugging protocol.

    with Chromium(folder) as browser:
        page = browser.new_page()           # of a person who hasn't been anywhere yet
        page.go_to("http://127.0.0.1:8000/login")
        page.wait_for("Your password")      # until these words are to be seen
        page.type("password", "a secret")   # into the field of that name
        page.press("Sign in")               # the mouse goes there, and clicks

A program opens its pages here if its environment has BROWSER=browser.command. The browser doesn't
show them by itself: `browser.next_address()` tells the test, which is the person.

What travels are JSON objects with a NUL byte behind each, over the file descriptors 3 and 4:
https://chromedevtools.github.io/devtools-protocol/
"""

import contextlib
import json
import os
import select
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from needs import is_missing
from patience import PATIENCE, eventually

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = [
    "--headless", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu",
    "--no-sandbox",             # it can't have one where the tests run as root
    "--disable-dev-shm-usage",  # in a container, this may be too small for it
    "--disable-background-networking", "--disable-component-update", "--disable-breakpad",
    # No page gets anything from the internet, and none waits for it.
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
]
HAND_OVER = """
import sys
with open(sys.argv[1], "a") as file:
    file.write(sys.argv[2] + "\\n")
"""
TEXT = "document.readyState == 'complete' ? document.body.innerText : ''"
MIDDLE = """(() => {
    const one = [...document.querySelectorAll('a, button')]
        .find((one) => one.innerText.includes(%s));
    one.scrollIntoView();
    const {x, y, width, height} = one.getBoundingClientRect();
    return {x: x + width / 2, y: y + height / 2};
})()"""


class Refused(Exception):
    """The browser can't do that now: for example, because its page is about to change."""


class Chromium:
    """The browser. It is ready at once, and ends with its "with" block."""

    def __init__(self, folder: Path):
        path = next(filter(None, map(shutil.which, NAMES)), None)
        if not path:
            is_missing("there is no Chromium on this computer")
        self.opened = folder / "opened"  # the addresses, one in a line
        self.taken = 0                   # how many of them next_address() has returned
        (folder / "hand_over.py").write_text(HAND_OVER)
        self.command = shlex.join([sys.executable, str(folder / "hand_over.py"),
                                   str(self.opened)]) + " %s"
        self.messages = 0
        self.unread = b""
        from_us, self.to_browser = pipe()
        self.from_browser, to_us = pipe()
        # (With subprocess, nobody can choose the numbers of the file descriptors.)
        self.process = os.posix_spawn(
            path, [path, *OPTIONS, f"--user-data-dir={folder / 'profile'}", "about:blank"],
            {**os.environ, "HOME": str(folder)}, setpgroup=0, file_actions=[
                *((os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)),
                (os.POSIX_SPAWN_DUP2, from_us, 3), (os.POSIX_SPAWN_DUP2, to_us, 4)])
        os.close(from_us)
        os.close(to_us)

    def __enter__(self) -> "Chromium":
        try:
            self.send("Browser.getVersion")
        except (AssertionError, OSError):
            self.__exit__()
            is_missing("the Chromium of this computer doesn't start")
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError, AssertionError):
            self.send("Browser.close")
        end = time.monotonic() + 10
        while time.monotonic() < end and not os.waitpid(self.process, os.WNOHANG)[0]:
            time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process, signal.SIGKILL)  # what it has started, if that is still there
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.process, 0)
        os.close(self.to_browser)
        os.close(self.from_browser)

    def send(self, method: str, session: str = "", **params: Any) -> dict:
        """Send a command and return its result. Raises Refused."""
        self.messages += 1
        message = {"id": self.messages, "method": method, "params": params}
        os.write(self.to_browser, json.dumps(
            {**message, "sessionId": session} if session else message).encode() + b"\0")
        while True:
            found = self.receive()
            if found.get("id") == self.messages:  # the others tell what has happened
                if "error" in found:
                    raise Refused(found["error"]["message"])
                return found["result"]

    def receive(self) -> dict:
        while b"\0" not in self.unread:
            assert select.select([self.from_browser], [], [], PATIENCE)[0], "Chromium hangs"
            some = os.read(self.from_browser, 65536)
            assert some, "Chromium has ended"
            self.unread += some
        found, _, self.unread = self.unread.partition(b"\0")
        return json.loads(found)

    def new_page(self) -> "Page":
        """An empty page of somebody who has no cookies yet."""
        person = self.send("Target.createBrowserContext")["browserContextId"]
        target = self.send("Target.createTarget", url="about:blank", browserContextId=person)
        session = self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        return Page(self, session["sessionId"])

    @property
    def addresses(self) -> list[str]:
        """All that programs wanted to open so far."""
        text = self.opened.read_text() if self.opened.exists() else ""
        return text.split("\n")[:-1]

    def forget_addresses(self) -> None:
        self.taken = len(self.addresses)

    def next_address(self) -> str:
        """Wait until a program wants to open one more page."""
        eventually(lambda: len(self.addresses) > self.taken)
        self.taken += 1
        return self.addresses[self.taken - 1]


class Page:
    def __init__(self, browser: Chromium, session: str):
        self.browser, self.session = browser, session

    def go_to(self, address: str) -> None:
        failure = self.browser.send("Page.navigate", self.session, url=address).get("errorText")
        assert not failure, f"{failure} at {address}"

    def evaluate(self, script: str) -> Any:
        found = self.browser.send("Runtime.evaluate", self.session, expression=script,
                                  returnByValue=True)
        assert "exceptionDetails" not in found, f"{found} on the page {self.text!r}"
        return found["result"].get("value")

    @property
    def text(self) -> str:
        """What is to be read, as soon as the page is complete; "" before that."""
        try:
            return self.evaluate(TEXT) or ""
        except Refused:
            return ""

    @property
    def title(self) -> str:
        return self.evaluate("document.title")

    def wait_for(self, *words: str) -> str:
        """Wait until these words, or those, are to be seen; return all of the page's text."""
        end = time.monotonic() + PATIENCE
        while not any(one in (text := self.text) for one in words):
            assert time.monotonic() < end, f"No {' or '.join(words)!r} on the page {text!r}"
            time.sleep(0.02)
        return text

    def type(self, field: str, text: str) -> None:
        self.evaluate(f"document.querySelector({json.dumps(f'[name={field}]')}).focus()")
        self.browser.send("Input.insertText", self.session, text=text)

    def press(self, words: str) -> None:
        """Click on the button or the link with these words."""
        place = self.evaluate(MIDDLE % json.dumps(words))
        for kind in "mousePressed", "mouseReleased":
            self.browser.send("Input.dispatchMouseEvent", self.session, type=kind, button="left",
                              clickCount=1, **place)


def pipe() -> tuple[int, int]:
    """A pipe whose ends have other numbers than 3 and 4."""
    ends = os.pipe()
    if min(ends) > 4:
        return ends
    try:
        return pipe()
    finally:
        for end in ends:
            os.close(end)
