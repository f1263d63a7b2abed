"""Simple MCP Chat: a chatbot for your terminal whose model can use tools.

    you  ──question──▶  chat.py  ──conversation + tools──▶  model  (OpenAI, or your own)
    you  ◀───answer───  chat.py  ◀──"call this tool"──────  model
                           │  ▲
                  tools/call  result      MCP: JSON messages over HTTP or a pipe; no framework
                           ▼  │
                        MCP servers       programs that offer tools

Run it first: `uv run python chat.py --demo --tour` needs no key and no account, stops at every
message, and says which of the lines below have made it. Then read it, from top to bottom. It is in
the order in which things happen:

    Part 1   Settings           which servers there are
    Part 2   JSON-RPC           a request, and its result or its error
    Part 3   HTTP               how a message gets to a server, and back
    Part 4   The handshake      what older servers want first, and new ones don't
    Part 5   Tools              what the servers can do, in the model's words
    Part 6   One turn           the model asks, we call, until it has an answer
    Part 7   The terminal       what you see and type, and this map again, in code

A few words:

    server      one entry of mcp_servers.json       e.g. "dexcom"
    tool        a function that a server offers     e.g. "readings"
    full name   what the model calls that tool      e.g. "dexcom__readings"
    message     one JSON object: of MCP's, or (in Part 6) of the conversation with the model
    turn        your question and all that follows, until the model's last word
    event       one thing worth showing meanwhile (in Part 3: a piece of a stream)
    Problem     what went wrong, in words for you; a Failure is one with a request to a server
    thread      a function that runs beside the rest; a lock lets only one of them pass at a time
    job         work in a thread of its own; it can be stopped
    type hint   "path: Path", "-> dict", "Job | None" (or None): for readers; nothing checks them
    {**a, **b}  one dict with what is in both, like a | b; [*a, *b] is one list with both
    x := f()    sets x, and is x: "if x := f():"; [f(x) for x in a] is the list of every f(x)

Real networks, models and people need more than this. It is in chapters/, one idea per file. To
understand this file you need none of them: the imports say what each is for.
"""

from __future__ import annotations  # a type may be named above its definition

import contextlib
import itertools
import json
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from functools import partial  # partial(f, 1) is f with its first argument filled in
from pathlib import Path
from typing import Any, Literal

from chapters import (
    command_line,  # what was asked for, and how the program ends
    commands,  # /help, /tools, /read and the like
    elicitation,  # questions that a server has for you
    failures,  # what it means when no answer comes, and whether to ask again
    header_arguments,  # headers that say what a request is about
    http_session,  # `requests`, and what we add to it
    inboxes,  # waiting for an answer
    jobs,  # several things at the same time
    lists,  # what a server has, kept up to date in the background
    model_service,  # asking the model
    older_servers,  # streams that only older servers have
    replies,  # one message from the pieces of a reply
    resources,  # what servers have besides tools
    server_sent_events,  # an answer that comes little by little
    settings,  # mistakes in mcp_servers.json, and other programs' files
    stdio,  # servers that are programs on this computer
    tools,  # names, confirmations, pictures
    versions,  # new servers and older ones
)
from chapters.events import *  # Record; Event, and its kinds: Text, ToolCall, Note, Question ...
from chapters.inboxes import Inbox
from chapters.jobs import Job
from chapters.outside import Failure, Problem, as_dict  # a Failure is a Problem, too
from chapters.screen import Screen
from chapters.settings import LLM

MAX_ROUNDS = 20         # of tool calls in one turn
MAX_TOOLS = 128         # OpenAI takes no more


# ── Part 1: Settings ─────────────────────────────────────────────────────────────────────
#
# mcp_servers.json says which servers there are:
#
#     {"servers": [
#         {"name": "dexcom", "url": "https://example.com/mcp?token=YOUR_TOKEN"},
#         {"name": "github", "url": "https://...", "headers": {"Authorization": "Bearer ${KEY}"}},
#         {"name": "files",  "command": "npx", "args": ["-y", "some-server"]}
#     ]}
#
# Secrets can stay out of it: ${KEY} is looked up in the environment, and in the file .env.

