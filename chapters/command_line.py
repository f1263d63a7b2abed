"""The command line: what was asked for, and how does the program end?

    python chat.py                          a conversation
    python chat.py "What's 2 + 40?"         one question: only the answer is on standard output
    git diff | python chat.py "review: -"   standard input takes the place of the "-"
    python chat.py --login sheets           sign in to a server, and end

Other programs want to know how it went, so it ends with a status:

    0 it was done   1 it failed, and standard error says why   2 wrong words   130 Ctrl-C

Nobody should see a traceback for what a person, a server or a model has done.

The rules are those of POSIX, not of MCP:
https://pubs.opengroup.org/onlinepubs/9799919799/basedefs/V1_chap12.html. Where the tokens of a
sign-in are kept is oauth_handler.py, and why:
https://modelcontextprotocol.io/specification/2026-07-28/basic/authorization

Left out: completing words in your shell.

Try it:

>>> read(["-s", "Be short.", "What", "now?"], has_demo=True).question
'What now?'
"""

import contextlib
import errno
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from chapters import trace
from chapters.http_session import add_nothing
from chapters.outside import Problem, clean
from chapters.screen import Screen
from chapters.settings import read_env

STREAMS = {"stdin": "r", "stdout": "w", "stderr": "w"}
# They are closed, full, on a terminal that is gone, or (EINVAL, on Windows) nobody reads them.
STREAM_ERRORS = {errno.EPIPE, errno.EBADF, errno.ENOSPC, errno.EIO, errno.EINVAL}


def read(words: list[str] | None, has_demo: bool) -> SimpleNamespace:
    """What was asked for: `question` ("" for a conversation), system_prompt, config, login, logout,
    logins, trace, tour, demo. `words` None: those behind the program's name."""
    words = sys.argv[1:] if words is None else words
    options = SimpleNamespace(question="", system_prompt="", config="", login="", logout="",
                              logins=False, trace=False, tour=False, demo=False)
    if words:
        parse(words, options, has_demo)
    if not options.demo:
        read_env()
    if not options.tour and (options.trace or os.getenv("MCP_TRACE", "0") not in ("", "0")):
        options.trace = True
        trace.start()
    options.signs = bool(options.login or options.logout or options.logins)
    if f" {options.question}".endswith(" -"):
        options.question = options.question[:-1] + sys.stdin.read()
    elif not options.question and not sys.stdin.isatty() and not options.signs:
        options.question = sys.stdin.read().strip()
        if not options.question:
            print("There is no question: standard input is empty.", file=sys.stderr)
            sys.exit(2)
    return options


def parse(words: list[str], options: SimpleNamespace, has_demo: bool) -> None:
    """Put what these words say into the options. Ends the program at --help, and at wrong words."""
    import argparse  # where there are none, the start is faster
    parser = argparse.ArgumentParser(description="A chatbot for your terminal, with MCP tools.",
                                     argument_default=argparse.SUPPRESS)  # those in `options`
    add = parser.add_argument
    add("question", nargs="*", help="answer only this; a '-' at its end stands for what comes on "
                                    "standard input")
    add("-s", "--system-prompt", metavar="TEXT", help="what the model is told first")
    add("--config", metavar="FILE", help="in place of mcp_servers.json")
    add("--login", metavar="NAME", help="sign in to a server, and end")
    add("--logout", metavar="NAME", help="forget what a server's sign-in has brought, and end")
    add("--logins", action="store_true", help="show where you are signed in, and end")
    add("--trace", action="store_true", help="show every MCP message")
    add("--tour", action="store_true", help="stop at every message, and be told what it is for")
    if has_demo:
        add("--demo", action="store_true", help="a pretend model: no key, no account needed")
    # (Bytes that are no characters could neither be printed nor sent.)
    parser.parse_intermixed_args(
        [word.encode("utf-8", "replace").decode() for word in words], options)  # type: ignore
    options.question = " ".join(options.question).strip()


