"""What "python chat.py --demo" talks to: a pretend model and a toy MCP server.

    toy_server.py       a complete MCP server, to read and to talk to
    pretend_model.py    a stand-in for OpenAI's service: a few rules, not an AI

Both run on this computer only, so the demo needs no key, no account and no network.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

WELCOME = """\
This is the demo. The model is pretend: a few rules, not an AI.
The MCP traffic is real: two servers, one over HTTP and one over stdio.

Try:   What is 17 + 25?
       What's the weather in Oslo and in Lima?
       Count slowly to 5
       Read the poem

With --demo --tour, it stops at every message, and says what it is for.
"""


@contextlib.contextmanager
def start(say: Callable[[str], object]) -> Iterator[tuple[list[dict], str]]:
    """Start the model and the HTTP server; say what this is; yield the servers, as they would stand
    in mcp_servers.json, and the model's address. Both end with the "with" block.
    The stdio server isn't started here: whoever connects to it starts it.
    """
    # Only the demo needs these two, so only the demo waits for them to load.
    from demo.pretend_model import serve_model
    from demo.toy_server import serve_http

    # Nothing of your own settings takes part: not what the openai package looks for, and no
    # proxy, for all the ways are short ones on this computer.
    for name in [name for name in os.environ if name.startswith("OPENAI_")]:
        del os.environ[name]
    os.environ["NO_PROXY"] = "*"

    say(WELCOME)
    toy_server = Path(__file__).resolve().with_name("toy_server.py")
    with serve_model() as base_url, serve_http() as url:
        yield [{"name": "toy-http", "url": url},
               {"name": "toy-stdio", "command": "python", "args": [str(toy_server)]}], base_url
