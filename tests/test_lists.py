"""chapters/lists.py: what a server has, in pages, and kept up to date in the background. The
servers and the model follow scripts (scripted_server.py, scripted_model.py)."""

import re
import threading

import pytest
from chats import (
    CARD,
    CHANGED,
    HOUR,
    OK,
    POEM,
    TOWNS,
    asked,
    everything,
    go,
    listing,
    meetings,
    settle,
    type_in,
)
from patience import PATIENCE, eventually
from scripted_model import ScriptedModel, refusal, wants
from scripted_server import SILENCE, Reply, error, new, result

from chapters.events import Note
from chapters.jobs import Job, finish
from chapters.lists import MAX_PAGES
from chapters.outside import Failure, Problem
from chapters.resources import all_of
from chapters.versions import NEWEST
from chat import Chat, list_tools


def tools(*names, **more):
    return new({"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in names],
                **more})


@pytest.fixture
def meet(http_server):
    with meetings(http_server) as meet:
        yield meet


def lists_of(server):
    """Each list that a server has been asked for, in this order, and server/discover."""
    return [one for one in server.methods if re.search("/list$|/discover$", one)]


def gone(message):
    """No answer, and nobody has to wait before the next try."""
    return Reply(503, b"", {"Retry-After": "0"})


# ── Pages ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.line(39)
def test_a_list_may_come_in_pages(http_server, connect):
    # "" is a bookmark like any other; null, or none, is the end.
    pages = {None: tools("a", nextCursor="2"), "2": tools("b", nextCursor=""),
             "": tools("c", "d", nextCursor=None)}
    server = http_server({"tools/list": lambda message: pages[message["params"].get("cursor")]})
    assert [one["name"] for one in list_tools(connect(server.entry()))] == ["a", "b", "c", "d"]
    assert [seen.message["params"].get("cursor") for seen in server.seen] == [None, "2", ""]


@pytest.mark.line(39)
def test_over_stdio_too(stdio_server, connect):
    program = stdio_server(f"""
        pages = {{None: {tools("a", nextCursor="2")}, "2": {tools("b")}}}
        for message in incoming():
            if message["method"] == "server/discover":
                answer(message, {{"supportedVersions": ["{NEWEST}"]}})
            else:
                answer(message, pages[message["params"].get("cursor")])
    """)
    assert [one["name"] for one in list_tools(connect(program.entry()))] == ["a", "b"]


@pytest.mark.parametrize("cursors", [["x"], [""], ["1", "2", "3"]], ids=str)
@pytest.mark.line(39)
def test_bookmarks_that_lead_in_a_circle_are_not_followed(http_server, connect, cursors):
    count = iter(range(1000))
    server = http_server({"tools/list": lambda message: tools(
        "a", "b", nextCursor=cursors[next(count) % len(cursors)])})
    assert [one["name"] for one in list_tools(connect(server.entry()))] == ["a", "b"]
    assert len(server.seen) <= len(cursors) + 1


@pytest.mark.line(50)
def test_a_list_without_end_ends(http_server, connect):
    count = iter(range(10_000))
    server = http_server({"tools/list": lambda message: tools(nextCursor=f"{next(count)}")})
    assert list_tools(connect(server.entry(timeout=PATIENCE))) == []
    assert len(server.seen) == MAX_PAGES


def test_a_bookmark_that_is_too_old_is_a_failure_until_the_list_is_asked_for_anew(
        http_server, connect):
    def too_old(message):
        return Reply(400, error(message, -32602, "Invalid cursor"))

    server = http_server({"tools/list": [
        tools("a", nextCursor="2"), too_old, tools("b", nextCursor="2"), tools("c")]})
    connection = connect(server.entry())
    with pytest.raises(Failure, match="Invalid cursor"):
        list_tools(connection)
    assert connection.offers.is_old("tools")
    assert [one["name"] for one in list_tools(connection)] == ["b", "c"]


@pytest.mark.parametrize("code", [-32601, -32602, -32600, -32000])
def test_a_server_without_tools_may_say_so_in_many_ways(http_server, connect, code):
    about = {"protocolVersion": "2025-06-18", "capabilities": {"prompts": {}}}
    refuses = http_server({"tools/list": lambda message: Reply(200, error(message, code)),
                           "initialize": about}, old="2025-06-18")
    assert list_tools(connect(refuses.entry())) == []
    about["capabilities"] = {"tools": {}}
    if code != -32601:
        with pytest.raises(Failure):
            list_tools(connect(refuses.entry()))