class Server(Record):  # which makes Server("files", command="npx").command work
    """One entry of mcp_servers.json. The names are those in the file."""
    name: str          # short; it becomes the prefix of the tools' names
    url: str = ""      # a server on the network, or ...
    headers: dict[str, str] = {}
    command: str = ""  # ... a program on this computer, with its
    args: list[str] = []
    env: dict[str, str] = {}
    cwd: str = ""      # the folder it starts in; "": the one of mcp_servers.json
    enabled: bool = True
    auth_type: Literal["token", "oauth"] = "token"  # "token": it is in the url or the headers
    oauth: dict = {}         # see oauth_handler.py
    timeout: float = 60      # seconds that it may be silent
    tools: list[str] = []    # offer only these; none named: all
    confirm: Literal["every", "destructive", "never"] = "destructive"  # ask before a call

    def __init__(self, *values: Any, **named: Any):
        super().__init__(*values, **named)
        if self.auth_type == "oauth":
            import oauth_handler  # only where a server wants it, so that a start is fast
            oauth_handler.check_settings(self.name, self.url, self.oauth)  # raises Problem


def load_servers(path: Path) -> dict[str, Server | Problem]:
    """Read a configuration file: by name, each server that is enabled, or what is wrong with its
    entry; the others still work. Raises Problem if the file itself can't be used."""
    return settings.by_name(settings.entries_in(path), path, Server)


# ── Part 2: JSON-RPC ─────────────────────────────────────────────────────────────────────
#
# MCP is JSON messages, and JSON-RPC 2.0 says what they look like. There are four kinds:
#
#     a request        {"jsonrpc": "2.0", "id": 7, "method": "tools/list", "params": {"_meta": ...}}
#     its result       {"jsonrpc": "2.0", "id": 7, "result": {"resultType": "complete", ...}}
#     or its error     {"jsonrpc": "2.0", "id": 7, "error": {"code": -32601, "message": "..."}}
#     a notification   {"jsonrpc": "2.0", "method": "notifications/progress", "params": {...}}
#
# The id ties an answer to its request. A notification has none: nobody answers it. The most
# important request is {"method": "tools/call", "params": {"name": "readings", "arguments": {...}}}.
#
# An answer may take its time, and other messages may come before it. So a thread does the reading,
# and puts what comes into an inbox, where the one who asked takes it out:
#
#     request() ──message──▶  transport  ──▶  server         The transport is HTTP (Part 3), or a
#         ▲                                     │            program on this computer (stdio).
#         └──── inbox ◀────── a thread  ◀───────┘
#
# request() asks once. ask() is what everybody calls. Around the request it puts the handshake
# (Part 4), a second try where that does no harm, and the server's questions to you.

