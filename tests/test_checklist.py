"""Lines of a correct client's checklist that are stories of their own: arguments that are headers
too, questions to a person, what a server says unasked. The numbers are those of section 12 of the
protocol's reference; other files have the other lines: grep -rn "mark.line(.*46" tests
"""

import contextlib
import json
import re
import threading
import time
import webbrowser
from pathlib import Path

import pytest
from patience import PATIENCE, eventually
from scripted_model import ScriptedModel, says
from scripted_server import HANDSHAKE, SILENCE, Reply, error, new, result
from test_inboxes import QUESTIONS, check_our_answers

from chapters.jobs import finish
from chapters.versions import NEWEST, OLDER
from chat import LLM, Chat, Note, Question, Waiting

DONE = new({"content": [{"type": "text", "text": "done"}]})
CALL = {"name": "do", "arguments": {}}
NOBODY = LLM("none", "no-key", "http://127.0.0.1:9")
CAN_ASK = {"elicitation": {"form": {}, "url": {}}}  # what we declare when a person is there


def test_every_line_of_the_checklist_has_a_test():
    marks = re.findall(r"^@pytest\.mark\.line\(([\d, ]+)\)$", "\n".join(
        path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py")), re.MULTILINE)
    found = {int(number) for mark in marks for number in mark.split(",")}
    assert found == set(range(1, 51)) - {28}  # subscriptions/listen, which we never ask for


def having(**properties):
    return {"type": "object", "properties": properties}


def offers(tools=None, **more):
    """The answer to tools/list: by name, the schema of each tool's arguments."""
    return new({"tools": [{"name": name, "inputSchema": schema} for name, schema in
                          (tools or {"do": having()}).items()], **more})


def old_server(http_server, script, **more):
    return http_server({"tools/list": offers(), "tools/call": DONE} | script, old=OLDER[1], **more)


@pytest.fixture
def chat_with():
    """chat_with(server) is a Chat that has met this server, under the name "s"."""
    with contextlib.ExitStack() as at_the_end:
        def chat_with(server, llm=NOBODY, **more):
            chat = at_the_end.enter_context(Chat(llm, {"s": server.entry(name="s")}, **more))
            finish(chat.meet_servers())
            return chat

        yield chat_with


def nobody(question):
    return None


def fills_in(*typed, then="y"):
    """Somebody who types this into a form, takes what is there for the other fields, and then
    sends it (y), edits it (e), declines (d) or cancels (c)."""
    texts, ends = iter(typed), iter(then * 20)
    return lambda question: next(ends) if question.choices else next(texts, "") or question.default


def happening(events, person=nobody):
    """What comes of these events, and the events. The person answers the Questions."""
    seen: list = []

    def show(event):
        if isinstance(event, Question):
            event.answer = person(event)
        if not isinstance(event, Waiting):
            seen.append(event)

    return finish(events, show), seen


def call(chat, arguments=None, person=nobody):
    """Call the tool "do", as a model would: what the model is told, whether it is a failure, and
    the Questions meanwhile."""
    [told], events = happening(chat.run_tools([{"id": "call_1", "type": "function", "function": {
        "name": "s__do", "arguments": json.dumps(arguments or {})}}]), person)
    return told["content"], events[-1].failed, [one for one in events if isinstance(one, Question)]


# ── Lines 20 to 22: arguments that travel as headers, too ────────────────────────────────


def mirrored(header, kind="string"):
    return {"type": kind, "x-mcp-header": header}


def about_tools(server):
    """The requests but for those in the background, about what else there is."""
    return [seen for seen in server.seen if seen.method.startswith("tools/")]


def params_of(seen):
    """The Mcp-Param-... headers. (For no letters at all there are two ways; both are right.)"""
    return {name.lower().removeprefix("mcp-param-"): value.replace("=?base64??=", "")
            for name, value in seen.headers.items() if name.lower().startswith("mcp-param-")}


@pytest.mark.line(20)
@pytest.mark.parametrize("arguments, headers", [
    ({"region": "us west 1", "count": 42, "dry": True, "plain": "x", "in": {"side": {"it": "y"}}},
     {"region": "us west 1", "count": "42", "dry": "true", "deep-1": "y"}),
    ({"region": "", "count": 0, "dry": False}, {"region": "", "count": "0", "dry": "false"}),
    ({"region": "Zürich", "count": -7.0}, {"region": "=?base64?WsO8cmljaA==?=", "count": "-7"}),
    ({"region": None, "count": None, "in": {"side": None}, "plain": "x"}, {}),
    ({"in": "no object", "it": "elsewhere"}, {}), ({}, {}),
], ids=str)
def test_some_arguments_are_headers_too(http_server, chat_with, arguments, headers):
    schema = having(region=mirrored("Region"), count=mirrored("Count", "integer"),
                    dry=mirrored("Dry", "boolean"), plain={"type": "string"},
                    **{"in": having(side=having(it=mirrored("Deep-1")))})
    server = http_server({"tools/list": offers({"do": schema}), "tools/call": DONE})
    assert call(chat_with(server), arguments)[0] == "done"
    [listing], [seen] = server.saw("tools/list"), server.saw("tools/call")
    assert params_of(seen) == headers and params_of(listing) == {}
    assert seen.message["params"]["arguments"] == arguments, "they are in the message as well"


IN_PLACES = {f"in {place}": {**having(a={"type": "string"}), place: inside} for place, inside in {
    "anyOf": [having(b=mirrored("B"))], "oneOf": [having(b=mirrored("B"))],
    "allOf": [having(b=mirrored("B"))], "not": having(b=mirrored("B")),
    "if": having(b=mirrored("B")), "then": having(b=mirrored("B")),
    "else": having(b=mirrored("B")), "$defs": {"b": mirrored("B")},
    "additionalProperties": mirrored("B"), "patternProperties": {"b": mirrored("B")}}.items()}
INVALID = {
    "no letters": having(a=mirrored("")), "two words": having(a=mirrored("two words")),
    "a colon": having(a=mirrored("a:b")), "a control": having(a=mirrored("a\nb")),
    "an umlaut": having(a=mirrored("ä")), "no text": having(a=mirrored(5)),
    "the same twice": having(a=mirrored("Region"), b=having(c=mirrored("REGION"))),
    **{f"a type {kind}": having(a=mirrored("A", kind)) for kind in (
        "number", "object", "array", "null", ["string"], ["string", "null"])},
    "no type": having(a={"x-mcp-header": "A"}), "at the root": having() | {"x-mcp-header": "A"},
    "of a list": having(a={"type": "array", "items": mirrored("A")}),
    "in a list": having(a={"type": "array", "items": having(b=mirrored("B"))}), **IN_PLACES}
VALID = {
    "plain": having(a={"type": "string"}), "deep": having(a=having(b=having(c=mirrored("C")))),
    "odd": having(a=mirrored("x!#$%&'*+-.^_`|~9")), "a name": having(items=mirrored("A")),
    "words": having(a={"type": "string", "description": 'It has "x-mcp-header": "A".'})}


@pytest.mark.line(21)
def test_a_wrong_annotation_costs_its_tool_only(http_server):
    server = http_server({"tools/list": offers(INVALID | VALID)})
    chat = Chat(LLM("none", "no-key"), {"s": server.entry(name="s")})
    with chat:
        _, events = happening(chat.meet_servers())
    assert {tool.name for tool in chat.tools.values()} == set(VALID)
    [note] = [event.text for event in events if isinstance(event, Note)]
    assert ", ".join(INVALID) in note and "can't be used: " in note, "it says which, and why"


@pytest.mark.line(21)
def test_a_tool_that_becomes_invalid_is_left_out(http_server, chat_with):
    lists = [offers({"do": having(a=mirrored("A"))}, ttlMs=1), offers({
        "do": having(a=mirrored(""))})]
    with ScriptedModel(*map(says, ["One.", "Two."])) as model:
        chat = chat_with(http_server({"tools/list": lists}), llm=model.llm)
        assert chat.tools
        happening(chat.ask("One?"))  # after its answer, the list is old
        eventually(lambda: chat.working[0].offers.known["tools"] == [])
        happening(chat.ask("Two?"))
    assert not chat.tools and "tools" not in model.was_sent[1]


@pytest.mark.line(21)
@pytest.mark.parametrize("kind", ["old", "stdio"])
def test_where_there_are_no_such_headers_all_tools_stay(http_server, stdio_server, chat_with, kind):
    script = {"server/discover": new({"supportedVersions": [NEWEST]}),
              "tools/list": offers(INVALID | VALID)}
    chat = chat_with(stdio_server(script) if kind == "stdio" else http_server(script, old=OLDER[0]))
    assert {tool.name for tool in chat.tools.values()} == set(INVALID | VALID)


@pytest.mark.line(22)
def test_after_a_header_mismatch_the_list_is_fetched_anew(http_server, chat_with):
    def mismatch(message):
        return Reply(400, error(message, -32020, "Header mismatch"))

    lists = [offers({"do": having(a=mirrored("Old"))}), offers({"do": having(a=mirrored("New"))})]
    server = http_server({"tools/list": lists, "tools/call": [mismatch, DONE, mismatch]})
    chat = chat_with(server)
    assert call(chat, {"a": "x"})[0] == "done"
    assert [seen.method for seen in about_tools(server)] == ["tools/list", "tools/call"] * 2
    assert [params_of(seen) for seen in server.saw("tools/call")] == [{"old": "x"}, {"new": "x"}]
    assert call(chat, {"a": "x"})[1] and len(server.saw("tools/call")) == 4, "only one retry"


# ── Lines 23 to 25, 43: a tool asks the person something ─────────────────────────────────


def asks(questions=None, state=None):
    """A new server's way: not yet a result. We call again, with the answers."""
    return {"resultType": "input_required", **({"inputRequests": questions} if questions else {}),
            **({} if state is None else {"requestState": state})}


def form(message="Which?", method="elicitation/create", **properties):
    return {"method": method, "params": {
        "mode": "form", "message": message, "requestedSchema": having(**properties)}}


def legs(server):
    """The params of each call, without those about us."""
    return [{key: value for key, value in seen.message["params"].items() if key != "_meta"}
            for seen in server.saw("tools/call")]


def message_of(seen):
    return getattr(seen, "message", seen)  # over stdio, it is nothing else


def accepted(**content):
    return {"action": "accept", "content": content}


@pytest.mark.line(23)
def test_a_call_that_needs_an_answer_is_made_again_with_it(http_server, chat_with):
    state = ' {"opaque":  "blöb"}\n\u2028'
    region, name = {"type": "string", "enum": ["eu", "us"]}, {"type": "string"}
    server = http_server({"tools/list": offers(), "tools/call": [
        asks({"where": form(region=region)}, state), asks({"who": form(name=name)}), DONE, DONE]})
    chat = chat_with(server, person=True)
    assert call(chat, {"n": 1}, fills_in("us", "Ada"))[:2] == ("done", False)
    assert call(chat, {"n": 2})[0] == "done"

    first = {"name": "do", "arguments": {"n": 1}}
    assert legs(server) == [
        first,
        {**first, "inputResponses": {"where": accepted(region="us")}, "requestState": state},
        {**first, "inputResponses": {"who": accepted(name="Ada")}},  # and no state
        {"name": "do", "arguments": {"n": 2}}]                       # nothing is left over
    assert len({seen.message["id"] for seen in about_tools(server)}) == 5
    for seen in server.seen:
        assert seen.verb == "POST" and seen.message["params"]["_meta"][
            "io.modelcontextprotocol/clientCapabilities"] == CAN_ASK


@pytest.mark.line(23, 50)
def test_a_server_that_never_has_enough_is_left_after_ten_rounds(http_server, chat_with):
    rounds = iter(range(1000))
    server = http_server({"tools/list": offers(), "tools/call": lambda message: asks(
        {"q": form(f"Question {next(rounds)}?")}, "more")})
    text, failed, _ = call(chat_with(server, person=True), None, fills_in())
    assert failed and text.startswith("Error") and 10 <= len(legs(server)) <= 11


@pytest.mark.line(23)
def test_a_question_that_was_declined_is_not_asked_again(http_server, chat_with):
    server = http_server({"tools/list": offers(), "tools/call": asks({"q": form()})})
    _, failed, questions = call(chat_with(server, person=True), None, fills_in(then="d"))
    assert failed and len(questions) == 1
    assert legs(server) == [CALL, {**CALL, "inputResponses": {"q": {"action": "decline"}}}]


@pytest.mark.line(24)
def test_a_server_that_sends_only_a_state_is_asked_again_a_little_later(http_server, chat_with):
    states, times = iter("abc"), []

    def busy(message):
        times.append(time.monotonic())
        return asks(state=next(states)) if len(times) < 4 else DONE

    server = http_server({"tools/list": offers(), "tools/call": busy})
    assert call(chat_with(server))[0] == "done"
    assert legs(server) == [CALL, *({**CALL, "requestState": state} for state in "abc")]
    assert all(later - sooner > 0.04 for sooner, later in zip(times, times[1:], strict=False))


@pytest.mark.line(25)
@pytest.mark.parametrize("person, method", [
    ({}, "elicitation/create"), ({"person": True}, "sampling/createMessage"),
    ({"person": True}, "roots/list"), ({"person": True}, "riddle")], ids=str)
def test_what_we_never_offered_is_not_answered(http_server, chat_with, person, method):
    server = http_server({"tools/list": offers(), "tools/call": asks(
        {"fine": form(), "not": form(method=method)}, "state")})
    assert call(chat_with(server, **person), None, fills_in())[1] and legs(server) == [CALL]


@pytest.fixture(params=["new", "old", "stdio"])
def asking(request, http_server, stdio_server):
    """asking(params): a server whose tool asks this, and a function for what was answered."""
    def asking(params):
        question = {"method": "elicitation/create", "params": params}
        old_question = {"jsonrpc": "2.0", "id": "s-1", **question}
        if request.param == "new":
            server = http_server({"tools/list": offers(),
                                  "tools/call": [asks({"q": question}), DONE]})
            return server, lambda: legs(server)[-1]["inputResponses"]["q"]
        if request.param == "stdio":
            server = stdio_server(f"""
                answers = {({"initialize": HANDSHAKE, "tools/list": offers(), "tools/call": DONE})}
                for message in incoming():
                    if message["method"] == "tools/call":
                        send({old_question})
                        next(incoming())  # it waits for the answer
                    if message["method"] in answers:
                        answer(message, answers[message["method"]])
                    elif "id" in message:
                        refuse(message, -32601)
            """)
        else:
            def do(message):
                yield old_question
                assert answered.wait(PATIENCE)
                yield result(message, DONE)

            answered = threading.Event()
            server = http_server({
                "tools/list": offers(), "tools/call": do,
                "": lambda message: answered.set() or Reply(202)}, old=OLDER[0])
        return server, lambda: next(one["result"] for one in map(message_of, server.seen)
                                    if one.get("id") == "s-1")

    return asking


FIELDS = having(  # a text, numbers, yes or no, one of several, many of several
    name={"type": "string", "default": "Ada"}, age={"type": "integer", "default": 36},
    height={"type": "number", "default": 1.65}, happy={"type": "boolean", "default": True},
    size={"type": "string", "enum": ["S", "M"], "default": "M"},
    pets={"type": "array", "items": {"type": "string", "enum": ["cat", "dog"]},
          "default": ["cat", "dog"]}, nickname={"type": "string"})
DEFAULTS = {"name": "Ada", "age": 36, "height": 1.65, "happy": True, "size": "M",
            "pets": ["cat", "dog"]}


@pytest.mark.line(43)
@pytest.mark.parametrize("person, answer", [
    (fills_in, accepted(**DEFAULTS)),
    (lambda: fills_in("Bob", "40", "1.8", "no", "S", "dog", "b"), accepted(
        name="Bob", age=40, height=1.8, happy=False, size="S", pets=["dog"], nickname="b")),
    (lambda: fills_in("Eve", *[""] * 6, "Bob", then="ey"), accepted(**DEFAULTS | {"name": "Bob"})),
    (lambda: fills_in(then="d"), {"action": "decline"}),
    (lambda: fills_in(then="c"), {"action": "cancel"}), (lambda: nobody, {"action": "cancel"}),
], ids=["defaults", "typed", "edited", "declined", "cancelled", "left"])
def test_a_form(asking, chat_with, person, answer):
    server, answered = asking({"message": "You?", "requestedSchema": FIELDS})  # without a "mode"
    _, _, questions = call(chat_with(server, person=True), None, person())
    assert answered() == answer and "You?" in questions[0].text
    assert [set(one.choices) for one in questions[7:8]] in ([], [{"y", "e", "d", "c"}])


class Browser(webbrowser.BaseBrowser):
    opened: list[str] | None = None  # only while a test runs

    def open(self, url, new=0, autoraise=True):
        if self.opened is None:
            return False  # so the next browser is tried
        self.opened.append(url)
        return True


@pytest.mark.line(43)
@pytest.mark.parametrize("typed", ["y", "d", "c", "", None])
def test_an_address_is_opened_only_after_a_yes(asking, chat_with, http_server, monkeypatch, typed):
    browser, elsewhere, asked = Browser(), http_server({}), []
    webbrowser.register("of-a-test", None, browser, preferred=True)
    monkeypatch.setattr(browser, "opened", [])
    monkeypatch.setenv("BROWSER", "of-a-test")
    url = elsewhere.url + "/sign?the=papers&for=xn--80ak6aa92e"
    server, answered = asking({"mode": "url", "message": "Please sign.", "url": url,
                               "elicitationId": "e-1"})
    call(chat_with(server, person=True), None, lambda question: asked.append(question) or typed)
    assert url in asked[0].text, "all of it"
    if typed == "y":
        assert answered() == {"action": "accept"}
        assert eventually(lambda: browser.opened) == [url]
    else:
        assert answered()["action"] in ("decline", "cancel") and browser.opened == []
    assert elsewhere.connections == 0, "we never look there ourselves"


# ── Lines 31 to 34: a session, and the stream for what a server says unasked ────────────


def gets(server):
    return [seen for seen in server.seen if seen.verb == "GET"]


@pytest.mark.line(31, 34, 37)
def test_whatever_follows_belongs_to_the_session(http_server, chat_with):
    def another(message):
        return Reply(200, result(message, offers()), {"Mcp-Session-Id": "not-this-one"})

    server = old_server(http_server, {"GET": lambda message: [SILENCE],
                                      "tools/list": another}, session="visit-1")
    chat = chat_with(server, person=True)
    [stream] = eventually(lambda: gets(server))
    call(chat)
    chat.close()
    assert server.saw("initialize")[0].message["params"]["capabilities"] == CAN_ASK
    later = server.seen[server.methods.index("initialize") + 1:]
    assert {seen.verb for seen in later} == {"POST", "GET", "DELETE"}
    for seen in later:
        assert seen.headers["Mcp-Session-Id"] == "visit-1"
        assert seen.headers["MCP-Protocol-Version"] == "2025-06-18"
    assert stream.headers["Accept"] == "text/event-stream" and not stream.headers["Last-Event-ID"]


@pytest.mark.line(33)
def test_what_a_server_asks_on_the_get_stream_is_answered(http_server, chat_with):
    server = old_server(http_server, {"GET": lambda message: [*QUESTIONS, SILENCE]},
                        session="visit-1")
    chat_with(server, person=True)
    answers = eventually(lambda: (found := [
        seen for seen in server.seen if seen.verb == "POST" and not seen.method])[2:] and found)
    check_our_answers([seen.message for seen in answers])
    assert {seen.headers["Mcp-Session-Id"] for seen in answers} == {"visit-1"}


@pytest.mark.line(34)
@pytest.mark.parametrize("status", [400, 404, 405, 409, 500])
def test_a_server_may_have_no_get_stream(http_server, chat_with, status):
    server = old_server(http_server, {"GET": Reply(status)})
    chat = chat_with(server, person=True)
    assert eventually(lambda: gets(server)) and call(chat)[0] == "done"


@pytest.mark.line(34)
def test_a_get_stream_that_ends_is_taken_up_where_it_ended(http_server, chat_with):
    def closes(message):
        yield b"id: 5\nretry: 20\ndata:\n\n"

    server = old_server(http_server, {"GET": [closes, SILENCE]}, session="visit-1")
    chat_with(server, person=True)
    again = eventually(lambda: gets(server)[1:])[0]
    assert again.headers["Last-Event-ID"] == "5" and again.headers["Mcp-Session-Id"] == "visit-1"
