"""The README's pictures can't go stale: each is compared with what happens. The terminal is that of
a run of the demo; the arrows of the diagrams are what travelled."""

import contextlib
import json
import re
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from folder import configure, needs_terminal
from login_server import Reply, Site, Visit
from oauth_world import World
from patience import PATIENCE
from terminal import ROOT, Terminal, as_seen, run

import demo
from chapters.replies import Reply as ModelReply
from chapters.server_sent_events import read_events
from docs import make_picture

README = (ROOT / "README.md").read_text(encoding="utf-8")
TO_REMAKE = "It has changed. To remake the picture: uv run python docs/make_picture.py"
SVG = "{http://www.w3.org/2000/svg}"
THEMES = list(make_picture.THEMES)


# ── The terminal ─────────────────────────────────────────────────────────────────────────

def file_of(theme: str) -> str:
    return (ROOT / f"docs/session-{theme}.svg").read_text(encoding="utf-8")


def lines_in(svg: str) -> list[str]:
    """The text of a picture, as somebody reads it: what stands at the same height is one line."""
    by_height = {int(text.attrib["y"]): "".join(text.itertext())
                 for text in ElementTree.fromstring(svg).iter(f"{SVG}text")}
    return [by_height.get(height, "") for height in
            range(min(by_height), max(by_height) + 1, make_picture.STEP)]


@needs_terminal
def test_the_picture_is_that_of_a_run_of_the_demo():
    lines = make_picture.session()
    for theme, colours in make_picture.THEMES.items():
        assert lines_in(file_of(theme)) == list(map(make_picture.text_of, lines)), TO_REMAKE
        assert make_picture.picture(lines, colours) == file_of(theme), TO_REMAKE


@pytest.mark.parametrize("theme", THEMES)
def test_the_picture_shows_sums_towns_progress_and_a_saved_picture(theme):
    text = "\n".join(lines_in(file_of(theme)))
    assert text.startswith(f"$ {make_picture.COMMAND}\n")
    for shown in ("17 + 25 = 42", "[Calling weather...]\n[Calling weather...]", "Oslo", "Lima",
                  "3 of 5", "[Saved "):
        assert shown in text


@pytest.mark.parametrize("theme", THEMES)
def test_the_picture_has_a_name_fits_into_a_page_and_needs_nothing_from_elsewhere(theme):
    svg = ElementTree.fromstring(file_of(theme))
    named = {one.attrib["id"]: one.text for one in (svg[0], svg[1])}
    assert svg.attrib["aria-labelledby"].split() == list(named) and all(named.values())
    assert int(svg.attrib["width"]) <= 840
    assert {one.tag.removeprefix(SVG) for one in svg.iter()} == {
        "svg", "title", "desc", "style", "rect", "path", "g", "circle", "text", "tspan"}
    assert not re.search(r"url\(|@import|href", file_of(theme))


def test_what_the_picture_shows_is_text_and_never_markup():
    svg = make_picture.picture([[("<b> & ]]> \"", "dim")]], make_picture.THEMES["dark"])
    assert lines_in(svg) == ["<b> & ]]> \""]


def test_the_readme_begins_with_the_picture_and_how_to_see_it_for_yourself():
    [picture] = re.findall(r"<picture>.*?</picture>", README, re.DOTALL)
    dark, light = (dict(re.findall(r'([a-z]+)="([^"]+)"', tag))
                   for tag in re.findall(r"<(?:source|img) [^>]+>", picture))
    assert dark == {"media": "(prefers-color-scheme: dark)", "srcset": "docs/session-dark.svg"}
    assert light["src"] == "docs/session-light.svg" and "weather" in light["alt"]
    beginning = README[:README.index("\n## ")]
    assert beginning.index(picture) < beginning.index(make_picture.COMMAND) < 1500


# ── The diagrams ─────────────────────────────────────────────────────────────────────────
#
# What they may contain (Mermaid has more, https://mermaid.js.org/syntax/sequenceDiagram.html):
#
#     participant chat as the chatbot
#     chat->>server: tools/call<br/>name: add       a request
#     server-->>chat: result<br/>content: 42        its answer
#     Note over chat,server: for the reader         not compared with anything

PARTICIPANT = re.compile(r"    (?:participant|actor) (\w+) as [^#;]+")
ARROW = re.compile(r"    (\w+)(->>|-->>)(\w+): ([^#;]+)")
NOTE = re.compile(r"    Note over (\w+),(\w+): [^#;]+")


class Arrow(NamedTuple):
    """One message: from, ->> or -->>, to, and the lines beside the arrow."""
    start: str
    line: str
    end: str
    words: list[str]