class Connection:
    """One server: the way to it, and what we know of it."""

    def __init__(self, server: Server, auth: Callable = http_session.add_nothing,
                 person: threading.Lock | None = None):
        """`auth` adds credentials to each HTTP request. `person` is held while somebody answers a
        server's question; None: nobody is there."""
        self.server = server
        self.version = ""     # of MCP, as soon as Part 4 knows it
        self.ready = False    # whether the handshake is done, where one is needed
        self.handshakes = 0   # so far; what belongs to an earlier one is out of date
        self.greeting = threading.Lock()  # one thread shakes hands, the others wait
        self.person = person or threading.Lock()
        self.capabilities = elicitation.CAPABILITIES if person else {}  # what we can do for it
        self.numbers = itertools.count(1)           # a new id for each request
        self.inboxes: dict[object, Inbox] = {}      # by the id of the request that waits
        self.offers = lists.Offers(self)            # its tools, and what else it has
        self.transport: Any = Http(self, auth) if server.url else stdio.Program(self)

    @property  # it is read without (): connection.is_new
    def is_new(self) -> bool:
        """Until we know better, we take every server for a new one."""
        return self.version in ("", versions.NEWEST)

    def request(self, method: str, params: dict | None = None, job: Job | None = None,
                seconds: float = 0) -> dict:
        """Send one request and return its result. Stopping the `job` ends the waiting. The server
        may be silent for so many `seconds`; 0: for its "timeout". Raises Failure."""
        job, number, handshakes = job or Job(), next(self.numbers), self.handshakes
        if job.cancelled.is_set():
            raise Failure("cancelled", "stopped.")
        meta = versions.meta(self, method, number)  # a new server hears each time who we are
        message = {"jsonrpc": "2.0", "id": number, "method": method,
                   "params": {**(params or {}), **meta}}
        with inboxes.waiting(self, message, job) as inbox:
            self.transport.send(message, inbox)
            # (The clock stands still while a person answers a question, and holds that lock.)
            for incoming in inbox.each(seconds or self.server.timeout, self.person.locked):
                if "error" in incoming:
                    raise inboxes.refusal(incoming["error"], self.server)
                if "result" in incoming:
                    return versions.checked(incoming["result"], method)
                if incoming["method"] == "notifications/progress":
                    job.report_progress(as_dict(incoming.get("params")))
                else:  # an older server has a question for you, and waits for the answer
                    elicitation.reply_to(self, incoming, job, handshakes)
        raise Failure("broken", f"it hung up without answering {method}.")

    def notify(self, method: str, params: dict | None = None) -> None:
        """Send one notification. Raises Failure."""
        inboxes.deliver(self, {"jsonrpc": "2.0", "method": method, "params": params or {}})

    def ask(self, method: str, params: dict | None = None, job: Job | None = None) -> dict:
        """A request and its result, with all that may belong to it. Raises Failure."""
        job = job or Job()
        answers: dict = {}  # to questions that the server has
        job.about = job.about or self.server.name  # for whoever sees that we wait
        for attempt in range(elicitation.MAX_QUESTIONS + 1):
            once = partial(greet_and_request, self, method, {**(params or {}), **answers}, job)
            # What has failed is tried a second time, where that certainly does no harm.
            result = failures.at_most_twice(once, self, method, job)
            if result.get("resultType") != "input_required":
                return result
            # A new server has a question for you. With the answer, we send our request once more.
            answers = elicitation.answers_for(self, result, job, attempt)
        raise Failure("refused", "it asks and asks, and has no result.")

    def forget(self, handshakes: int) -> None:
        """The server has forgotten our session, so the next request shakes hands again."""
        with self.greeting:  # (several calls may hear of it at the same time)
            self.ready = self.ready and self.handshakes != handshakes

    def close(self) -> None:
        self.offers.job.cancelled.set()
        self.transport.close()


# ── Part 3: HTTP ─────────────────────────────────────────────────────────────────────────
#
# Each message is a POST to the server's one address, and the server decides how it answers: with
# JSON, or with a stream of events of which the last is the answer. Both directions have a first
# line, headers, an empty line and a body; 200 says that all is well.
#
#     POST /mcp HTTP/1.1                             HTTP/1.1 200 OK
#     Content-Type: application/json                 Content-Type: text/event-stream
#     Accept: application/json, text/event-stream
#     MCP-Protocol-Version: 2026-07-28               data: {"method": "notifications/progress", ...
#     Mcp-Method: tools/call
#     Mcp-Name: readings                             data: {"id": 7, "result": {...}}
#
#     {"jsonrpc": "2.0", "id": 7, ...}
#
# (Over stdio, each message is one line to the program, and each line that it prints is one for us.)
# https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/streamable-http