def test_a_server_that_has_broken_down_is_not_one_without_tools(http_server, connect):
    server = http_server({
        "tools/list": lambda message: Reply(200, error(message, -32603, "The database is down.")),
        "initialize": {"protocolVersion": "2025-06-18", "capabilities": {}}}, old="2025-06-18")
    with pytest.raises(Failure, match="The database is down."):
        list_tools(connect(server.entry()))


def test_a_tool_that_is_on_two_pages_is_one_tool(http_server, connect):
    server = http_server({"tools/list": [tools("a", "b", nextCursor="2"), tools("b", "c")]})
    assert [one["name"] for one in list_tools(connect(server.entry()))] == ["a", "b", "c"]


@pytest.mark.parametrize("wrong", [{}, {"tools": None}, {"tools": {}}, {"tools": "add"},
                                   {"tools": [None, 3, "add", [], {}, {"name": None}]},
                                   {"tools": [], "nextCursor": 3}, {"tools": [], "nextCursor": []}],
                         ids=str)
def test_a_list_may_be_nonsense(http_server, connect, wrong):
    server = http_server({"tools/list": new(wrong)})
    assert list_tools(connect(server.entry())) == []
    assert len(server.seen) == 1


def test_that_a_list_has_no_end_is_said(http_server, connect):
    count, said = iter(range(10_000)), []
    server = http_server({"tools/list": lambda message: tools(
        "x" * 2**20, nextCursor=f"{next(count)}")})
    assert len(list_tools(connect(server.entry(timeout=PATIENCE)), Job(said.append))) == 1
    assert [type(one) for one in said] == [Note] and "not all of its tools came" in said[0].text
    assert len(server.seen) < 20, "8 MB are enough"


# ── What it costs ────────────────────────────────────────────────────────────────────────

EACH = ["tools/list", "resources/list", "resources/templates/list", "prompts/list"]
NEW, OLD = None, {"tools": {}, "resources": {}, "prompts": {}}
PROMISES = {what: {"listChanged": True} for what in OLD}
GENERATIONS = pytest.mark.parametrize("old", [NEW, OLD, PROMISES], ids=["new", "old", "promises"])
TTLS = pytest.mark.parametrize("ttl", [None, 0, HOUR])


def at_rest(chat, *servers):
    """Wait until nothing more happens by itself; then count what has happened so far."""
    settle(chat)
    for server in servers:
        if server.old:  # it is also asked for what it says unasked; it has nothing to say
            eventually(lambda server=server: "GET" in server.methods)
    return [len(server.seen) for server in servers]


@TTLS
@GENERATIONS
def test_a_question_with_one_tool_call_costs_three_requests(meet, http_server, old, ttl):
    other = http_server(everything(ttl=ttl, old=old), "" if old is None else "2025-11-25")
    chat, model, server = meet({}, *[wants("s__add", {}), OK] * 2, old=old, ttl=ttl, good=other)
    before, others = at_rest(chat, server, other)
    for number in 1, 2:
        go(chat.ask("Go"))
        at_rest(chat)
        assert len(model.was_sent) == 2 * number
        assert server.methods[before:] == ["tools/call"] * number
        assert other.methods[others:] == []


@pytest.mark.parametrize("ttl", [None, HOUR])
def test_a_program_is_not_asked_for_more_either(stdio_server, ttl):
    program, other = stdio_server(everything(ttl=ttl)), stdio_server(everything(ttl=ttl))
    entries = {"s": program.entry(name="s"), "other": other.entry(name="other")}
    with ScriptedModel(wants("s__add", {}), OK) as model, Chat(model.llm, entries) as chat:
        go(chat.meet_servers())
        settle(chat)
        assert program.methods == other.methods == ["server/discover", *EACH]
        go(chat.ask("Go"))
        settle(chat)
        assert program.methods == ["server/discover", *EACH, "tools/call"]
        assert other.methods == ["server/discover", *EACH] and len(model.was_sent) == 2


@TTLS
@GENERATIONS
def test_at_the_start_each_list_is_asked_for_once(meet, old, ttl):
    gate = threading.Event()
    chat, _, server = meet({"resources/list": lambda it: gate.wait(PATIENCE) and new(
        {"resources": [POEM]})}, old=old, ttl=ttl)
    assert list(chat.tools) == ["s__add"], "nobody waits for the rest"
    gate.set()
    at_rest(chat, server)
    if old is None:
        assert server.methods == ["tools/list", "server/discover", *EACH[1:]]
    else:  # the first was its answer to a request in the new way
        assert lists_of(server) == ["tools/list", *EACH]
        assert len(server.saw("initialize")) == 1


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize("feature, lists", [
    ("tools", []), ("prompts", ["prompts/list"]),
    ("resources", ["resources/list", "resources/templates/list"])])
