"""Servers that have a question for a person (elicitation), and a person who answers.

They ask in either generation's way: in the result of our call, or by a request of their own, which
comes in the call's stream, in the stream of a GET, or over stdio.
"""

import contextlib
import functools
import itertools
import json
import queue
from collections.abc import Callable, Iterator
from typing import Any

from patience import PATIENCE
from scripted_server import HANDSHAKE, SILENCE, Reply, ScriptedHttp, ScriptedStdio, result

from chapters.events import Question
from chapters.jobs import finish, together
from chapters.outside import Failure
from chapters.versions import OLDER
from chat import LLM, Chat, Connection

CALL = {"name": "provision", "arguments": {"name": "db1"}}
MRTR = "in a result"  # the new generation's way, and the older ones':
POST, GET, STDIO = "in the call's stream", "in the stream of a GET", "over stdio"
WAYS = [MRTR, POST, GET, STDIO]
SECRET = "https://example.com:8443/key?a=%20b&c=$(d)#'e'"
PROGRAM = """
for message in incoming():
    if message.get("method") == "initialize":
        answer(message, %s)
    elif message.get("method") == "tools/call" and (call := message):
        send({"jsonrpc": "2.0", "id": "s-0", **%s})
    elif "result" in message:
        answer(call, {"replies": [message["result"]]})
    elif "id" in message:
        refuse(message, -32601)
"""


def server_that_asks(http_server: Callable, stdio_server: Callable, way: str, *asked: dict
                 ) -> ScriptedHttp | ScriptedStdio:
    """Its tool asks that, and tells in its result's "replies" what was said."""
    questions = [{"method": "elicitation/create", "params": one, **one} for one in asked]
    if way == STDIO:
        return stdio_server(PROGRAM % (HANDSHAKE, questions[0]))
    to_ask, replies = queue.Queue(), queue.Queue()

    def new_call(message):  # it remembers nothing in between
        so_far = json.loads(message["params"].get("requestState", "[]"))
        so_far += message["params"].get("inputResponses", {}).values()
        return {"resultType": "input_required", "requestState": json.dumps(so_far),
                "inputRequests": {"q": questions[len(so_far)]}} \
            if len(so_far) < len(questions) else {"resultType": "complete", "replies": so_far}

    def old_call(message):
        so_far = []
        for number, one in enumerate(questions):
            to_ask.put({"jsonrpc": "2.0", "id": f"s-{number}", **one})
            if way == POST:
                yield to_ask.get()
            try:
                reply = replies.get(timeout=PATIENCE)
            except queue.Empty:  # the client has left
                return
            so_far.append(reply.get("result") or reply["error"]["code"])
        yield result(message, {"replies": so_far})

    def other(message):
        asking = (to_ask.get(timeout=PATIENCE) for _ in questions)
        return (replies.put(message) or Reply(202)) if message else \
            itertools.chain(asking, [SILENCE]) if way == GET else Reply(405)

    tools = {"tools": [{"name": "provision"}], "resultType": "complete", "ttlMs": 1e6}
    return http_server({"tools/list": tools, "": other, "GET": other, "tools/call":
                        new_call if way == MRTR else old_call}, "" if way == MRTR else OLDER[0])


@contextlib.contextmanager
def connecting() -> Iterator[Callable[..., list[Connection]]]:
    """connected(server, ...) are connections to these, of a Chat with a person."""
    with contextlib.ExitStack() as at_the_end:
        def connected(*servers: Any, person: bool = True, **more: Any) -> list[Connection]:
            names = zip(["db", "other"], servers, strict=False)
            chat = Chat(LLM("", "", "http://127.0.0.1:9"), {
                name: one.entry(name=name, **more) for name, one in names}, person=person)
            return [*at_the_end.enter_context(chat).connections.values()]
        yield connected


def talk(connections: list, *says: Any) -> tuple[Any, list[Question]]:
    """Call, and answer like that. Returns what came of it, and the questions."""
    works = [functools.partial(one.ask, "tools/call", CALL) for one in connections]
    says, heard = list(says), []

    def show(event) -> None:
        if isinstance(event, Question):
            heard.append(event)
            said = says.pop(0) if says else None
            event.answer = said() if callable(said) else said
    try:
        return sum((one["replies"] for one in finish(together(works), show)), []), heard
    except Failure as failure:
        return str(failure), heard


def form(message: str = "Where?", required: tuple | list = (), **fields: dict) -> dict:
    return {"message": message, "requestedSchema": {
        "type": "object", "properties": fields, "required": [*required]}}


page = functools.partial(dict, mode="url", message="I need a key.", url=SECRET)
string = functools.partial(dict, type="string")