class Http(older_servers.WithSession):  # there: open() and close(), and all that is old
    """The way to a server on the network."""

    probe = ""  # we needn't find out first whether the server is a new one: we just ask

    def __init__(self, connection: Connection, auth: Callable):
        self.connection, self.auth, self.url = connection, auth, connection.server.url
        # (What requests calls a session: connections and cookies. MCP's own is session_id.)
        self.session = http_session.new_session(connection.server.name)

    def send(self, message: dict, inbox: Inbox) -> None:
        """Send one message. What comes back goes into the inbox, in a thread of its own."""
        jobs.in_background(self.carry, message, inbox)

    def carry(self, message: dict, inbox: Inbox) -> None:
        self.wait_for_stream(message)  # an older server's own, where it may ask us something
        place: dict[str, str] = {}  # where we are in the stream of events
        try:
            # ({}: there is nothing to send. We listen to what an older server says unasked.)
            answered = self.post(message, inbox, place) if message else \
                older_servers.get(self, message, inbox, place)
            if not answered and not older_servers.resume(self, message, inbox, place):
                inbox.put(inboxes.END)
        except Exception as error:  # the one who waits for the answer will raise it, in words
            self.url = self.connection.server.url  # in case it had moved, but not for good
            inbox.put(failures.in_words(error, self.connection.server))

    def post(self, message: dict, inbox: Inbox, place: dict[str, str]) -> bool:
        """One POST. Returns whether the answer to `message` came. Raises what goes wrong."""
        with http_session.send(self.session, "POST", self.url, inbox, self.headers_for(message),
                               auth=self.auth, data=json.dumps(message)) as response:
            if message.get("method") == "initialize" and response.ok:
                self.session_id = response.headers.get("Mcp-Session-Id", "")
            return self.take_in(response, message, inbox, place)

    def take_in(self, response: Any, message: dict, inbox: Inbox, place: dict[str, str]) -> bool:
        """Each message in a response goes where it belongs, up to the answer to `message`."""
        for incoming in self.messages_in(response, message, place):
            if inbox.closed.is_set():
                break
            if not inboxes.is_answer(incoming, message):
                inboxes.hear(self.connection, incoming, inbox)  # progress, or it has a question
                continue
            self.url = response.url  # it may have moved, on the same host
            http_session.read_rest(response, inbox)  # then it can serve the next request
            inbox.put(incoming)
            return True
        return False

    def headers_for(self, message: dict) -> dict[str, str]:
        """The headers for a message; {} is for the requests without one."""
        headers = {**self.connection.server.headers,
                   "Accept": "application/json, text/event-stream",
                   "Accept-Encoding": "identity",  # zipped, a stream would come in lumps
                   "Content-Type": "application/json"}
        if message.get("method") == "initialize":
            return headers
        headers["MCP-Protocol-Version"] = self.connection.version or versions.NEWEST
        if not self.connection.is_new:
            return headers | ({"Mcp-Session-Id": self.session_id} if self.session_id else {})
        # What the request is about, for machines between us and the server.
        return headers | header_arguments.about(message, self.connection.offers.mirrored)

    def messages_in(self, response: Any, message: dict, place: dict[str, str]) -> Iterator[dict]:
        """Each message in a response, as it comes. ("yield" hands one out, and goes on when the
        loop outside wants the next; "yield from": all of another's.) Raises Failure."""
        server = self.connection.server
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if response.status_code != 200 or kind != "text/event-stream":
            body = http_session.body_of(response)
            yield from failures.messages_in_body(response, body, message, server)
            return
        for event in server_sent_events.read_events(http_session.pieces_until_it_ends(response)):
            older_servers.remember(event, place)
            if event.get("data") and event.get("event") in (None, "", "message"):
                yield from inboxes.messages_in(event["data"], server.name, message)


# ── Part 4: The handshake ────────────────────────────────────────────────────────────────
#
# There are two generations of MCP servers. A new one (2026-07-28) needs no opening, because every
# request says in its params which version it speaks:
#     "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28", ...}
# An older one wants to shake hands first:
#
#     we send   {"id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25",
#                    "capabilities": {}, "clientInfo": {"name": "simple-mcp-chat", ...}}}
#     we get    {"id": 1, "result": {"protocolVersion": "2025-06-18", "capabilities": {...}}}
#     we send   {"method": "notifications/initialized"}
#
# Nobody tells us which it is. So we send our first request in the new way. A new server just
# answers it. If the answer is that of an older server, we shake hands, and send the request again.
# (A program is asked server/discover first, its `probe`: some end at a request they don't know.)
# https://modelcontextprotocol.io/specification/2026-07-28/basic/versioning

def greet_and_request(connection: Connection, method: str, params: dict, job: Job) -> dict:
    """A request and its result, with what the server wants first. Raises Failure."""
    with connection.greeting:
        result = None
        if connection.transport.open():  # a program may have ended, and is started anew
            connection.ready = False
        if not connection.version:
            result = meet(connection, method, params, job)
        elif not connection.ready:
            if not connection.is_new:
                shake_hands(connection, job)
            connection.offers.expire()
        connection.ready = True
    return connection.request(method, params, job) if result is None else result


