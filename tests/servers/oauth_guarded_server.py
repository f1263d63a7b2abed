"""An MCP server from the official SDK, which lets in those whom another authorization server has
signed in. For each token it asks there what it is good for (RFC 7662): whether it is still valid,
for which scopes, and whether it was made for this server and no other (RFC 8707)."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator

import requests
import uvicorn
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer
from patience import PATIENCE


class Introspection:
    """The SDK asks this about each token."""

    def __init__(self, issuer: str):
        self.endpoint = f"{issuer}/token/introspection"
        self.tokens: set[str] = set()  # that came, good or bad

    def ask(self, token: str) -> dict:
        self.tokens.add(token)
        return requests.post(self.endpoint, auth=("sheets-server", "a secret of the server"),
                             data={"token": token}, timeout=PATIENCE).json()

    async def verify_token(self, token: str) -> AccessToken | None:
        found = await asyncio.to_thread(self.ask, token)
        return AccessToken(token=token, client_id=found["client_id"], resource=found["aud"],
                           scopes=found["scope"].split(), expires_at=found["exp"]) \
            if found["active"] else None


@contextlib.contextmanager
def guarded_server(issuer: str, scopes: list[str]) -> Iterator[tuple[str, set[str]]]:
    """Its address, and the tokens that it has been shown. It has one tool: "rows"."""
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
    introspection = Introspection(issuer)
    mcp = MCPServer("sheets", token_verifier=introspection, auth=AuthSettings(
        issuer_url=issuer, resource_server_url=url, required_scopes=scopes,
        validate_token_resource=True))

    @mcp.tool()
    def rows() -> str:
        """Count the rows of the sheet."""
        return "3 rows"

    server = uvicorn.Server(uvicorn.Config(mcp.streamable_http_app(), log_level="critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield url, introspection.tokens
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        listening.close()
