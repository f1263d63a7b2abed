"""A server made with the official Python SDK, version 1 or 2.

    python sdk_server.py stdio
    python sdk_server.py http      prints {"sessions": "http://127.0.0.1:...", ...}
    python sdk_server.py 8         prints {"0": "http://127.0.0.1:...", ...}

Over HTTP it is four servers: with sessions or without, answering with event streams or JSON. With a
number, it is so many servers, and prints a line for each request: {"0": "tools/list"}
"""

import asyncio
import itertools
import json
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated

from pydantic import BaseModel, Field

try:  # version 2
    from mcp.server.mcpserver import Context, Image
    from mcp.server.mcpserver import MCPServer as FastMCP
    from mcp.server.mcpserver.resolve import Elicit, Resolve
except ImportError:
    from mcp.server.fastmcp import Context, FastMCP, Image
    Resolve = None

PNG = b"\x89PNG\r\n\x1a\n and so on"


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def weather(town: str) -> dict[str, str]:
    """Tell the weather."""
    return {"town": town, "sky": "sunny"}


def picture() -> Image:
    """Draw a picture."""
    return Image(data=PNG, format="png")


def fail() -> str:
    """Fail on purpose."""
    raise ValueError("You asked for it.")


async def count(to: int, ctx: Context) -> str:
    """Count, and report progress."""
    for number in range(1, to + 1):
        await ctx.report_progress(number, to, f"Counted {number}")
        await asyncio.sleep(0.05)
    return f"Counted to {to}."


def add_texts(server: FastMCP) -> None:
    """What there is besides tools: a resource, a template for some, and a prompt."""
    @server.resource("sdk://poem", title="A poem")
    def poem() -> str:
        return "Roses are red."

    @server.resource("sdk://towns/{town}")
    def town(town: str) -> str:
        return f"{town} is a town."

    @server.prompt()
    def postcard(town: str, mood: str = "cheerful") -> str:
        return f"Write a {mood} postcard from {town}."


class Place(BaseModel):
    region: str = Field("eu", json_schema_extra={"enum": ["eu", "us"]})
    copies: int = 1


if Resolve:  # asks in both generations, in the way of each
    def where() -> Elicit[Place]:
        return Elicit("Where?", Place)

    def provision(place: Annotated[Place, Resolve(where)]) -> str:
        """Ask for a place."""
        return repr(place)
else:
    async def provision(ctx: Context) -> str:
        """Ask for a place."""
        return repr((await ctx.elicit(message="Where?", schema=Place)).data)


def make(**options: bool) -> FastMCP:
    server = FastMCP("sdk", **options)
    for function in add, weather, picture, fail, count, provision:
        server.tool()(function)
    add_texts(server)
    return server


def four_ways() -> Iterator[tuple[str, Callable]]:
    for stateless, as_json in itertools.product([False, True], repeat=2):
        options = {"stateless_http": stateless, "json_response": as_json}
        try:
            app = make(**options).streamable_http_app()  # version 1 wants to know it here,
        except TypeError:
            app = make().streamable_http_app(**options)  # and version 2 here
        yield ("stateless" if stateless else "sessions") + (", JSON" if as_json else ""), app


def counted(name: str) -> tuple[str, Callable]:
    app = make().streamable_http_app()

    async def count(scope: dict, *streams: Callable) -> None:
        if scope["type"] == "http":
            method = dict(scope["headers"]).get(b"mcp-method", scope["method"].encode())
            print(json.dumps({name: method.decode()}), flush=True)
        await app(scope, *streams)

    return name, count


async def serve(apps: Iterable[tuple[str, Callable]]) -> None:
    import uvicorn
    urls, servers = {}, []
    for name, app in apps:
        listener = socket.create_server(("127.0.0.1", 0))
        urls[name] = f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
        servers.append(server.serve(sockets=[listener]))
    print(json.dumps(urls), flush=True)
    await asyncio.gather(*servers)


if sys.argv[1] == "stdio":
    make().run("stdio")
elif sys.argv[1] == "http":
    asyncio.run(serve(four_ways()))
else:
    asyncio.run(serve(map(counted, map(str, range(int(sys.argv[1]))))))