def meet(connection: Connection, method: str, params: dict, job: Job) -> dict | None:
    """Send a first request in the new way, and see by the answer which generation the server is.
    Returns the result of our request; None: that is still to be sent. Raises Failure."""
    # (Never tools/call: an older server might run the tool, and we would have it run twice.)
    probe = connection.transport.probe or ("tools/list" if method == "tools/call" else method)
    seconds = min(versions.PATIENCE, connection.server.timeout)
    answer: dict | Failure  # (only a type hint: it has no value yet)
    try:
        answer = connection.request(probe, params if probe == method else {}, job, seconds)
    except Failure as failure:
        answer = failure  # it says something, too
    if not versions.is_new(probe, answer):
        try:
            shake_hands(connection, job)
            return None
        except Failure as refused:
            connection.version = ""
            versions.raise_unless_new(connection, answer, refused)  # still here: it is a new one
    connection.version = versions.NEWEST
    if isinstance(answer, Failure):
        return None
    if probe == "server/discover":
        connection.offers.learn(answer)
    return answer if probe == method else None


def shake_hands(connection: Connection, job: Job) -> None:
    """The opening that older servers want. Raises Failure."""
    connection.transport.open()  # a program may have ended at our first request
    connection.handshakes += 1
    connection.version = versions.OLDER[0]
    ours = {"protocolVersion": versions.OLDER[0], "capabilities": connection.capabilities,
            "clientInfo": versions.ABOUT_US}
    try:
        result = connection.request("initialize", ours, job)
    except Failure as failure:
        common = versions.common_older(failure)  # it may list the versions that it speaks
        if not common:
            raise
        result = connection.request("initialize", {**ours, "protocolVersion": common}, job)
    connection.version = versions.agreed(result)
    connection.offers.learn(result)
    with contextlib.suppress(Failure):  # some don't take it, and work all the same
        connection.notify("notifications/initialized")
    if connection.capabilities or any(map(connection.offers.tells_of_changes, lists.METHODS)):
        connection.transport.listen()  # it may ask or tell us something unasked


# ── Part 5: Tools ────────────────────────────────────────────────────────────────────────
#
# A tool is a function that a server offers: a name, a description for the model to read, and a JSON
# Schema of its arguments. MCP's and OpenAI's differ in the envelope only:
#
#     the server's     {"name": "readings", "description": "...",
#                       "inputSchema": {"type": "object", "properties": {...}}}
#     the model's      {"type": "function", "function": {"name": "dexcom__readings",
#                       "description": "...", "parameters": {"type": "object", ...}}}
#
# (lists.py asks for them. A name begins with the server's: two may both have a "search".)

class Tool(Record):
    """One function of one server."""
    full_name: str
    name: str
    connection: Connection
    description: str
    schema: dict       # of the arguments: {"type": "object", "properties": {...}}
    annotations: dict  # what the server says about its behaviour: {"destructiveHint": true, ...}
    method: str        # of the request that it stands for: "tools/call", in nearly all cases

    def for_model(self) -> dict:
        return {"type": "function", "function": {
            "name": self.full_name, "description": self.description, "parameters": self.schema}}


def list_tools(connection: Connection, job: Job | None = None) -> list[dict]:
    """Ask a server for its tools: [{"name": "readings", "inputSchema": {...}}]. Raises Failure."""
    return connection.offers.fetch("tools", job or Job())  # tools/list, page by page


def make_tool(connection: Connection, found: dict, names: dict[tuple, str],
              method: str = "tools/call") -> Tool:
    """From the server's envelope to ours. A tool keeps its full name for as long as the program
    runs, because the conversation uses it: `names` has those that were given so far."""
    server, name, schema = connection.server.name, found["name"], as_dict(found.get("inputSchema"))
    if (server, name, method) not in names:
        names[server, name, method] = tools.full_name(server, name, names.values())
    # The schema stays as it is, but for two words that OpenAI insists on.
    return Tool(names[server, name, method], name, connection, tools.description(server, found),
                {**schema, "type": "object", "properties": as_dict(schema.get("properties"))},
                as_dict(found.get("annotations")), method)