def test_a_server_is_asked_only_for_what_it_offers(meet, is_old, feature, lists):
    chat, model, server = meet(offers=[feature], old={feature: {}} if is_old else None)
    settle(chat)
    go(chat.ask("Go"))
    settle(chat)
    assert [one for one in server.methods if re.match("[rp].*/list", one)] == lists
    assert ("s__read_resource" in chat.tools) == (feature == "resources")
    assert ("server/discover" in server.methods) == (not is_old)


def test_at_the_start_nobody_waits_for_what_a_server_has_besides_tools(meet):
    chat, _, _ = meet({"server/discover": SILENCE})
    assert list(chat.tools) == ["s__add"]
    go(chat.ask("Go"))  # and neither does the first question


@pytest.mark.parametrize("line, lists", [
    ("/tools", EACH[:1]), ("/resources", EACH[1:3]), ("/prompts", EACH[3:])])
@pytest.mark.parametrize("old, ttl, is_asked", [
    (NEW, None, True), (NEW, 0, True), (NEW, HOUR, False), (OLD, None, True), (OLD, HOUR, True),
    (PROMISES, None, False)])
def test_a_command_asks_for_its_own_lists_where_they_may_have_changed(
        meet, http_server, old, ttl, is_asked, line, lists):
    other = http_server(everything(offers=["tools"]))
    chat, model, server = meet(old=old, ttl=ttl, good=other)
    before, others = at_rest(chat, server, other)
    for number in 1, 2:
        type_in(chat, line)
        settle(chat)
        assert server.methods[before:] == lists * number * is_asked
    assert other.methods[others:] == [] and model.was_sent == []


@pytest.mark.parametrize("old", [NEW, {"tools": {}}])
def test_what_a_server_does_not_have_is_not_asked_for_by_a_command(meet, old):
    chat, _, server = meet(old=old, ttl=None, offers=["tools"])
    [before] = at_rest(chat, server)
    for line in "/resources", "/prompts":
        type_in(chat, line)
        settle(chat)
    assert server.methods[before:] == []


@pytest.mark.parametrize("what, name", [("tools", "/tools"), ("resources", "/resources"),
                                        ("prompts", "/prompts")])
def test_a_command_shows_what_is_there_now(meet, capsys, what, name):
    chat, _, server = meet(ttl=None)
    settle(chat)
    server.script |= {"tools/list": tools("later"), "prompts/list": new(
        {"prompts": [{"name": "later"}]}), "resources/list": new({"resources": [
            {"uri": "s://later", "name": "later"}]})}
    chat.connections["s"].offers.look_again([what])  # as the command does; it waits a second
    settle(chat)
    type_in(chat, name)
    assert "later" in capsys.readouterr().out


# ── After an answer ──────────────────────────────────────────────────────────────────────

@pytest.mark.line(29)
@pytest.mark.parametrize("lasts", [3_600_000, 0, -1, 1, "3600000", None, True, "absent"], ids=str)
def test_after_an_answer_a_list_of_tools_that_is_stale_is_fetched_anew(http_server, lasts):
    def offers(name):
        return new({"tools": [{"name": name, "inputSchema": {"type": "object"}}],
                    **({} if lasts == "absent" else {"ttlMs": lasts})})

    def slowly(message):
        threading.Event().wait(0.005)  # it takes longer than a ttlMs of 1
        return offers("newer" if len(server.saw("tools/list")) > 1 else "older")

    server = http_server({"tools/list": slowly})
    with ScriptedModel(OK, OK, OK) as model, Chat(model.llm, {"s": server.entry(name="s")}) as chat:
        finish(chat.meet_servers())
        settle(chat)
        so_far = len(server.saw("tools/list"))
        for _ in range(2):
            finish(chat.ask("Hello"))
            settle(chat)
        later = [sent["tools"][0]["function"]["name"] for sent in model.was_sent][1]
    # (A number of seconds that makes no sense says nothing, and the list stays true.)
    is_stale = lasts is True or lasts == 1
    assert len(server.saw("tools/list")) - so_far == (2 if is_stale else 0)
    assert later == ("s__newer" if is_stale else "s__older")


