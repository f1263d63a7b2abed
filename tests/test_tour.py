"""--tour: the program stops at every message, and says what it is for and who has made it."""

import ast
import re
import socket
import time
from types import SimpleNamespace

import pytest
from asking import POST, form, server_that_asks, string
from folder import configure, model_for, needs_terminal, tools
from little_server import LittleServer
from patience import PATIENCE, eventually
from scripted_model import says, wants
from scripted_server import HANDSHAKE, new, progress, result
from terminal import CTRL_C, CTRL_D, ROOT, Terminal, as_seen, run

from chapters import jobs, trace
from chapters.inboxes import Inbox
from chapters.lists import METHODS, pages_of
from chapters.outside import Failure
from chapters.tour import Tour

STOP, PROMPT = "q: end the tour]\n", "\nYou: "
SECRET = "s3cret-value"


@pytest.fixture
def model(tmp_path):
    with model_for(tmp_path) as model:
        yield model


def walk(terminal: Terminal, until: str = PROMPT) -> list[str]:
    """Press Enter at each stop. What each has shown; at last, what came when there was no more."""
    seen = []
    while True:
        news = eventually(lambda: (new := terminal.text[terminal.read_up_to:]) and any(
            one in new for one in (STOP, until)) and new)
        end = min((one for one in (STOP, until) if one in news), key=news.index)
        seen.append(terminal.wait_for(end))
        if end == until:
            return seen
        terminal.type("\n")


def walk_to(terminal: Terminal, *words: str) -> str:
    """Press Enter until a stop shows these words, and return what it shows."""
    while not all(one in (seen := terminal.wait_for(STOP)) for one in words):
        terminal.type("\n")
    return seen


def ask(terminal: Terminal, question: str) -> list[str]:
    terminal.type(question + "\n")
    return walk(terminal)


def said(stop: str) -> str:
    """What a stop has shown, in one line."""
    return " ".join(stop.split())


def gists(stops: list[str]) -> list[str]:
    """Of each stop: who, and what, like "--> toy tools/list" or "<-- toy result"."""
    found = []
    for stop in stops:
        arrows = re.findall(r"^(--> |<-- )(.+?)  (.*)", stop, re.M)
        if arrows:  # (the last: a response's headers may come before its message)
            arrow, name, rest = arrows[-1]
            what = re.search(r'"method": "(.+?)"|^ {10}"(result|error)"|(no answer)|'
                             r'"(tool_calls)"|"role": "(tool)"|"(content)"', stop, re.M)
            found.append(f"{arrow}{name} {next(filter(None, what.groups()), '')}" if what else rest)
    return found


# ── What it shows ────────────────────────────────────────────────────────────────────────

@needs_terminal
def test_a_whole_turn_of_the_demo(tmp_path):
    with Terminal("chat.py", "--demo", "--tour", cwd=tmp_path) as terminal:
        start = gists(walk(terminal))
        assert start[0] in ("--> toy-http tools/list", "--> toy-stdio server/discover")
        for server in "toy-http", "toy-stdio":
            for method in METHODS.values():
                assert f"--> {server} {method}" in start
            assert start.count(f"<-- {server} result") == 5  # to each of these, and server/discover
        turn = ask(terminal, "What is 17 + 25?")
        assert gists(turn) == ["--> the model content", "<-- the model tool_calls",
                               "--> toy-http tools/call", "<-- toy-http result",
                               "--> the model tool", "<-- the model content"]
        for stop, words in zip(turn, ["A model remembers nothing", "A model can't call anything",
                                      "The model wants this tool", "The answer:",
                                      "The whole conversation again", "The model's last word"],
                               strict=False):
            assert words in said(stop)
        assert "Mcp-Name: add" in turn[2] and "HTTP 200 OK" in turn[3]
        assert "\nA: The tool add says: 17 + 25 = 42.\n" in turn[5], "before the tour goes on"
        assert turn[6] == "\nYou: "
        terminal.type(CTRL_D)
        assert terminal.exit_status() == 0


@needs_terminal
def test_an_older_server_over_http(tmp_path, model, http_server):
    server = http_server({"tools/list": {"tools": [{"name": "add", "inputSchema": {}}]}},
                         old="2025-06-18", session=SECRET)
    configure(tmp_path, old=server)
    with Terminal("chat.py", "--tour", cwd=tmp_path) as terminal:
        first, refused, hello, agreed, done, again, listed, *_ = walk(terminal)
    assert gists([first, refused, hello, agreed, done, again, listed]) == [
        "--> old tools/list", "<-- old error", "--> old initialize", "<-- old result",
        "--> old notifications/initialized", "--> old tools/list", "<-- old result"]
    assert "our first message to this server" in said(first)
    assert "first message" not in said(again)
    assert "HTTP 400" in refused and "we shake hands" in said(refused)
    assert "Mcp-Session-Id: ***" in agreed and "the id of our session" in said(agreed)
    assert "Mcp-Session-Id: ***" in done and "nobody answers it" in said(done)
    assert "HTTP 202" in again, "what came of the notification is shown with the next message"
    assert "shake_hands (" in said(hello) and "Connection.notify (chat.py:" in said(done)
    assert SECRET not in terminal.text