# ── Part 6: One turn of the chat ─────────────────────────────────────────────────────────
#
# A model remembers nothing. "The conversation" is a list of messages that we keep, and send again,
# whole, every time:
#
#     {"role": "user",      "content": "How was my night?"}
#     {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function", "function":
#                               {"name": "dexcom__readings", "arguments": "{\"hours\": 8}"}}]}
#     {"role": "tool",      "tool_call_id": "call_1", "content": "5.4 at 03:00"}
#     {"role": "assistant", "content": "Quiet: you stayed at 5.4."}
#
# A turn adds to that list until the model says something without asking for a tool. That loop,
# Chat.ask, is what people call an agent.
#
# A turn doesn't print. It yields events, and whoever loops over them shows them. Calling such a
# function runs nothing yet; each round of the loop runs it on to its next "yield". In "x = yield
# from other()", all that the other yields is passed on to the loop, and x is what it returns in the
# end. The type of such a function is Generator[what it yields, None, what it returns].

class Chat(contextlib.AbstractContextManager):  # so it works in a "with", and close() ends it
    """A conversation with a model that can use the tools of some servers. A question that fails, or
    is interrupted, leaves no trace in it."""

    def __init__(self, llm: LLM, servers: dict[str, Server | Problem], system_prompt: str = "",
                 auth_for: Callable[[Server], Callable] = lambda server: http_session.add_nothing,
                 person: bool = False):
        """`auth_for(server)` is what adds credentials to its requests; by default, nothing does.
        `person`: whether somebody is there to answer what a server may ask."""
        self.llm, self.servers, self.system_prompt = llm, servers, system_prompt
        one_person = threading.Lock() if person else None
        self.connections = {name: Connection(server, auth_for(server), one_person)
                            for name, server in servers.items() if isinstance(server, Server)}
        self.tools: dict[str, Tool] = {}    # by full name: those that the model gets
        self.names: dict[tuple, str] = {}   # all full names so far, see make_tool()
        self.messages: list[dict] = []      # the conversation
        self.before: list[dict] = []        # messages that go before the next question
        self.allowed: set[str] = set()      # full names about which we needn't ask again
        self.left_out: set[str] = set()     # full names that the model's service refuses
        self.max_chars = settings.number_from_env("MAX_RESULT_CHARS", 50_000)
        self.folder = tools.Folder()        # for pictures

    @property
    def working(self) -> list[Connection]:
        """The servers that have told us their tools."""
        return [one for one in self.connections.values() if "tools" in one.offers.known]

    def meet_servers(self) -> Generator[Event, None, None]:
        """Ask all servers for their tools, at the same time. A server that is down costs only its
        own tools; it becomes a Problem."""
        answers = yield from jobs.with_logins([
            partial(list_tools, connection) for connection in self.connections.values()])
        found = dict(zip(self.connections, answers, strict=True))
        for name, server in self.servers.items():  # in the order of the file
            answer = found.get(name, server)  # an entry with a mistake is a Problem already
            if isinstance(answer, Problem):
                self.servers[name] = Problem(str(answer))
                yield Found(name, problem=str(answer))
            else:
                yield Found(name, len(answer))
        yield from tools.notes(self.working, MAX_TOOLS)  # what you should know about them
        self.choose_tools()
        for connection in self.working:  # what else they have, nobody has to wait for
            connection.offers.refresh_in_background()

    def choose_tools(self) -> None:
        """Which tools the model gets: of those that are known now, at most MAX_TOOLS."""
        by_server = []
        for connection in self.working:
            listed = [(tool, "tools/call") for tool in connection.offers.known["tools"][:MAX_TOOLS]]
            listed += [(tool, "resources/read") for tool in resources.as_tool(connection)]  # ours
            by_server.append([make_tool(connection, tool, self.names, method)
                              for tool, method in listed])
        self.tools = tools.chosen(by_server, self.left_out, MAX_TOOLS)

    def ask(self, question: str | list[dict]) -> Generator[Event, None, None]:
        """One turn: yields what happens, until the model has said its last word. (A question can
        also be some messages, like those of a server's prompt.)"""
        asked = [{"role": "user", "content": question}] if isinstance(question, str) else question
        messages = replies.in_turn([*self.messages, *self.before, *asked])
        for _ in range(MAX_ROUNDS):
            # (Where the service says that it is too much, or refuses a tool, we do without that.)
            reply = yield from model_service.mended(self.reply, messages, self.left_out)
            if "content" not in reply and "tool_calls" not in reply:
                return  # an empty message would be refused, each time that we send it again
            messages.append(reply)
            if "tool_calls" not in reply:
                break
            messages += yield from self.run_tools(reply["tool_calls"])
        else:  # no "break" has ended the loop: the model still wants tools
            yield Note(f"Stopped after {MAX_ROUNDS} rounds of tool calls.")
        self.messages = messages
        self.before.clear()
        for connection in self.working:  # lists that are old by now, while nobody waits
            connection.offers.refresh_in_background()

    __call__ = ask  # chat("...") is chat.ask("...")

    def reply(self, messages: list[dict]) -> Generator[Event, None, dict]:
        """The model's next message, like those in the conversation above."""
        self.choose_tools()
        prompt = self.system_prompt or settings.default_prompt()
        work = partial(stream_reply, self.llm, [{"role": "system", "content": prompt}, *messages],
                       [tool.for_model() for tool in self.tools.values()])
        [reply] = yield from jobs.together([work])  # as a job, it can be shown and stopped
        return reply

    def run_tools(self, calls: list[dict]) -> Generator[Event, None, list[dict]]:
        """Run what the model asks for, all at the same time. Returns the messages for it."""
        works: list[Callable[[Job], Any]] = []
        for call in calls:
            tool = self.tools.get(call["function"]["name"])
            arguments = replies.arguments_in(call["function"]["arguments"] or "{}")
            refusal = yield from tools.reason_not_to_call(tool, arguments, call, self.allowed)
            if refusal or not tool or arguments is None:  # (then, too, there is a refusal)
                works.append(partial(jobs.say, refusal))  # no call: its answer is there already
            else:
                yield ToolCall(tool.connection.server.name, tool.name, arguments)
                works.append(partial(self.run_tool, tool, arguments))
        answers = yield from jobs.with_logins(works)
        messages = []
        for call, answer in zip(calls, answers, strict=True):
            if isinstance(answer, Failure):  # the model should know: it may find another way
                name = self.tools[call["function"]["name"]].name
                answer = f"Error calling tool {name}: {answer}"
                yield ToolResult(name, answer, True, [])
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": answer})
        return messages

    def run_tool(self, tool: Tool, arguments: dict, job: Job) -> str:
        """Call a tool. Returns what the model gets to read. Raises Failure."""
        job.about = tool.name
        params: dict = {"name": tool.name, "arguments": arguments}
        if tool.method == "resources/read":  # a tool of ours, for what a server has besides tools
            params = {"uri": str(arguments.get("uri", ""))}
        result = tool.connection.ask(tool.method, params, job)
        text, files = self.as_text(result, tool.name)
        failed = result.get("isError") is True
        text = f"Error calling tool {tool.name}: {text}" if failed else text
        text = tools.shortened(text, self.max_chars) or "(no output)"
        job.report(ToolResult(tool.name, text, failed, files))
        return text

    def as_text(self, result: dict, name: str = "file") -> tuple[str, list[str]]:
        """What the model reads of a result, and the files that were made of its pictures.

            {"content": [{"type": "text", "text": "22.5 degrees"},
                         {"type": "image", "data": "iVBORw0...", "mimeType": "image/png"}],
             "structuredContent": {"temperature": 22.5}}
        """
        files: list[str] = []
        found = result.get("content", result.get("contents")) or []  # of a tool, of a resource
        blocks = found if isinstance(found, list) else [found]
        text = "\n".join(tools.as_text(block, name, self.folder, files) for block in blocks)
        return tools.with_data(text, result), files

    def close(self) -> None:
        """Close all connections, at the same time, and wait for that, but not long."""
        jobs.finish(stdio.close_all(self.connections.values()))

    def __exit__(self, *error: object) -> None:
        self.close()