@pytest.mark.parametrize("old, pages, is_stale", [
    (None, [0], False), (None, [None], False), (None, [-5], False), (None, [1], True),
    (None, [HOUR], False), (None, [0, HOUR], False), (None, [HOUR, 0], False),
    (None, [1, HOUR], True), (None, [HOUR, 1], True), (None, [HOUR, HOUR], False),
    (None, [None, 1], True), ({}, [0], False), ({}, [1], False)])
def test_a_list_is_asked_for_again_when_its_time_is_over(meet, old, pages, is_stale):
    def answer(message):
        threading.Event().wait(0.005)  # it takes longer than a ttlMs of 1
        page = int(message["params"].get("cursor", 0))
        return listing(str(page), ttlMs=pages[page],
                       nextCursor=str(page + 1) if pages[page + 1:] else None)

    def times():
        settle(chat)
        return len([one for one in asked(server, "tools/list") if "cursor" not in one])

    chat, _, server = meet({"tools/list": answer}, old=old, offers=["tools"])
    so_far = times()
    for number in 1, 2:
        go(chat.ask("Go"))
        assert times() == so_far + number * is_stale
    assert len(chat.tools) == len(pages)


def test_each_list_has_a_clock_of_its_own(meet):
    def slowly(message):
        threading.Event().wait(0.005)
        return new({"resources": [POEM], "ttlMs": 1})

    chat, _, server = meet({"resources/list": slowly})
    settle(chat)
    assert len(server.saw("resources/list")) == 1
    for _ in range(3):
        go(chat.ask("Go"))
        settle(chat)
    assert [len(server.saw(method)) for method in EACH] == [1, 4, 1, 1]


def test_a_list_that_takes_long_keeps_nobody_waiting(meet):
    gate = threading.Event()
    slow = [listing("add", ttlMs=1), lambda it: gate.wait(PATIENCE) and listing("later")]
    chat, model, server = meet({"tools/list": slow}, offers=["tools"])
    go(chat.ask("Go"))
    eventually(lambda: len(server.saw("tools/list")) == 2)
    go(chat.ask("Go on"))
    assert list(chat.tools) == ["s__add"] and len(server.saw("tools/list")) == 2
    gate.set()
    settle(chat)
    go(chat.ask("And now?"))
    assert list(chat.tools) == ["s__later"]


@pytest.mark.parametrize("method, old", [
    ("prompts/list", None), ("resources/list", None), ("prompts/list", OLD),
    ("resources/templates/list", OLD)])
def test_what_has_failed_is_asked_for_again_after_the_next_answer(meet, method, old):
    chat, model, server = meet({method: gone}, refusal(500), OK, old=old)
    settle(chat)
    known = chat.connections["s"].offers.known
    assert len(known) == 3
    [before] = at_rest(chat, server)
    server.script[method] = everything()[method]
    with pytest.raises(Problem):  # the model's: this is no answer
        go(chat.ask("Go"))
    settle(chat)
    assert server.methods[before:] == []
    go(chat.ask("Go"))
    settle(chat)
    assert len(known) == 4
    assert server.methods[before:] == [method]
    go(chat.ask("And now?"))
    settle(chat)
    assert len(server.methods[before:]) == 1


@pytest.mark.parametrize("discover", [gone, lambda it: error(it, -32601)])
def test_a_server_that_does_not_say_what_it_has_is_asked_for_each_list(meet, discover):
    chat, _, server = meet({"server/discover": discover})
    settle(chat)
    assert len(chat.connections["s"].offers.known) == 4
    [before] = at_rest(chat, server)
    go(chat.ask("Go"))
    settle(chat)
    assert server.methods[before:] == []


def test_or_when_somebody_wants_to_see_it(meet, capsys):
    chat, _, server = meet({"prompts/list": gone})
    settle(chat)
    [before] = at_rest(chat, server)
    server.script["prompts/list"] = everything()["prompts/list"]
    chat.connections["s"].offers.refresh_in_background(["prompts"])
    settle(chat)
    type_in(chat, "/prompts")
    assert "  s card " in capsys.readouterr().out and server.methods[before:] == ["prompts/list"]


@pytest.mark.parametrize("method", [
    "server/discover", "prompts/list", "resources/list"])
def test_one_failure_does_not_disturb_the_rest(meet, http_server, method):
    chat, _, _ = meet({method: lambda it: error(it, -32603)}, good=http_server(everything()))
    settle(chat)
    prompts = list(all_of(chat, "prompts"))
    assert ("good", CARD) in prompts and (("s", CARD) in prompts) == (method != "prompts/list")
    go(chat.ask("Go"))
    assert {"s__add", "good__add", "good__read_resource"} <= set(chat.tools)


