"""The other end of oauth_handler.py: an MCP server and an authorization server, for the tests.

Both really listen, on this computer. Each is a Site: a table from paths to functions, so that
a test can put something else in one place, and a list of all that was asked for:

    world.auth_server.pages["/token"] = lambda visit: Reply(503)
    ...
    assert world.auth_server.asked("/token") == []
"""

import base64
import hashlib
import json
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit


@dataclass
class Visit:
    """One request, taken apart."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]      # by lower-case name
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))

    @property
    def token(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ")


@dataclass
class Reply:
    status: int = 200
    body: object = b""           # bytes, or something for json
    headers: dict[str, str] = field(default_factory=dict)


class Site:
    """A web server that remembers its visits."""

    def __init__(self) -> None:
        self.pages: dict[str, Callable[[Visit], Reply]] = {}
        self.visits: list[Visit] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                parts = urlsplit(self.path)
                visit = Visit(self.command, parts.path, dict(parse_qsl(parts.query)),
                              {key.lower(): value for key, value in self.headers.items()},
                              self.rfile.read(length))
                site.visits.append(visit)
                reply = site.pages.get(visit.path, lambda visit: Reply(404))(visit)
                body = reply.body if isinstance(reply.body, bytes) else \
                    json.dumps(reply.body).encode()
                self.send_response(reply.status)
                kind = "text/html" if isinstance(reply.body, bytes) else "application/json"
                headers = {"Content-Type": kind, "Content-Length": str(len(body))}
                for name, value in {**headers, **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = answer

            def log_message(self, *words: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *visitor: object) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.005,), daemon=True).start()

    def asked(self, path: str) -> list[Visit]:
        return [visit for visit in self.visits if visit.path == path]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class AuthorizationServer(Site):
    """Signs in everybody who comes, without a question, and otherwise goes by the book. `strict`,
    it also remembers its clients, as many do."""

    def __init__(self) -> None:
        super().__init__()
        self.issuer = self.origin
        self.metadata = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.origin}/authorize",
            "token_endpoint": f"{self.origin}/token",
            "registration_endpoint": f"{self.origin}/register",
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }
        self.registered: dict = {}               # added to the answer of /register
        self.token_answer: dict = {"expires_in": 3600}
        self.secret: str | None = None           # what clients must show, if anything
        self.clients: dict[str, str] = {}        # and the scopes that each was registered with
        self.strict = False                      # whether it takes those seriously
        self.codes: dict[str, dict] = {}         # what each was asked for with
        self.valid: dict[str, str] = {}          # tokens, and what they allow
        self.refreshing: dict[str, str] = {}     # refresh tokens, good once
        self.confidential: set[str] = set()      # what nobody else may ever see
        self.lock = threading.Lock()
        well_known = "/.well-known/oauth-authorization-server"
        self.pages = {well_known: lambda visit: Reply(200, self.metadata),
                      "/authorize": self.authorize, "/register": self.register,
                      "/token": self.token}

    def restart(self) -> None:
        """With empty memory."""
        for memory in (self.clients, self.codes, self.valid, self.refreshing):
            memory.clear()

    def secretly(self, kind: str) -> str:
        text = f"{kind}-{secrets.token_urlsafe(16)}"
        self.confidential.add(text)
        return text

    def register(self, visit: Visit) -> Reply:
        client_id, about = f"client-{secrets.token_hex(4)}", json.loads(visit.body)
        self.clients[client_id] = about.get("scope", "")
        return Reply(201, {**about, "client_id": client_id, **self.registered})

    def callback(self, asked: dict[str, str]) -> dict[str, str]:
        """What the browser brings back."""
        code = self.secretly("code")
        self.codes[code] = asked
        return {"code": code, "state": asked.get("state", ""), "iss": self.metadata["issuer"]}

    def authorize(self, visit: Visit) -> Reply:
        asked = {**visit.query, **visit.form}
        back = urlencode(self.callback(asked))
        if self.strict and asked["client_id"] not in self.clients:
            return Reply(400, b"<h1>invalid_client</h1>")  # where to should it send the browser?
        if self.strict and not set(asked.get("scope", "").split()) <= set(
                self.clients[asked["client_id"]].split()):
            back = urlencode({"error": "invalid_scope", "state": asked["state"],
                              "iss": self.metadata["issuer"]})
        return Reply(302, headers={"Location": f"{asked['redirect_uri']}?{back}"})

    def token(self, visit: Visit) -> Reply:
        form = visit.form
        header = visit.headers.get("authorization", "")
        if header.startswith("Basic "):
            shown = base64.b64decode(header[6:]).decode().split(":")
            form["client_id"], form["client_secret"] = (unquote(half) for half in shown)
        if "code_verifier" in form:
            self.confidential.add(form["code_verifier"])
        if self.secret and form.get("client_secret") != self.secret or \
                form.get("client_id") not in self.clients:
            return Reply(401, {"error": "invalid_client"})
        with self.lock:
            match form["grant_type"]:
                case "authorization_code":
                    asked = self.codes.pop(form["code"], {})
                    digest = hashlib.sha256(form["code_verifier"].encode()).digest()
                    proof = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
                    if asked.get("code_challenge") != proof or any(
                            asked.get(key) != form.get(key)
                            for key in ("redirect_uri", "resource", "client_id")):
                        return Reply(400, {"error": "invalid_grant"})
                    scope = asked.get("scope", "")
                case "refresh_token":
                    if form["refresh_token"] not in self.refreshing:
                        return Reply(400, {"error": "invalid_grant"})
                    scope = self.refreshing.pop(form["refresh_token"])
                case _:
                    scope = form.get("scope", "")
            token, refresh = self.secretly("token"), self.secretly("refresh")
            self.valid[token] = self.refreshing[refresh] = scope
        return Reply(200, {"access_token": token, "token_type": "Bearer",
                           "refresh_token": refresh, **self.token_answer})


class McpServer(Site):
    """Answers who has a token of that authorization server."""

    def __init__(self, auth_server: AuthorizationServer) -> None:
        super().__init__()
        self.url = f"{self.origin}/mcp"
        self.auth_server = auth_server
        self.resource = {"resource": self.url, "authorization_servers": [auth_server.issuer]}
        self.challenge = "Bearer "
        self.scope = ""            # what a token must allow
        self.pages = {"/mcp": self.mcp, "/.well-known/oauth-protected-resource/mcp":
                      lambda visit: Reply(200, self.resource)}

    def mcp(self, visit: Visit) -> Reply:
        allowed = self.auth_server.valid.get(visit.token)
        if allowed is None:
            return Reply(401, b"x" * 100_000, {"WWW-Authenticate": self.challenge}
                         if self.challenge else {})
        if self.scope and self.scope not in allowed.split():
            return Reply(403, b"", {"WWW-Authenticate": 'Bearer error="insufficient_scope", '
                                                        f'scope="{self.scope}"'})
        return Reply(200, {"jsonrpc": "2.0", "id": 1, "result": {}})