def stream_reply(llm: LLM, messages: list[dict], offered: list[dict], job: Job) -> dict:
    """Ask the model; report its words as they come; return its whole message.

    A reply comes in pieces, as server-sent events, so that it can be shown while it is made:

        data: {"choices": [{"delta": {"content": "You had "}}]}
        data: {"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "call_1",
                  "function": {"name": "dexcom__readings", "arguments": "{\"ho"}}]}}]}
        data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}
        data: [DONE]
    """
    reply = replies.Reply()
    for piece in model_service.pieces_of(llm, messages, offered, job):
        if words := reply.add(piece):
            job.report(Text(words))
    if note := reply.end():
        job.report(Note(note))  # it was cut off, for example
    return reply.message()


@contextlib.contextmanager  # "with" runs this up to its "yield", then its own block, then the rest
def open_chat(config: str = "mcp_servers.json", llm: LLM | None = None, person: bool = False
              ) -> Iterator[Chat]:
    """A chat for a program of your own:
        with open_chat("mcp_servers.json") as chat:
            for event in chat.ask("How was my night?"):
                print(event.json)
    With `person`, servers may ask something too: a Question comes, and you set its `answer`."""
    settings.read_env()
    path = settings.find(config)
    auth_for = partial(command_line.credentials, config=path, person=False, say=lambda text: None)
    with Chat(llm or settings.openai_from_env(), load_servers(path), "", auth_for, person) as chat:
        jobs.finish(chat.meet_servers())
        resources.wait_for_all(chat.working)
        yield chat