@pytest.mark.parametrize("method, features", [
    ("tools/list", ["tools"]), ("tools/list", ["resources"]), ("resources/list", ["resources"])])
def test_a_list_that_fails_leaves_what_was_there(meet, method, features):
    def slowly(message):
        threading.Event().wait(0.005)
        return {**everything()[message["method"]], "ttlMs": 1}

    chat, model, server = meet({"resources/templates/list": new({}), method: slowly},
                               *[OK] * 9, offers=features)
    settle(chat)
    go(chat.ask("Go"))
    settle(chat)
    before, so_far = list(chat.tools), len(server.saw(method))
    server.script[method] = lambda it: error(it, -32603)
    for number in range(3):
        # (Nobody is told: what is known is still there.)
        assert not [one for one in go(chat.ask("Go")) if isinstance(one, Note)]
        settle(chat)
        assert list(chat.tools) == before and len(server.saw(method)) == so_far + number + 1
    server.script[method] = listing("newer") if method == "tools/list" else new({"resources": []})
    go(chat.ask("Go"))
    settle(chat)
    go(chat.ask("Go"))
    assert set(chat.tools) != set(before)


@pytest.mark.parametrize("code", [-32602, -32000])
def test_a_list_of_templates_is_not_lost(meet, code):
    towns = new({"resourceTemplates": [TOWNS], "ttlMs": HOUR})
    pages = [{**towns, "nextCursor": "2"}, lambda it: error(it, code), towns]
    chat, _, server = meet({"resources/templates/list": pages})
    settle(chat)
    assert "resourceTemplates" not in chat.connections["s"].offers.known
    go(chat.ask("Go"))
    settle(chat)
    assert list(all_of(chat, "resources")) == [("s", POEM), ("s", TOWNS)]
    assert len(server.saw("resources/templates/list")) == 3


# ── What else a server has ───────────────────────────────────────────────────────────────

@pytest.mark.parametrize("old", [None, {"prompts": {}, "resources": {}}])
def test_a_server_without_tools_has_other_things(meet, old):
    chat, _, _ = meet({"tools/list": lambda it: Reply(404 if old is None else 200, error(
        it, -32601))}, old=old)
    settle(chat)
    go(chat.ask("Go"))
    assert list(chat.tools) == ["s__read_resource"]
    assert list(all_of(chat, "prompts")) == [("s", CARD)]


def test_a_silent_server_does_not_delay_the_first_question(meet):
    gate = threading.Event()
    about = new({"capabilities": {"resources": {}}})
    chat, _, _ = meet({"server/discover": lambda it: gate.wait(PATIENCE) and about})
    go(chat.ask("Go"))
    assert "s__read_resource" not in chat.tools
    gate.set()
    settle(chat)
    assert ("s", POEM) in list(all_of(chat, "resources"))
    go(chat.ask("And now?"))
    assert "s__read_resource" in chat.tools


def test_and_nothing_else(meet, http_server):
    chat, _, silent = meet({"server/discover": SILENCE}, good=http_server(everything()))
    for question in "Go", "Go on", "And on":
        go(chat.ask(question))
    assert ("good", CARD) in list(all_of(chat, "prompts"))
    assert len(silent.saw("server/discover")) == 1
    assert not silent.hung_up.is_set(), "all of this was quicker than the silent one"


# ── Changes ──────────────────────────────────────────────────────────────────────────────

@pytest.mark.parametrize("way", ["call", "stream", "stdio"])
def test_an_old_server_tells_us_that_its_tools_have_changed(meet, stdio_server, way):
    old, now = {"tools": {"listChanged": way == "stream"}}, threading.Event()
    program = way == "stdio" and stdio_server(f"""
        names = iter(["add", "more"])
        for message in incoming():
            if message["method"] == "tools/list":
                answer(message, {{"tools": [{{"name": next(names)}}]}})
            elif "id" in message:
                answer(message, {everything({"server/discover": {}}, old=old)}[message["method"]])
            if message["method"] == "tools/call":
                send({CHANGED["tools"]})
    """)
    chat, _, server = meet(
        {"tools/call": lambda it: iter([CHANGED["tools"]] * (way == "call") + [result(it, {})]),
         "GET": lambda it: (one for one in (now.wait(PATIENCE) and CHANGED["tools"], SILENCE))},
        OK, wants("s__add", {}), server=program, old=old)
    settle(chat)
    go(chat.ask("Go"))
    so_far = len(server.saw("tools/list"))
    if not program:
        server.script["tools/list"] = {"tools": [{"name": "more"}]}
    now.set()
    go(chat.ask("Call it"))
    eventually(lambda: [one["name"] for one in
                        chat.connections["s"].offers.known["tools"]] == ["more"])
    assert server.saw("tools/call") and len(server.saw("tools/list")) == so_far + 1
    for question in "And now?", "And now?":
        go(chat.ask(question))
        assert list(chat.tools) == ["s__more"]
        assert len(server.saw("tools/list")) == so_far + 1