def diagram_after(words: str) -> list[Arrow]:
    """The arrows of the first diagram after these words in the README."""
    text = README.partition(words)[2].partition("```mermaid\n")[2].partition("```")[0]
    first, *lines = text.splitlines()
    assert first == "sequenceDiagram"
    known = [found[1] for line in lines if (found := PARTICIPANT.fullmatch(line))]
    arrows = []
    for line in lines[len(known):]:
        found, note = ARROW.fullmatch(line), NOTE.fullmatch(line)
        assert found or note, f"not one of the lines above: {line!r}"
        if found:
            arrows.append(Arrow(found[1], found[2], found[3], found[4].split("<br/>")))
        elif note:
            assert {note[1], note[2]} <= set(known)
    assert {one for arrow in arrows for one in (arrow.start, arrow.end)} == set(known)
    return arrows


def background() -> set[str]:
    """The methods of which the README says that they aren't in its diagram."""
    [words] = re.findall(r"There are\na few more than here: .+?\.\n", README, re.DOTALL)
    return set(re.findall(r"`(\w+(?:/\w+)+)`", words))


# ── One turn ─────────────────────────────────────────────────────────────────────────────

QUESTION = "What is 17 + 25?"


def in_words(message: dict) -> list[str]:
    """A JSON-RPC message of this turn, as the diagram has it."""
    if "method" in message:
        params = {name: value for name, value in message["params"].items() if name != "_meta"}
        return [message["method"], *(
            f"{name}: {value}" if isinstance(value, str) else f"{name}: {json.dumps(value)}"
            for name, value in params.items())]
    result = message["result"]
    if "tools" in result:
        return ["result", "tools: " + ", ".join(tool["name"] for tool in result["tools"])]
    return ["result", "content: " + " ".join(block["text"] for block in result["content"])]


def traced(text: str, server: str) -> list[tuple[str, dict]]:
    """The messages to and from a server that --trace shows, each with its "-->" or "<--"."""
    shown = re.findall(rf"^(-->|<--) {server}  (.*(?:\n        .*)*)", text, re.MULTILINE)
    return [(direction, json.loads(rest[rest.index("{"):]))  # (before it, there may be HTTP)
            for direction, rest in shown if "{" in rest]


def test_the_arrows_to_and_from_the_server_are_what_a_trace_of_the_demo_shows(tmp_path):
    drawn = [one for one in diagram_after("**Function calling**")
             if "server" in (one.start, one.end)]
    done = run("chat.py", "--demo", "--trace", QUESTION, cwd=tmp_path)
    messages = traced(done.stderr, "toy-http")

    methods = {message["id"]: message["method"] for _, message in messages if "method" in message}
    arrows = [Arrow("chat", "->>", "server", in_words(message)) if direction == "-->" else
              Arrow("server", "-->>", "chat", in_words(message))
              for direction, message in messages if methods[message["id"]] not in background()]
    assert arrows == drawn
    assert {one.words[0] for one in drawn if one.start == "chat"} | background() == \
        set(methods.values())


@needs_terminal
def test_a_turn_is_as_it_is_drawn(tmp_path):
    """Between chat.py and the demo's model and server stands somebody who writes down what passes
    by."""
    seen: list[Arrow] = []
    site = Site()

    def passing(visit: Visit, url: str) -> requests.Response:
        kept = {name: value for name, value in visit.headers.items()
                if name not in ("host", "connection", "content-length")}
        return requests.request(visit.method, url, data=visit.body, headers=kept, timeout=PATIENCE)

    def unchanged(answer: requests.Response) -> Reply:
        return Reply(answer.status_code, answer.content,
                     {"Content-Type": answer.headers["Content-Type"]})

    def to_the_server(visit: Visit) -> Reply:
        asked, answer = json.loads(visit.body), passing(visit, server_url)
        if asked["method"] not in background():
            seen.append(Arrow("chat", "->>", "server", in_words(asked)))
            seen.append(Arrow("server", "-->>", "chat", in_words(answer.json())))
        return unchanged(answer)

    def to_the_model(visit: Visit) -> Reply:
        last = json.loads(visit.body)["messages"][-1]
        seen.append(Arrow("chat", "->>", "model", [f"{visit.method} {visit.path}",
                                                   f"{last['role']}: {last['content']}"]))
        answer = passing(visit, model_url + "/chat/completions")
        reply = ModelReply()
        for event in read_events([answer.content]):
            if event["data"] != "[DONE]":
                reply.add(json.loads(event["data"]))
        message = reply.message()
        calls = [f"{call['function']['name']} {call['function']['arguments']}"
                 for call in message.get("tool_calls", [])]
        seen.append(Arrow("model", "-->>", "chat", ["tool_calls", *calls] if calls else
                          ["content", message["content"]]))
        return unchanged(answer)

    site.pages = {"/mcp": to_the_server, "/v1/chat/completions": to_the_model}
    configure(tmp_path, **{"toy-http": {"url": f"{site.origin}/mcp"}})
    with contextlib.closing(site), demo.start(lambda welcome: None) as ([server, _], model_url):
        server_url = server["url"]
        with Terminal("chat.py", cwd=tmp_path, OPENAI_BASE_URL=f"{site.origin}/v1",
                      MODEL="pretend-model") as terminal:
            terminal.wait_for("\nYou: ")
            seen.append(Arrow("you", "->>", "chat", [QUESTION]))
            answer = as_seen(terminal.ask(QUESTION)).partition("\nA: ")[2].strip()
            seen.append(Arrow("chat", "-->>", "you", [answer]))

    assert seen == diagram_after("**Function calling**")