# ── Part 7: The terminal ─────────────────────────────────────────────────────────────────
#
# Only here something is printed. A Screen can say() a text, and show() events as they come.

def talk(chat: Chat, screen: Screen) -> None:
    """Questions and answers, until you have had enough."""
    while (line := screen.read_line()) is not None:  # None: quit, exit, Ctrl-D
        try:
            if line and not commands.run(line, chat, screen):
                screen.show(chat.ask(line))
        except Problem as problem:
            screen.say(f"\n{problem}")
        except KeyboardInterrupt:
            screen.say("\n[Stopped. This question is forgotten.]")


def main(chat: Chat, question: str, screen: Screen) -> None:
    """The whole program: answer one question, or talk."""
    screen.say(f"{chat.llm.title} - Discovering tools...")
    jobs.in_background(model_service.load, chat.llm)  # slow to load, so it begins now
    screen.show(chat.meet_servers(), waiting_for="the servers")     # Parts 2 to 5
    screen.introduce(chat, talks=not question)
    if question:
        resources.wait_for_all(chat.working)
        screen.show(chat.ask(question))                             # Part 6
        return
    talk(chat, screen)                                              # Parts 6 and 7
    screen.show(stdio.close_all(chat.connections.values()), waiting_for="the servers")


def run(make_llm: Callable[[], LLM] = settings.openai_from_env,
        words: list[str] | None = None) -> None:
    """Start the program. `words` None: those on the command line. It ends with an exit status."""
    with command_line.in_words(), contextlib.ExitStack() as at_the_end:  # a "with" that grows
        options = command_line.read(words, has_demo=make_llm is settings.openai_from_env)
        screen, person = command_line.screen(options), sys.stdin.isatty()
        config = Path(options.config or settings.find("mcp_servers.json"))
        auth_for = partial(command_line.credentials, config=config, person=person, say=screen.say)
        if options.demo:
            import demo
            entries, url = at_the_end.enter_context(demo.start(screen.say))
            servers = settings.by_name(entries, Path(demo.__file__), Server)
            chat = Chat(LLM("pretend-model", "no-key-needed", url), servers, person=person)
        elif options.signs:  # --login, --logout, --logins
            make_chat = partial(Chat, LLM("", ""), auth_for=auth_for)
            return command_line.sign_in_or_out(options, config, screen, load_servers, make_chat)
        else:
            servers = load_servers(config) if options.config or config.exists() else {}
            chat = Chat(make_llm(), servers, options.system_prompt, auth_for, person)
        main(at_the_end.enter_context(chat), options.question, screen)


if __name__ == "__main__":
    run()