@pytest.mark.parametrize("before", [[POEM], []])
@pytest.mark.parametrize("what", ["resources", "prompts"])
def test_or_what_else_it_offers(meet, what, before):
    chat, _, server = meet(
        {f"{what}/list": {what: before}, "resources/templates/list": {},
         "tools/call": lambda it: iter([CHANGED[what], result(it, {"content": []})])},
        wants("s__add", {}), old={what: {"listChanged": True}})
    settle(chat)
    known = chat.connections["s"].offers.known
    assert known[what] == before
    server.script[f"{what}/list"] = {what: [CARD, POEM]}
    go(chat.ask("Call it"))
    eventually(lambda: known[what] == [CARD, POEM])
    assert [one for _, one in all_of(chat, what)] == [CARD, POEM]
    assert len(server.saw(f"{what}/list")) == 2


def test_many_changes_at_once_are_few_questions(meet):
    chat, _, server = meet(
        {"tools/call": lambda it: iter([*[CHANGED["tools"]] * 50, result(it, {"content": []})])},
        wants("s__add", {}), old={"tools": {"listChanged": True}})
    [before] = at_rest(chat, server)
    server.script["tools/list"] = {"tools": [{"name": "more"}]}
    go(chat.ask("Call it"))
    eventually(lambda: chat.connections["s"].offers.known["tools"] == [{"name": "more"}])
    go(chat.ask("And now?"))
    assert list(chat.tools) == ["s__more"]
    assert 0 < server.methods[before:].count("tools/list") < 10  # mostly it is one


def test_a_change_while_a_list_is_on_its_way_is_not_lost(meet):
    count = iter(range(9))

    def changes(message):
        if next(count) == 0:
            yield CHANGED["tools"]
        yield result(message, {"tools": [{"name": f"t{len(server.saw('tools/list'))}"}]})

    chat, _, server = meet(old={"tools": {"listChanged": True}})
    [before] = at_rest(chat, server)
    server.script["tools/list"] = changes
    chat.connections["s"].offers.changed("tools")
    eventually(lambda: server.methods[before:] == ["tools/list"] * 2)
    eventually(lambda: not chat.connections["s"].offers.is_old("tools"))


def test_tools_come_and_go_and_keep_their_full_names(meet):
    lists = [["a.b", "a_b", "read_resource"], ["a_b", "read_resource"], [], ["a_b", "a.b"]]
    chat, model, server = meet({"tools/list": listing(*lists[0])}, wants("s__read_resource", {}),
                               OK, OK, OK, wants("s__a_b", {}), ttl=None)
    assert list(chat.tools) == ["s__a_b", "s__a_b_2", "s__read_resource"]
    settle(chat)
    ours = "s__read_resource_2"
    for there, names in zip(lists, [
            ["s__a_b", "s__a_b_2", "s__read_resource", ours],
            ["s__a_b_2", "s__read_resource", ours],
            [ours], ["s__a_b_2", "s__a_b", ours]], strict=True):
        server.script["tools/list"] = listing(*there)
        type_in(chat, "/tools")
        settle(chat)
        go(chat.ask("Go"))
        assert list(chat.tools) == names
    assert [one["name"] for one in asked(server, "tools/call")] == ["read_resource", "a.b"]


def test_a_program_that_has_just_been_started_is_asked_for_its_tools_once(stdio_server):
    program = stdio_server({"server/discover": new({"supportedVersions": [NEWEST]}),
                            "tools/list": new({"tools": [], "ttlMs": HOUR})})
    with ScriptedModel(OK) as model, Chat(model.llm, {"s": program.entry(name="s")}) as chat:
        go(chat.meet_servers())
        go(chat.ask("Go"))
        settle(chat)
    assert len(program.saw("tools/list")) == 1