@needs_terminal
def test_an_older_server_over_stdio(tmp_path, model, stdio_server):
    listed = {"tools": [{"name": "add", "inputSchema": {}}]}
    program = stdio_server({"initialize": HANDSHAKE, "tools/list": listed})
    configure(tmp_path, old={"command": "python", "args": [str(program.folder / "program.py")],
                             "cwd": str(program.folder)})
    with Terminal("chat.py", "--tour", cwd=tmp_path) as terminal:
        stops = walk(terminal)
        assert gists(stops)[:7] == [
            "--> old server/discover", "<-- old error", "--> old initialize", "<-- old result",
            "--> old notifications/initialized", "--> old tools/list", "<-- old result"]
        assert "the server refuses" in said(stops[1]) and "A notification" not in said(stops[3])
        assert "Connection.notify (chat.py:" in said(stops[4]) and "shake_hands (" in said(stops[4])


@needs_terminal
def test_a_tool_that_fails(tmp_path):
    with Terminal("chat.py", "--demo", "--tour", cwd=tmp_path) as terminal:
        walk(terminal)
        turn = ask(terminal, "Fail on toy-stdio")
    assert '"isError": true' in turn[3] and "The tool has failed, and says why." in said(turn[3])
    assert "[Error calling tool fail: This tool always fails." in turn[4]
    assert "This tool always fails" in turn[4].partition("--> the model")[2], "the model reads it"


@needs_terminal
def test_an_error_in_place_of_a_result(tmp_path, model):
    model.script += [wants("s__f", {}), says("I can't.")]
    refusal = {"error": {"code": -32602, "message": "Unknown tool"}}
    with LittleServer({"f": {"answer": lambda arguments: refusal}}) as server:
        configure(tmp_path, s=server)
        with Terminal("chat.py", "--tour", cwd=tmp_path) as terminal:
            walk(terminal)
            turn = ask(terminal, "Go")
    assert gists(turn)[2:4] == ["--> s tools/call", "<-- s error"]
    assert "An error in place of a result" in said(turn[3])
    assert "Connection.request (" in said(turn[3])


@needs_terminal
def test_a_server_that_is_down_and_one_that_works(tmp_path, model):
    with socket.socket() as nobody, LittleServer(tools("f")) as server:
        nobody.bind(("127.0.0.1", 0))  # and doesn't listen
        configure(tmp_path, down={"url": f"http://127.0.0.1:{nobody.getsockname()[1]}/mcp"},
                  works=server)
        with Terminal("chat.py", "--tour", cwd=tmp_path) as terminal:
            stops = walk(terminal)
    [failed] = [stop for stop in stops if "<-- down" in stop]
    assert re.search(r"^<-- down  no answer: nobody answers at [\d.:]+\. Is the server running\?",
                     failed, re.M)
    assert "costs only its own tools" in said(failed)
    assert "Connection.request (chat.py:" in said(failed)
    assert "  - down: nobody answers" in terminal.text and "  - works: 1 tool" in terminal.text


@needs_terminal
def test_progress_and_a_question_from_an_older_server(tmp_path, model, http_server, stdio_server):
    model.script += [wants("db__provision", {}), says("Done.")]
    server = server_that_asks(http_server, stdio_server, POST, form(region=string()))
    configure(tmp_path, db=server)
    with Terminal("chat.py", "--tour", cwd=tmp_path) as terminal:
        walk(terminal)
        terminal.type("Go\n")
        asked = walk(terminal, "\n> ")
        assert gists(asked)[-2:] == ["--> db tools/call", "<-- db elicitation/create"]
        assert "an older server" in said(asked[-2]).lower()
        terminal.type("eu\n")
        terminal.wait_for("\n> ")
        terminal.type("y\n")
        rest = walk(terminal)
    assert gists(rest)[:2] == ["--> db result", "<-- db result"]
    assert "Our answer to a request of the server's own" in said(rest[0])
    assert "A: Done." in rest[-2]


