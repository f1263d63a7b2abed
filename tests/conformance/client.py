"""What the official conformance suite starts: chat.py as the client of one of its servers.

    client.py http://localhost:PORT/mcp      (scenario and context come in the environment)

It only strings public functions together, in the order in which chat.py does: meet the server,
then call every tool, and be the person who answers what the server asks. There is no protocol in
here, and it isn't told which version to speak.
"""

import contextlib
import json
import os
import sys
import tempfile
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from chapters.command_line import credentials
from chapters.jobs import finish
from chat import LLM, Chat, Event, Question, Server

given = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
# The suite has one document that describes a client; a person would have one of their own.
oauth = {"redirect_port": 0,
         "client_metadata_url": "https://conformance-test.local/client-metadata.json"}
if "client_id" in given:
    oauth = {"redirect_port": 0, "client_id": given["client_id"],
             "client_secret": given["client_secret"]}
if os.environ["MCP_CONFORMANCE_SCENARIO"].startswith("auth/client-credentials"):
    oauth["grant_type"] = "client_credentials"


def show(event: Event) -> None:
    """Take every default, say yes to the rest, and send it."""
    if isinstance(event, Question):
        event.answer = "y" if event.choices else event.default or "yes"
    print(event)


def example(schema: dict) -> dict:
    """Some arguments that suit a tool. (One scenario has a tool that wants to see the schema of
    another, as it came to us.)"""
    other = {tool.name: tool.schema for tool in chat.tools.values()}
    values = {"number": 5, "integer": 3, "boolean": True, "array": [],
              "object": other.get("json_schema_2020_12_tool", {})}
    return {name: values.get(part.get("type"), "text") if isinstance(part, dict) else "text"
            for name, part in schema.get("properties", {}).items()}


with tempfile.TemporaryDirectory() as folder:
    server = Server("suite", url=sys.argv[-1], auth_type="oauth", oauth=oauth, timeout=20,
                    confirm="never")
    auth_for = partial(credentials, config=Path(folder, "mcp_servers.json"), person=True, say=print)
    with Chat(LLM("none", "none", "http://127.0.0.1:9"), {"suite": server}, "", auth_for,
              True) as chat:
        finish(chat.meet_servers(), show)
        problems = [problem for problem in chat.servers.values() if problem is not server]
        calls = given.get("toolCalls") or [{"name": tool.name, "arguments": example(tool.schema)}
                                           for tool in chat.tools.values()]
        by_name = {tool.name: tool.full_name for tool in chat.tools.values()}
        for number, call in enumerate(calls):
            with contextlib.suppress(KeyError):  # a tool that was dropped can't be called
                finish(chat.run_tools([{"id": str(number), "function": {
                    "name": by_name[call["name"]], "arguments": json.dumps(call["arguments"])}}]),
                    show)
    sys.exit(1 if problems else 0)
