"""Elicitation: what if a server wants to know something from you?

In the middle of its work a server may have a question. An older server sends us a request, and
waits for the result:

    it sends  {"id": "s-1", "method": "elicitation/create", "params": {"message": "Which region?",
                   "requestedSchema": {"properties": {"region": {"enum": ["eu", "us"]}}}}}
    we send   {"id": "s-1", "result": {"action": "accept", "content": {"region": "eu"}}}

A new one gives its question as the result of our request, and forgets us. Then we send our request
once more, with the answer, and with a state that the server has given us to remember it by:

    we get    {"id": 7, "result": {"resultType": "input_required", "requestState": "x83k...",
                   "inputRequests": {"q1": {"method": "elicitation/create", "params": {...}}}}}
    we send   {"id": 8, "method": "tools/call", "params": {..., "requestState": "x83k...",
                   "inputResponses": {"q1": {"action": "accept", "content": {"region": "eu"}}}}}

The question itself is the same in both: a form to fill in (forms.py), or a page to open, for what a
server should not hear from us, like a password.

https://modelcontextprotocol.io/specification/2026-07-28/client/elicitation

Left out: the two other things that a server may ask for, sampling and roots, which are deprecated.

Try it. A page must be encrypted, or on this computer, and somebody has to say yes:

>>> open_page("toy", {"url": "http://id.example.com/sign-in"}, Job())
Traceback (most recent call last):
chapters.outside.Failure: it wants us to open an address that isn't a safe one.
>>> open_page("toy", {"url": "https://id.example.com/sign-in"}, Job())  # nobody is there
{'action': 'cancel'}
"""

from typing import Any
from urllib.parse import urlsplit

from chapters import forms, inboxes
from chapters.inboxes import INVALID_PARAMS
from chapters.jobs import Job
from chapters.outside import Failure, as_dict, as_list, open_browser

CAPABILITIES: dict = {"elicitation": {"form": {}, "url": {}}}  # where a person is there
OPEN_PAGE_FIRST = -32042
MAX_QUESTIONS = 10  # of a server, in one tool call


def reply_to(connection: Any, incoming: dict, job: Job, handshakes: int) -> None:
    """Answer an older server's request: {"result": {"action": "accept", ...}}, or an error. It came
    when there had been so many handshakes. Raises Failure."""
    try:
        reply: dict = {"result": answer(connection, incoming, job)}
    except Failure as failure:
        if failure.kind != "refused":
            raise
        reply = {"error": {"code": INVALID_PARAMS, "message": str(failure)}}
    if connection.handshakes == handshakes:  # else it has forgotten that it has asked
        inboxes.reply_to(connection, incoming, reply)


def answers_for(connection: Any, result: dict, job: Job, number: int) -> dict:
    """What we add to our request when we send it once more, for the `number`th time:
    {"requestState": "x83k...", "inputResponses": {...}}. Raises Failure."""
    state = {"requestState": result["requestState"]} if "requestState" in result else {}
    asked = as_dict(result.get("inputRequests"))
    if not asked and not state:
        raise Failure("broken", "it wants an answer, and doesn't say to what.")
    if not asked:  # the server just wants a pause
        job.cancelled.wait(min(0.05 * 2**number, connection.server.timeout / 10))
        return state
    return {"inputResponses": {key: answer(connection, as_dict(asked[key]), job) for key in asked},
            **state}


def open_pages(connection: Any, failure: Failure, job: Job) -> bool:
    """Servers of 2025-11-25 may fail a call with the error -32042, and want it sent again when you
    have been to some pages: {"elicitations": [{"mode": "url", "url": ...}]}"""
    pages = as_list(as_dict(failure.data).get("elicitations"))
    return bool(pages and connection.capabilities) and all(
        answer(connection, {"method": "elicitation/create", "params": {
            **as_dict(page), "mode": "url"}}, job)["action"] == "accept" for page in pages)


def answer(connection: Any, asked: dict, job: Job) -> dict:
    """Have a person answer {"method": "elicitation/create", "params": {...}}. Returns {"action":
    "accept", "content": {"region": "eu"}}, or "decline", or "cancel". Raises Failure."""
    params = as_dict(asked.get("params"))
    if asked.get("method") != "elicitation/create" or not connection.capabilities:
        raise Failure("refused", "it wants something of us that we don't do: "
                                 f"{str(asked.get('method'))[:60]}.")
    with connection.person:  # there is one person, whichever server asks
        if [params, False] in job.questions or len(job.questions) >= MAX_QUESTIONS:
            raise Failure("refused", "it asks the same again, or without end.")
        show = {"form": forms.fill_in, "url": open_page}.get(str(params.get("mode", "form")))
        if show is None:
            raise Failure("refused", "it asks in a way that we don't know.")
        reply = show(connection.server.name, params, job)
        job.questions.append([params, reply["action"] == "accept"])
        return reply


def open_page(server: str, params: dict, job: Job) -> dict:
    """{"mode": "url", "message": "Sign in", "url": "https://..."}. The page is only opened when you
    have seen its address and agreed. Returns what answer() does."""
    from chapters.addresses import is_safe  # only where a server asks so, so that a start is fast
    url = str(params.get("url"))
    if not is_safe(url.replace("#", "/")):  # (a part of a page may be named)
        raise Failure("refused", "it wants us to open an address that isn't a safe one.")
    host = str(urlsplit(url).hostname)
    strange = "\nThis name may only look like one that you know." if "xn--" in host else ""
    decision = forms.decide(
        job, f"{server} asks you to open a page: {forms.quoted(params.get('message'))}\n"
        f"The page is at {host}:\n  {url}{strange}",
        {"y": "open it", "d": "decline", "c": "cancel"})
    if decision == "y":
        words = "Your browser shows it." if open_browser(url) else "Please open it yourself."
        decision = forms.decide(job, f"{words} When you are done there, go on here.",
                                {"y": "go on", "c": "cancel"})
    return {"action": "accept"} if decision == "y" else forms.ACTIONS[decision]