@needs_terminal
def test_each_progress_is_a_stop(tmp_path, model, http_server):
    def count(message):
        yield progress(message, 1, total=2)
        yield result(message, new({"content": []}))

    model.script += [wants("s__count", {}), says("Done.")]
    configure(tmp_path, s=http_server({"tools/list": new({"tools": [{"name": "count"}]}),
                                       "tools/call": count}))
    with Terminal("chat.py", "--tour", cwd=tmp_path) as terminal:
        walk(terminal)
        turn = ask(terminal, "Count")
    assert gists(turn)[3:5] == ["<-- s notifications/progress", "<-- s result"]
    assert "How far the call" in said(turn[3])


@needs_terminal
def test_it_looks_as_the_readme_says(tmp_path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```\n(--> toy-stdio.*?)```", readme, re.S)
    with Terminal("chat.py", "--demo", "--tour", cwd=tmp_path) as terminal:
        walk(terminal)
        terminal.type("What is 17 + 25 on toy-stdio?\n")
        seen = walk_to(terminal, "tools/call")
    start, end = example.split("            ...\n")
    assert start in seen and re.sub(r"\d+-\d+", "...", seen).endswith(end)


# ── Which lines ──────────────────────────────────────────────────────────────────────────

def test_the_lines_that_it_names_are_those_of_the_functions(tmp_path):
    done = run("chat.py", "--demo", "--tour", "What is 17 + 25?", cwd=tmp_path)
    shown = said(done.stderr)
    tree = ast.parse((ROOT / "chat.py").read_text(encoding="utf-8"))
    lines = {}
    for node in ast.walk(tree):
        for one in ast.iter_child_nodes(node):
            if isinstance(one, ast.FunctionDef):
                prefix = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
                lines[prefix + one.name] = f"{one.lineno}-{one.end_lineno}"
    named = set()
    for first, where, callers in re.findall(r"by ([\w.]+) \(chat\.py:([\d-]+)\)"
                                            r"((?:,(?: called by)? [\w.]+ \([\d-]+\))*)", shown):
        named |= {(first, where), *re.findall(r"([\w.]+) \(([\d-]+)\)", callers)}
    assert {name for name, _ in named} >= {
        "Connection.request", "meet", "greet_and_request", "Connection.ask", "list_tools",
        "Chat.run_tool", "stream_reply"}
    assert [one for one in named if lines[one[0]] != one[1]] == []


def test_of_each_message_it_says_who_has_made_it(tmp_path):
    done = run("chat.py", "--demo", "--tour", "What is 17 + 25 on toy-http?", cwd=tmp_path)
    made = {}
    for stop in re.split(r"\n(?=--> |<-- )", done.stderr):
        for gist in gists([stop]):
            by = re.search(r"\n(?:Made|Read|Taken out of the inbox) by (.+?)\.\n", stop, re.S)
            made.setdefault(gist, []).append(said(by[1]) if by else "")
    for gist, makers in made.items():
        if not gist.startswith("HTTP"):  # (headers alone have no maker)
            who = "stream_reply" if "the model" in gist else "Connection.request"
            assert all(one.startswith(f"{who} (chat.py:") for one in makers), (gist, makers)
    [call] = made["--> toy-http tools/call"]
    assert "Chat.run_tool (" in call and "list_tools" not in call
    assert any("list_tools (" in one for one in made["--> toy-stdio tools/list"])


# ── How one goes on ──────────────────────────────────────────────────────────────────────

@needs_terminal
@pytest.mark.parametrize("keys", ["q\n", "Q\n", CTRL_D])
def test_q_or_ctrl_d_ends_the_tour_and_the_chat_goes_on(tmp_path, keys):
    with Terminal("chat.py", "--demo", "--tour", cwd=tmp_path) as terminal:
        terminal.wait_for(STOP)
        terminal.type(keys)
        rest = terminal.wait_for(PROMPT)
        assert "toy-http: 5 tools" in rest and "toy-stdio: 5 tools" in rest
        assert "[Calling add...]\n\nA: The tool add says: 17 + 25 = 42." in \
            as_seen(terminal.ask("What is 17 + 25?"))
        assert terminal.text.count(STOP) == 1 and len(re.findall("^(-->|<--) ", rest, re.M)) == 0
        terminal.type("quit\n")
        assert terminal.exit_status() == 0


@needs_terminal
def test_s_stops_only_at_what_is_new(tmp_path):
    with Terminal("chat.py", "--demo", "--tour", cwd=tmp_path) as terminal:
        terminal.wait_for(STOP)
        terminal.type("s\n")
        stops = walk(terminal)
        words = [" ".join(one.split()).rpartition("} ")[2].partition(" Made by")[0]
                 for one in stops[:-1]]
        assert len(set(words)) == len(words) < 12
        assert len(ask(terminal, "What is 17 + 25?")) == 7, "these are all new"
        assert len(ask(terminal, "What is 17 + 26?")) == 1, "and now they are not"


@needs_terminal
def test_ctrl_c_at_a_stop_stops_the_question_and_the_message_is_never_sent(tmp_path, model):
    model.script += [wants("s__erase", {}), says("Here.")]
    with LittleServer(tools("erase")) as server:
        configure(tmp_path, s=server)
        with Terminal("chat.py", "--tour", cwd=tmp_path) as terminal:
            walk(terminal)
            terminal.type("Go\n")
            walk_to(terminal, "tools/call")
            assert "[Stopped. This question is forgotten.]" in terminal.press_until(CTRL_C, PROMPT)
            assert "A: Here." in "".join(ask(terminal, "Still there?"))
            assert terminal.exit_status(lambda: terminal.type(CTRL_D)) == 0
        assert server.calls == []


@needs_terminal
def test_ctrl_c_before_the_model_is_asked_asks_nobody(tmp_path, model):
    model.script += [says("Here.")]
    configure(tmp_path)
    with Terminal("chat.py", "--tour", cwd=tmp_path) as terminal:
        terminal.wait_for(PROMPT)
        terminal.type("Go\n")
        walk_to(terminal, "--> the model")
        terminal.press_until(CTRL_C, PROMPT)
        assert "A: Here." in "".join(ask(terminal, "Still there?"))
    assert [sent["messages"][-1]["content"] for sent in model.was_sent] == ["Still there?"]


@needs_terminal
def test_ctrl_c_at_the_start_ends_the_program(tmp_path):
    with Terminal("chat.py", "--demo", "--tour", cwd=tmp_path) as terminal:
        terminal.wait_for(STOP)
        assert terminal.exit_status(lambda: terminal.type(CTRL_C)) == 130
        assert "Traceback" not in terminal.rest()


@needs_terminal
def test_one_question_with_stops_and_only_the_answer_on_standard_output(tmp_path):
    with open(tmp_path / "answer", "wb") as answer, Terminal(
            "chat.py", "--demo", "--tour", "What is 17 + 25?", cwd=tmp_path,
            stdout=answer) as terminal:
        walk_to(terminal, "The model's last word")
        terminal.type("\n")
        assert terminal.exit_status() == 0
    assert (tmp_path / "answer").read_text() == "The tool add says: 17 + 25 = 42.\n"


def test_without_a_keyboard_nothing_stops(tmp_path):
    done = run("chat.py", "--demo", "--tour", "What is 17 + 25?", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "The tool add says: 17 + 25 = 42.\n")
    assert "there is no keyboard" in done.stderr and STOP not in done.stderr
    assert "The model wants this tool." in said(done.stderr)


# ── What must not happen ─────────────────────────────────────────────────────────────────

@needs_terminal
def test_no_secret_and_no_code_for_the_terminal(tmp_path, model, http_server):
    (tmp_path / ".env").write_text(f"OPENAI_API_KEY={SECRET}\nOPENAI_BASE_URL={model.base_url}\n"
                                   "MODEL=scripted\n", encoding="utf-8")
    server = http_server({"tools/list": new({"tools": [{"name": "f", "inputSchema": {}}]}),
                          "tools/call": new({"content": [{"type": "text", "text": "\x1b[2J\x07"}],
                                             "requestState": SECRET})})
    path = "a-secret-in-the-path-of-a-url"
    configure(tmp_path, s={"url": f"{server.url}/{path}?token={SECRET}", "headers": {
        "Authorization": f"Bearer {SECRET}", "X-Key": SECRET}})
    model.script += [wants("s__f", {}), says("Done.")]
    with Terminal("chat.py", "--tour", cwd=tmp_path) as terminal:
        walk(terminal)
        turn = ask(terminal, "Go")
        assert "/mcp/***?token=***" in turn[2] and "Authorization: ***" in turn[2]
    assert server.saw("tools/call")[0].headers["X-Key"] == SECRET
    assert SECRET not in terminal.raw and path not in terminal.raw
    assert "\x1b[2J" not in terminal.raw
    assert "\x07" not in terminal.raw


@needs_terminal
def test_of_several_servers_one_message_at_a_time_is_shown_and_no_answer_before_its_request(
        tmp_path, model):
    model.script += [wants("a__f", {}, "b__f", {}, "c__f", {}), says("Done.")]
    f = tools("f")
    with LittleServer(f) as a, LittleServer(f) as b, LittleServer(f) as c:
        configure(tmp_path, a=a, b=b, c=c)
        with Terminal("chat.py", "--tour", cwd=tmp_path) as terminal:
            stops = walk(terminal) + ask(terminal, "Go")
    for server in "abc":
        assert [one for one in gists(stops) if f" {server} " in one][-2:] == [
            f"--> {server} tools/call", f"<-- {server} result"]
        # (A stop may begin with the lines of another server's HTTP.)
        arrows: dict[str, list[str]] = {}  # by the id of a request
        for block in re.split(r"^(?=-->|<--)", "\n".join(stops), flags=re.M):
            if block[4:].startswith(f"{server}  ") and (found := re.search(r'"id": (\d+)', block)):
                arrows.setdefault(found[1], []).append(block[:3])
        assert arrows and all(one == ["-->", "<--"] for one in arrows.values())
    assert all(len(re.findall(r"^(?:-->|<--) (?:.+?)  (?!HTTP)", one, re.M)) <= 1 for one in stops)


def test_while_somebody_reads_no_time_limit_runs_out():
    tour, inbox, found = Tour(only_answer=False), Inbox(), []

    def wait() -> None:
        try:
            found.extend(inbox.each(seconds=0.2))
        except Failure as failure:
            found.append(str(failure))

    tour.is_watching = True
    jobs.in_background(tour.stop, "-->", "toy", {"id": 1, "method": "ping"}, "", [])
    assert eventually(lambda: tour.row)
    waiting = jobs.in_background(wait)
    waiting.join(1)
    assert waiting.is_alive() and not found
    tour.show_row()
    waiting.join(PATIENCE)
    assert found == ['no answer for 0.2 seconds. If it needs longer, give it a larger "timeout".']
    tour.end()


@needs_terminal
@pytest.mark.parametrize("key", ["\n", "q\n"], ids=["goes on", "has seen enough"])
def test_a_list_whose_first_page_somebody_reads_for_long_has_its_other_pages(
        tmp_path, model, http_server, key):
    pages = [{"tools": [{"name": "one", "inputSchema": {}}], "nextCursor": "p2"},
             {"tools": [{"name": "two", "inputSchema": {}}]}]
    server = http_server({"tools/list": lambda message: new(
        {**pages["cursor" in message["params"]], "ttlMs": 3_600_000})})
    configure(tmp_path, s={"url": server.url, "timeout": 1})
    with Terminal("chat.py", "--tour", cwd=tmp_path) as terminal:
        walk_to(terminal, "nextCursor")
        time.sleep(2.5)  # more than twice the "timeout"
        terminal.type(key)
        walk(terminal)
    assert [seen.message["params"].get("cursor") for seen in server.saw("tools/list")] == [
        None, "p2"]
    assert "left out" not in terminal.text


def test_on_a_tour_no_page_of_a_list_is_left_out_however_long_somebody_reads(http_server, connect):
    server = http_server({"tools/list": [new({"tools": [{"name": "one"}], "nextCursor": "p2"}),
                                         new({"tools": [{"name": "two"}]})]})
    # Its time for a whole list is over at once.
    connection = SimpleNamespace(server=server.entry(timeout=0), ask=connect(server.entry()).ask)
    tour = Tour(only_answer=False)
    pages = list(pages_of(connection, "tools", jobs.Job()))
    tour.end()
    assert [page["tools"][0]["name"] for page in pages] == ["one", "two"]
    assert list(pages_of(connection, "tools", jobs.Job())) == [], "without the tour"


@needs_terminal
def test_what_comes_while_nobody_watches_is_shown_before_the_next_question(tmp_path, model):
    with LittleServer(tools("f")) as server:  # it doesn't say how long its list is true
        configure(tmp_path, s=server)
        with Terminal("chat.py", "--tour", cwd=tmp_path) as terminal:
            walk(terminal)
            stops = ask(terminal, "/tools")
    assert stops[0].startswith("/tools\n  s f: ") and gists(stops) == [
        "--> s tools/list", "<-- s result"]


@pytest.mark.parametrize("message, words", [
    ({"id": 1, "method": "ping"}, "still there"),
    ({"method": "notifications/tools/list_changed"}, "has changed"),
    ({"id": 1, "method": "sampling/createMessage"}, "haven't offered"),
    ({"id": [1], "method": {"a": 1}}, "haven't offered"),
    ({"id": 1, "result": {"resultType": "input_required"}}, "It has a question for you"),
    ({"id": [1], "result": [1]}, "The answer"),
    ({"id": None, "error": "No."}, "refuses"),
])
def test_whatever_a_server_sends_it_has_words_for_it(message, words):
    purpose, made_by = trace.explained("<--", "s", message)
    assert words in purpose and made_by