# ── Signing in ───────────────────────────────────────────────────────────────────────────

class Passage(NamedTuple):
    """One request, or one answer, with the names of all that it carries."""
    start: str
    line: str
    end: str
    what: str            # "POST /token", or "200"
    carries: set[str]    # {"code", "code_verifier", "grant_type", ...}


BROWSER = {"User-Agent": "a browser"}


def names_in(address: str) -> set[str]:
    return set(dict(parse_qsl(urlsplit(address).query)))


def written_down(site: Site, name: str, seen: list[Passage],
                 before: Callable[[Visit], object] = lambda visit: None) -> None:
    """From now on, what this site is asked and what it answers is written down."""
    def watched(page: Callable[[Visit], Reply]) -> Callable[[Visit], Reply]:
        def answer(visit: Visit) -> Reply:
            before(visit)
            who = "browser" if visit.headers["user-agent"] == BROWSER["User-Agent"] else "chat"
            is_json = visit.headers.get("content-type") == "application/json"
            body = set(json.loads(visit.body)) if is_json else set(visit.form)
            headers = {"Authorization"} if "authorization" in visit.headers else set()
            seen.append(Passage(who, "->>", name, f"{visit.method} {visit.path}",
                                {*visit.query, *body, *headers}))
            reply = page(visit)
            back = reply.headers.get("Location", "")
            what = f"{reply.status} {urlsplit(back).path}".strip()
            found = set(reply.body) if isinstance(reply.body, dict) else set()
            seen.append(Passage(name, "-->>", who, what, {*reply.headers, *found,
                                                          *names_in(back)}))
            return reply

        return answer

    site.pages = {path: watched(page) for path, page in site.pages.items()}


@pytest.fixture
def world(tmp_path):
    with contextlib.closing(World(tmp_path)) as world:
        yield world


def test_a_sign_in_is_as_it_is_drawn(world):
    seen: list[Passage] = []
    shown = threading.Event()

    def go_there(url: str) -> None:  # what a browser does: it goes where it is sent
        back = requests.get(url, headers=BROWSER, allow_redirects=False,
                            timeout=PATIENCE).headers["Location"]
        seen.append(Passage("browser", "->>", "chat", f"GET {urlsplit(back).path}",
                            names_in(back)))
        page = requests.get(back, headers=BROWSER, timeout=PATIENCE)
        sentences = re.findall(r"\w[^<>.]*\.", page.text)
        seen.append(Passage("chat", "-->>", "browser", str(page.status_code), set(sentences)))
        shown.set()

    def open_browser(url: str) -> bool:
        seen.append(Passage("chat", "->>", "browser", f"open {urlsplit(url).path}", names_in(url)))
        threading.Thread(target=go_there, args=[url], daemon=True).start()
        return True

    # (The page and the token come in two threads: what the browser has got is to be written down
    # before the token is.)
    written_down(world.auth_server, "auth", seen,
                 lambda visit: visit.path == "/token" and shown.wait(PATIENCE))
    written_down(world.server, "server", seen)
    assert world.call(world.auth(browser=open_browser)) == 200

    drawn = diagram_after("### Servers where you sign in (OAuth)")
    assert [(one.start, one.line, one.end, one.words[0]) for one in drawn] == \
        [one[:4] for one in seen]
    for arrow, passage in zip(drawn, seen, strict=True):
        named = " ".join(arrow.words[1:]).split(", ") if arrow.words[1:] else []
        assert set(named) <= passage.carries, arrow
    # Only the second request to the server carries a token.
    assert [one.words[1:] for one in drawn if one.words[0] == "POST /mcp"] == [
        [], ["Authorization"]]
    assert ["Authorization" in one.carries for one in seen if one.what == "POST /mcp"] == [
        False, True]
