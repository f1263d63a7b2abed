"""An MCP server with its own authorization server, both from the official SDK: we didn't write it.

What the SDK leaves to its user is whom to sign in (everybody) and where to keep things (here).
Tokens are valid for `lifetime` seconds, and each refresh token is good once.
"""

import contextlib
import secrets
import socket
import threading
import time
from collections.abc import Iterator

import uvicorn
from mcp.server.auth.provider import (
    AccessToken,
    AuthorizationCode,
    AuthorizationParams,
    RefreshToken,
    construct_redirect_uri,
)
from mcp.server.auth.settings import AuthSettings, ClientRegistrationOptions
from mcp.server.mcpserver import MCPServer
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken


class Everybody:
    """The provider that the SDK asks."""

    def __init__(self) -> None:
        self.lifetime = 3600
        self.clients: dict[str, OAuthClientInformationFull] = {}
        self.codes: dict[str, AuthorizationCode] = {}
        self.tokens: dict[str, AccessToken] = {}
        self.refreshing: dict[str, RefreshToken] = {}
        self.logins = self.refreshes = 0

    async def get_client(self, client_id: str) -> OAuthClientInformationFull | None:
        return self.clients.get(client_id)

    async def register_client(self, client_info: OAuthClientInformationFull) -> None:
        self.clients[str(client_info.client_id)] = client_info

    async def authorize(self, client: OAuthClientInformationFull,
                        params: AuthorizationParams) -> str:
        self.logins += 1
        code = secrets.token_urlsafe(16)
        self.codes[code] = AuthorizationCode(
            code=code, scopes=params.scopes or [], expires_at=time.time() + 60,
            client_id=str(client.client_id), code_challenge=params.code_challenge,
            redirect_uri=params.redirect_uri, resource=params.resource,
            redirect_uri_provided_explicitly=params.redirect_uri_provided_explicitly)
        return construct_redirect_uri(str(params.redirect_uri), code=code, state=params.state)

    async def load_authorization_code(self, client, authorization_code):
        return self.codes.get(authorization_code)

    async def exchange_authorization_code(self, client, authorization_code) -> OAuthToken:
        del self.codes[authorization_code.code]
        return self.issue(client.client_id, authorization_code.scopes, authorization_code.resource)

    async def load_refresh_token(self, client, refresh_token: str):
        return self.refreshing.get(refresh_token)

    async def exchange_refresh_token(self, client, refresh_token, scopes) -> OAuthToken:
        self.refreshes += 1
        del self.refreshing[refresh_token.token]
        return self.issue(client.client_id, scopes, refresh_token.resource)

    async def load_access_token(self, token: str) -> AccessToken | None:
        return self.tokens.get(token)

    async def revoke_token(self, token) -> None:
        self.tokens.pop(token.token, None)

    def issue(self, client_id: str, scopes: list[str], resource: str | None) -> OAuthToken:
        token, refresh = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
        self.tokens[token] = AccessToken(token=token, client_id=client_id, scopes=scopes,
                                         expires_at=int(time.time()) + self.lifetime,
                                         resource=resource)
        self.refreshing[refresh] = RefreshToken(token=refresh, client_id=client_id, scopes=scopes,
                                                resource=resource)
        return OAuthToken(access_token=token, refresh_token=refresh, expires_in=self.lifetime,
                          scope=" ".join(scopes))


@contextlib.contextmanager
def sdk_server(everybody: Everybody | None = None, port: int = 0, required: str = "read"
               ) -> Iterator[tuple[str, Everybody]]:
    """Its address, and what it knows. After a restart, it may know it still, and want another
    scope."""
    listening = socket.create_server(("127.0.0.1", port))
    origin = f"http://127.0.0.1:{listening.getsockname()[1]}"
    everybody = everybody or Everybody()
    settings = AuthSettings(
        issuer_url=origin, resource_server_url=f"{origin}/mcp", required_scopes=required.split(),
        validate_token_resource=True, client_registration_options=ClientRegistrationOptions(
            enabled=True, valid_scopes=["read", "write"], default_scopes=required.split()))
    app = MCPServer("sheets", auth_server_provider=everybody, auth=settings).streamable_http_app()
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield f"{origin}/mcp", everybody
    server.should_exit = True
    thread.join(5)
    listening.close()
