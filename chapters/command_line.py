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

Left out: completing words in your shell, and in --logins, until when a token is good. (Most are
renewed by themselves.)

Try it:

>>> read(["-s", "Be short.", "What", "now?"], has_demo=True).question
'What now?'
"""

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from chapters import trace
from chapters.http_session import add_nothing
from chapters.outside import Problem, clean
from chapters.screen import Screen
from chapters.settings import read_env

# Our streams are closed, full, on a terminal that is gone, or (EINVAL, on Windows) read by nobody.
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
    options.signs = bool(options.login or options.logout or options.logins)
    has_dash = f" {options.question}".endswith(" -")
    if has_dash or not (options.question or options.signs or sys.stdin.isatty()):
        options.question = (options.question.removesuffix("-") + sys.stdin.read()).strip()
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
    add("question", nargs="*", help="answer only this ('-' at its end: with standard input)")
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
    """Where what happens is shown, with every message where that is wanted."""
    if options.tour:
        from chapters.tour import Tour  # (its names and lines take a while to load)
        return Tour(bool(options.question))
    if options.trace or os.getenv("MCP_TRACE", "0") not in ("", "0"):
        trace.start()
    return Screen(bool(options.question), trace.is_on())


# ── How it ends ──────────────────────────────────────────────────────────────────────────

@contextlib.contextmanager
def in_words() -> Iterator[None]:
    """Whatever ends the block early becomes words and an exit status. (Bugs become tracebacks.)"""
    for name, mode in ("stdin", "r"), ("stdout", "w"), ("stderr", "w"):
        # (It is None in "chat.py hi >&-".)
        stream: Any = getattr(sys, name) or open(os.devnull, mode)  # noqa: SIM115  (it stays open)
        if hasattr(stream, "reconfigure"):  # (IDLE's and Jupyter's haven't)
            stream.reconfigure(errors="replace")  # what can't be shown becomes "?"
        setattr(sys, name, stream)
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
                print(f"\nCan't read or print: {error.strerror}.", file=sys.stderr, flush=True)
        os._exit(1)  # (At an ordinary end, Python would try to print what is left, and complain.)


# ── Signing in ───────────────────────────────────────────────────────────────────────────

def credentials(server: Any, config: Path, person: bool, say: Callable) -> Callable:
    """What adds credentials to the requests to a Server. With no `person` there, nobody can sign
    in; but where somebody has done so before, that is remembered beside the configuration."""
    if server.auth_type != "oauth":
        return add_nothing
    import oauth_handler  # it takes a while to load, and hardly any server needs it
    from chapters.token_file import token_store
    store = token_store(config, say)
    return oauth_handler.OAuth(server.name, server.url, server.oauth, store, person=person, say=say)


def sign_in_or_out(options: SimpleNamespace, config: Path, screen: Any, load_servers: Callable,
                   make_chat: Callable) -> None:
    """For those who want to sign in beforehand, or to start over. The two functions are chat.py's:
    to sign in is to meet one server. Raises Problem."""
    from chapters.token_file import token_store
    store = token_store(config, screen.say)
    if options.login:
        server = load_servers(config).get(options.login)
        if isinstance(server, Problem):
            raise server
        if not server or server.auth_type != "oauth":
            raise Problem(f'{options.login} is not an enabled server with "auth_type": "oauth".')
        with make_chat(servers={options.login: server}) as chat:
            screen.show(chat.meet_servers(), "the server")
            if not chat.working:
                sys.exit(1)
    if options.logout:
        screen.say(f"Signed out of {options.logout}." if store.forget(options.logout) else
                   f"There is no login to {options.logout}.")
    if options.logins:
        logins = [f"{name}: signed in at {tokens.get('issuer')}"
                  for name, tokens in store.read()["tokens"].items()]
        screen.say("\n".join(logins) or "You are signed in nowhere.")