def screen(options: SimpleNamespace) -> Screen:
    """Where what happens is shown."""
    if options.tour:
        from chapters.tour import Tour  # (its names and lines take a while to load)
        return Tour(bool(options.question))
    return Screen(bool(options.question), options.trace)


# ── How it ends ──────────────────────────────────────────────────────────────────────────

@contextlib.contextmanager
def in_words() -> Iterator[None]:
    """Whatever ends the block early becomes words and an exit status. (Bugs become tracebacks.)"""
    for name, mode in STREAMS.items():
        if getattr(sys, name) is None or getattr(sys, name).closed:  # like "chat.py hi >&-"
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  (it stays open)
        if hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(errors="replace")  # what can't be shown becomes "?"
    for name in ("SIGTERM", "SIGHUP"):  # the window is closed: our servers should end, too
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda number, frame: sys.exit(128 + number))
    try:
        yield
    except Problem as problem:
        sys.exit(f"\n{clean(problem)}")
    except KeyboardInterrupt:
        print(file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if error.errno not in STREAM_ERRORS:
            raise
        with contextlib.suppress(OSError):
            if error.errno != errno.EPIPE:  # (whoever stops reading, like "| head", knows that)
                print(f"\nCan't read or print: {error.strerror}.\nLook where standard input and "
                      "output come from and go to.", file=sys.stderr, flush=True)
        os._exit(1)  # (At an ordinary end, Python would try to print what is left, and complain.)


# ── Signing in ───────────────────────────────────────────────────────────────────────────

def credentials(server: Any, config: Path, person: bool, say: Callable) -> Callable:
    """What adds credentials to the requests to a Server. With no `person` there, nobody can sign
    in; but where somebody has done so before, that is remembered beside the configuration."""
    if server.auth_type != "oauth":
        return add_nothing
    oauth, store = sign_in_story(config, say)
    return oauth.OAuth(server.name, server.url, server.oauth, store, person=person, say=say)


def sign_in_story(config: Path, say: Callable) -> tuple[Any, Any]:
    """oauth_handler.py, and the file of tokens of this configuration."""
    import oauth_handler  # it takes a while to load, and hardly any server needs it
    from chapters import token_file
    return oauth_handler, token_file.token_store(config, say)


def sign_in_or_out(options: SimpleNamespace, config: Path, screen: Any, load_servers: Callable,
                   make_chat: Callable) -> None:
    """For those who want to sign in beforehand, or to start over. The two functions are chat.py's:
    to sign in is to meet one server. Raises Problem."""
    oauth, store = sign_in_story(config, screen.say)
    if options.login:
        servers = only(options.login, load_servers(config))
        with make_chat(servers=servers) as chat:
            screen.show(chat.meet_servers(), "the server")
            if not chat.working:
                sys.exit(1)
    if options.logout:
        screen.say(f"Signed out of {options.logout}." if store.forget(options.logout) else
                   f"There is no login to {options.logout}.")
    from chapters.token_file import as_each
    logins = as_each(oauth.Tokens, store.read()["tokens"]) if options.logins else {}
    if options.logins and not logins:
        screen.say("You are signed in nowhere.")
    for name, tokens in logins.items():
        end = tokens.expires_at  # seconds since 1970; None: nobody said
        until = time.strftime("%c", time.localtime(end)) if end else "it is refused"
        screen.say(f"{name}: signed in at {tokens.issuer}, until {until}" +
                   (" (renewed by itself)" if tokens.refresh_token else ""))


def only(name: str, servers: dict[str, Any]) -> dict[str, Any]:
    """The one server to sign in to, by its name. Raises Problem."""
    server = servers.get(name) or Problem(
        f'There is no server "{name}", or it is not "enabled".')
    if isinstance(server, Problem):
        raise server
    if server.auth_type != "oauth":
        raise Problem(f'{name} is not a server to sign in to: it has no "auth_type": "oauth".')
    return {name: server}
