"""Signing in to MCP servers with OAuth: the second chapter, after chat.py.

Some servers hold things that are yours, like your sheets. They answer a stranger's request with
"401 Unauthorized", and yours only if it carries an access token: a long random text that stands
for "Ada lets this chatbot read her sheets". It allows only what you agreed to, it ends by itself,
and you can take it back. You get one where you have your account, with your password, which is
none of our business: so we send you there, in your own browser, and wait. That is OAuth 2.1:

    chatbot                  your browser     authorization server       MCP server
       │ ── a request without a token ────────────────────────────────────────▶ │
       │ ◀──────────────────────────────── 401, and where to look it up ─────── │
       │ ── Which authorization server signs people in for you? ──────────────▶ │
       │ ── What are your addresses? ──────────────────▶ │
       │ ── I am a chatbot, register me. ──────────────▶ │
       │ ── open this page ────▶ │ ── the login page ──▶ │
       │                         │     (you say yes)     │
       │ ◀── localhost, code ─── │ ◀── go back there ─── │
       │ ── the code, and a proof that it's ours ──────▶ │
       │ ◀──────────────── an access token ───────────── │
       │ ── the request again, with the token ────────────────────────────────▶ │
       │ ◀──────────────────────────────────────────────────── the answer ───── │

Each step is one part of this file, and has a standard of its own (an "RFC"):

    Part 1   Discovery               two documents whose place can be guessed: RFC 9728, RFC 8414
    Part 2   Client registration     the authorization server gets to know us: RFC 7591
    Part 3   Code verifier, state    so that nobody else can use the code: RFC 7636
    Part 4   The browser             how it gets to the login page and back: RFC 8252, RFC 9207
    Part 5   Tokens                  what the code is traded for: RFC 6749, RFC 8707
    Part 6   The token file          so that you sign in once, and not every day
    Part 7   Precautions             because all these addresses are somebody else's words
    Part 8   All of it               the steps again, in code: the class OAuth

The words, here and in the standards (only our messages to you say "sign-in service"):

    authorization server   who knows your password and gives out tokens   id.example.com
    issuer                 its name: an address                           "https://id.example.com"
    client                 what we are to the authorization server        client_id "s6BhdRkqt3"
    redirect URI           where the browser comes back to us             "http://localhost:8080/..."
    scope                  what a token allows, in the server's words     "sheets.read sheets.write"
    access token           what each request carries
    refresh token          good for nothing but the next access token

The main road is Parts 1 to 5 and sign_in in Part 8, and takes half an hour. Of Part 7 it is
enough to know that safe_url refuses dangerous addresses, and that fetch is a careful
requests.request. chat.py knows only the class at the end: requests.post(url, auth=OAuth(...)).
"""

import base64
import contextlib
import errno
import hashlib
import ipaddress
import json
import math
import os
import re
import secrets  # random texts that nobody can guess
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urljoin, urlsplit

import requests
from requests.auth import AuthBase

from chapters.outside import Problem, open_browser

if sys.platform == "win32":
    import msvcrt  # locks on files: one system has these,
else:
    import fcntl  # the others those

MCP_VERSION = "2026-07-28"
MAX_BYTES = 2**20  # of an answer; the real ones have a few hundred
MAX_STEP_UPS = 2   # how often a run asks you for more scopes than you agreed to at first
TEN_YEARS = 10 * 365 * 86400


class OAuthError(Problem):
    """Signing in didn't work. Its text is for the person: what happened, and what to do.

    Most functions don't know for which server they work. The class OAuth does, and adds it.
    """

    def __init__(self, text: str, server: str = ""):
        super().__init__(text)
        self.server = server

    def __str__(self) -> str:
        start = f"OAuth authentication failed for {self.server}: " if self.server else ""
        return start + super().__str__()


class TemporaryOAuthError(OAuthError):
    """Nobody said no, it just didn't work now. We forget nothing, and may try again."""

    def __init__(self, text: str, reason: str = "no connection"):
        super().__init__(text)
        self.reason = reason


# ── Part 1: Discovery ────────────────────────────────────────────────────────────────────
#
# The 401 may say where to look it up, in a header that is called the challenge:
#
#     HTTP/1.1 401 Unauthorized
#     WWW-Authenticate: Bearer scope="sheets.read",
#         resource_metadata="https://example.com/.well-known/oauth-protected-resource/mcp"
#
# If it doesn't, the address can be guessed, because the place is agreed on: that is what
# ".well-known" is for. There the MCP server has its protected resource metadata (RFC 9728):
#
#     {"resource": "https://example.com/mcp", "authorization_servers": ["https://id.example.com"]}
#
# and the authorization server, at a .well-known address of its own, its metadata (RFC 8414):
#
#     {"issuer": "https://id.example.com",
#      "authorization_endpoint": "https://id.example.com/authorize",      the login page
#      "token_endpoint": "https://id.example.com/token",                  the code for a token
#      "registration_endpoint": "https://id.example.com/register",        see Part 2
#      "code_challenge_methods_supported": ["S256"]}                      see Part 3
#
# Both must name what we asked about. Or one server could have us sign in for another.

# A name begins where a word begins, and a text in quotes may hold \" and "scope=".
PARAMETER = re.compile(r'(?<![\w-])([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')

NO_PKCE = "the sign-in service does not offer PKCE (S256), so logging in would not be safe."
NOTHING_FOUND = ("this server asks for a login but publishes no sign-in information. If it uses a "
                 'token, set "auth_type": "token"; otherwise set "client_id", "auth_url" and '
                 '"token_url".')
INCOMPLETE = "the sign-in service {issuer} sent incomplete data (no {missing})."
NAMES_ITSELF = ("the sign-in service names itself {named} but was found at {issuer}. Ask the "
                "server's owner which sign-in addresses are right; they can be set as "
                '"auth_url" and "token_url".')


def parse_challenge(header: str | None) -> dict[str, str]:
    r"""
    >>> parse_challenge(r'Bearer scope="a b", error_description="say \"scope=evil\""')
    {'scope': 'a b', 'error_description': 'say "scope=evil"'}
    """
    found: dict[str, str] = {}
    for name, quoted, bare in PARAMETER.findall((header or "")[:8192]):
        found.setdefault(name.lower(), re.sub(r"\\(.)", r"\1", quoted) or bare)
    return found


@dataclass(frozen=True)
class AuthorizationServer:
    """What an authorization server says about itself."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    registration_endpoint: str = ""
    scopes: list[str] = field(default_factory=list)
    auth_methods: list[str] = field(default_factory=list)   # how clients may show their secret
    takes_metadata_url: bool = False    # as a client_id, see Part 2
    sends_iss: bool = False             # it promises to name itself with the code, see Part 4
    offers_pkce: bool = True            # see Part 3
    guessed: bool = False               # it has said nothing


def well_known(name: str, url: str) -> str:
    """
    >>> well_known("oauth-protected-resource", "https://example.com/public/mcp")
    'https://example.com/.well-known/oauth-protected-resource/public/mcp'
    """
    return f"{origin(url)}/.well-known/{name}{urlsplit(url).path.removesuffix('/')}"


def get_metadata(candidates: list[str], near: str) -> "Answer":
    """Get the first of these documents that exists, or else an answer that has none."""
    for url in dict.fromkeys(candidates):
        for _ in range(4):      # redirects are followed, but looked at like all addresses
            answer = fetch("GET", safe_url(url, near), {"MCP-Protocol-Version": MCP_VERSION})
            if answer.status >= 500 and answer.status != 502:
                raise unreachable(url)    # a hiccup; it doesn't mean that there is no document
            if not 300 <= answer.status < 400:
                break
            url = answer.location
        if answer.status == 200 and answer.document is not None:
            return answer
    return replace(answer, document=None)


def find_resource(server_url: str, challenge: dict[str, str]) -> dict | None:
    """Get the protected resource metadata of an MCP server. None: it has none."""
    candidates = [well_known("oauth-protected-resource", url)
                  for url in (server_url, origin(server_url))]
    if challenge.get("resource_metadata"):
        candidates.insert(0, challenge["resource_metadata"])
    found = get_metadata(candidates, server_url).document or {}
    if not texts(found.get("authorization_servers")):
        return None
    if not covers(found.get("resource"), server_url):
        raise OAuthError(f"the server's sign-in data is for {clean(found.get('resource'))}, not "
                         'for this URL. Check "url" in mcp_servers.json.')
    return found


def covers(resource: object, server_url: str) -> bool:
    """Whether a resource is this server, or a folder that the server is in.

    >>> [covers(folder, "https://a.com/api/mcp") for folder in ("https://a.com", "https://a.com/ap")]
    [True, False]
    """
    def folder(url: str) -> str:
        return origin(url) + urlsplit(url).path.rstrip("/") + "/"

    return is_safe(resource, server_url) and folder(server_url).startswith(folder(str(resource)))


def find_authorization_server(issuer: str, near: str, needs_pkce: bool) -> AuthorizationServer:
    """Get the authorization server metadata of an issuer."""
    # OpenID Connect, OAuth's relative, has the same document under another name, and used to
    # put it at the end of the issuer's path.
    candidates = [well_known("oauth-authorization-server", issuer),
                  well_known("openid-configuration", issuer)]
    if urlsplit(issuer).path.strip("/"):
        candidates.append(issuer.removesuffix("/") + "/.well-known/openid-configuration")
    document = get_metadata(candidates, near).document
    if document is None:
        raise OAuthError(INCOMPLETE.format(issuer=issuer, missing="addresses"))
    return read_metadata(document, issuer, near, needs_pkce)


def read_metadata(found: dict, issuer: str, near: str, needs_pkce: bool) -> AuthorizationServer:
    named = str(found.get("issuer", ""))
    # Many can't agree with themselves on the slash at the end. Both spellings lead to the same
    # document, so nobody else can be meant.
    if named.removesuffix("/") != issuer.removesuffix("/"):
        raise OAuthError(NAMES_ITSELF.format(named=clean(named), issuer=issuer))
    pkce = found.get("code_challenge_methods_supported", [] if needs_pkce else ["S256"])
    if "S256" not in texts(pkce):
        raise OAuthError(NO_PKCE)
    for key in ("authorization_endpoint", "token_endpoint"):
        if not isinstance(found.get(key), str):
            raise OAuthError(INCOMPLETE.format(issuer=issuer, missing=key))
    registration = found.get("registration_endpoint")
    return AuthorizationServer(
        named, safe_url(found["authorization_endpoint"], near),
        safe_url(found["token_endpoint"], near),
        safe_url(registration, near) if registration else "",
        scopes=texts(found.get("scopes_supported")),
        auth_methods=texts(found.get("token_endpoint_auth_methods_supported")),
        takes_metadata_url=found.get("client_id_metadata_document_supported") is True,
        sends_iss=found.get("authorization_response_iss_parameter_supported") is True,
        offers_pkce="code_challenge_methods_supported" in found)


def find_it_the_old_way(server_url: str, needs_pkce: bool) -> AuthorizationServer:
    """The first MCP servers (2025-03-26) were their own authorization servers. (Skip this on a
    first reading.)"""
    base = origin(server_url)
    answer = get_metadata([well_known("oauth-authorization-server", base)], server_url)
    if answer.document is None:
        if not 400 <= answer.status < 500:
            raise OAuthError(NOTHING_FOUND)
        return AuthorizationServer(base, f"{base}/authorize", f"{base}/token", f"{base}/register",
                                   guessed=True)
    named = str(answer.document.get("issuer", base))
    if named.removesuffix("/") == base:
        return read_metadata({"issuer": base, **answer.document}, base, server_url, False)
    # It speaks for somebody else. What it says of them we don't believe, but we ask them.
    try:
        return find_authorization_server(safe_url(named, server_url), server_url, needs_pkce)
    except TemporaryOAuthError:
        raise
    except OAuthError:
        raise OAuthError(NAMES_ITSELF.format(named=clean(named), issuer=base)) from None


def discover(server_url: str, challenge: dict[str, str], settings: dict,
             ) -> tuple[dict | None, AuthorizationServer]:
    """Both documents, one after the other; the settings have the last word on two addresses."""
    ours = {field: settings[key] for key, field in (
        ("auth_url", "authorization_endpoint"), ("token_url", "token_endpoint"))
        if key in settings}
    vouched = len(ours) == 2    # who sets both knows what is there
    needs_pkce = not vouched and settings.get("grant_type") != "client_credentials"
    resource = find_resource(server_url, challenge)
    try:
        if resource:
            issuers = resource["authorization_servers"]
            issuer = next((one for one in issuers if is_safe(one, server_url)), issuers[0])
            server = find_authorization_server(safe_url(issuer, server_url), server_url,
                                               needs_pkce)
        else:
            server = find_it_the_old_way(server_url, needs_pkce)
            if server.guessed and ours:
                raise OAuthError(NOTHING_FOUND)
    except TemporaryOAuthError:
        raise
    except OAuthError:
        if len(ours) == 1:
            missing = "token_url" if "auth_url" in settings else "auth_url"
            raise OAuthError("the server's sign-in information can't be used. "
                             f'Set "{missing}" too.') from None
        if not vouched:
            raise
        server = AuthorizationServer(origin(settings["token_url"]), "", "", guessed=True)
    return resource, replace(server, **ours)


def choose_scope(settings: dict, challenge: dict[str, str], resource: dict | None,
                 server: AuthorizationServer) -> str:
    """What to ask for. Where nobody names a scope, we ask for none: they will know."""
    if settings.get("scopes"):
        return " ".join(settings["scopes"])
    scopes = scopes_in(challenge.get("scope")) or \
        scopes_in((resource or {}).get("scopes_supported"))
    # With this one, many give us a refresh token, and you needn't come back each hour.
    if scopes and "offline_access" in server.scopes:
        scopes = [*scopes, "offline_access"]
    return " ".join(dict.fromkeys(scopes))


# ── Part 2: Client registration ──────────────────────────────────────────────────────────
#
# The login page wants to say which program asks: "Simple MCP Chat wants to read your sheets".
# A program's name is its client_id. Some authorization servers have a page where a person can
# get one; then it stands in the settings. Some take the address of a document about the
# program. Most let a program register itself (RFC 7591), with one POST:
#
#     {"client_name": "simple-mcp-chat-sheets", "redirect_uris": ["http://localhost:8080/callback"],
#      "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
#      "token_endpoint_auth_method": "none", "application_type": "native"}
#
# and answer {"client_id": "s6BhdRkqt3", ...}. It is good there, for that redirect URI.

@dataclass(frozen=True)
class Client:
    """What we are to one authorization server. The names are those on the wire."""

    source: str                                 # "config", "document" or "registration"
    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    token_endpoint_auth_method: str = "none"    # how we show the secret, see Part 5
    client_secret_expires_at: int | float = 0   # 0: never
    redirect_uri: str = ""


METHODS = ("none", "client_secret_basic", "client_secret_post")


def choose_method(server: AuthorizationServer, secret: str | None, named: object = None) -> str:
    """How to show our secret: as the registration said, or as the authorization server prefers."""
    for method in (named, "client_secret_basic", "client_secret_post"):
        if method in METHODS and (method in server.auth_methods or not server.auth_methods) and \
                (secret or method == "none"):
            return str(method)
    return "none"


def find_client(settings: dict, saved: "Saved", name: str, server: AuthorizationServer,
                redirect_uri: str, now: float) -> Client | None:
    """Who we are without asking: by the settings, by the token file, by a document about us."""
    if "client_id" in settings:
        for issuer, clients in saved.clients.items():
            old = clients.get(name)
            if old and old.source == "config" and old.client_id == settings["client_id"] and \
                    issuer != server.issuer:
                raise OAuthError(f"sign-in moved from {issuer} to {server.issuer}. If that is "
                                 'expected, delete .mcp_tokens.json and update "client_id".')
        secret = settings.get("client_secret")
        return Client("config", settings["client_id"], secret, choose_method(server, secret),
                      redirect_uri=redirect_uri)
    stored = saved.clients.get(server.issuer, {}).get(name)
    if stored and stored.source == "registration" and stored.redirect_uri == redirect_uri and \
            (not stored.client_secret_expires_at or stored.client_secret_expires_at > now):
        return stored
    if "client_metadata_url" in settings and server.takes_metadata_url:
        return Client("document", settings["client_metadata_url"], redirect_uri=redirect_uri)
    return None


def register(server: AuthorizationServer, name: str, redirect_uri: str, scope: str) -> Client:
    """Send a client registration."""
    if not server.registration_endpoint:
        raise OAuthError(
            "this sign-in service does not register clients by itself. Create an OAuth client "
            f'there with the redirect address {redirect_uri}, then put its "client_id" (and '
            '"client_secret", if any) in the "oauth" section of mcp_servers.json.')
    about_us: dict[str, Any] = {
        "client_name": f"simple-mcp-chat-{name}",
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        # A program that everybody can read can't prove with a secret that it is the real one.
        # So we would rather have none.
        "token_endpoint_auth_method": next((way for way in METHODS if way in server.auth_methods),
                                           "none"),
        "application_type": "native",
    }
    if scope:
        about_us["scope"] = scope
    answer = fetch("POST", server.registration_endpoint, json=about_us)
    document = answer.document or {}
    if answer.status in (404, 405) and server.guessed:
        raise OAuthError(NOTHING_FOUND)
    if answer.status not in (200, 201):
        if document.get("error") == "invalid_redirect_uri":
            raise OAuthError(f"the sign-in service refused the address {redirect_uri} (invalid_"
                             'redirect_uri). Create a client there by hand and set "client_id".')
        why = clean(document.get("error") or f"HTTP {answer.status}")
        raise OAuthError(f'registration was refused ({why}). Try later, or set "client_id".')
    # What the answer says counts, even if we asked for something else.
    client_id, secret = document.get("client_id"), document.get("client_secret") or None
    method = document.get("token_endpoint_auth_method", about_us["token_endpoint_auth_method"])
    expires = document.get("client_secret_expires_at") or 0
    if not (is_text(client_id) and is_text(secret or "none") and method in METHODS and
            (secret or method == "none") and isinstance(expires, int | float)):
        raise OAuthError("the sign-in service answered the registration in a way this program "
                         "cannot use.")
    return Client("registration", str(client_id), secret, choose_method(server, secret, method),
                  expires, redirect_uri)


# ── Part 3: Code verifier, state ─────────────────────────────────────────────────────────
#
# The code will come back through a browser, and other programs on this computer may see it
# there. So, before it all begins, we make up a secret, the code verifier, and show only its
# fingerprint, the code challenge. Who brings the code later must also bring the code verifier
# that belongs to the challenge. That is PKCE (say "pixy", RFC 7636).
#
# And any web page can send your browser to our redirect URI with a code of its own, to make you
# work in somebody else's account. So we make up a second secret, the state. The authorization
# server hands it back with the code; who doesn't know it, doesn't come from there.

def code_challenge(code_verifier: str) -> str:
    """The RFC's own example, from its Appendix B:

    >>> code_challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM'
    """
    digest = hashlib.sha256(code_verifier.encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def login_parameters(client: Client, resource: dict | None, scope: str, state: str,
                     code_verifier: str) -> dict[str, str]:
    """What the login page is told."""
    parameters = {
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": client.redirect_uri,
        "state": state,
        "code_challenge": code_challenge(code_verifier),
        "code_challenge_method": "S256",
        # For which server, so that the token is good there and nowhere else (RFC 8707).
        "resource": resource["resource"] if resource else "",
        "scope": scope,
        "prompt": "consent" if "offline_access" in scope.split() else "",
    }
    return {key: value for key, value in parameters.items() if value}


# ── Part 4: The browser ──────────────────────────────────────────────────────────────────
#
# We open the login page in the browser. When you have said yes, the page sends the browser to
# the redirect URI: http://localhost:8080/callback?code=...&state=...  "localhost" is this very
# computer, and for that one moment we are a web server on it (RFC 8252). If the browser is on
# another computer, its person can paste the address where it ended.

def judge(query: str, state: str, server: AuthorizationServer) -> str | None:
    """Return the code in what came back; None if it isn't from our login at all.

    Raises OAuthError if it is, but brings no code. The order of the questions matters: what
    isn't ours, or not from where we asked, should not even be quoted.
    """
    answer = parse_qs(query, keep_blank_values=True)
    found = {key: values[0] for key, values in answer.items() if len(values) == 1}
    # Compared as bytes, and in a time that doesn't tell how much of it was right.
    known = secrets.compare_digest(found.get("state", "").encode("utf-8", "replace"),
                                   state.encode())
    if not known or len(found) < len(answer):
        return None
    # Who signs in at two authorization servers could be made to carry the code of one to the
    # other. That is why a sender gives its name (RFC 9207), spelled as in Part 1.
    if not server.guessed and (found["iss"] != server.issuer if "iss" in found
                               else server.sends_iss):
        raise OAuthError("the answer came from a different sign-in service than the one asked. "
                         "Nothing was sent. Try again; if it repeats, do not use this server.")
    if "error" in found:
        raise Refused(found["error"], found.get("error_description"))
    if not found.get("code"):
        raise OAuthError(NO_CODE)
    return found["code"]


NO_CODE = "the sign-in service sent no code. Please try again."
FOREIGN = "This page does not belong to the login you started. Go back to the terminal."
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Simple MCP Chat</title>
<body style="font: 1.2em system-ui; margin: 4em auto; max-width: 30em"><p>{}</p></body></html>
"""
PAGE_HEADERS = {"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store",
                "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
                "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
                "Connection": "close"}


class Callback:
    """What the browser brings back."""

    def __init__(self, redirect_uri: str):
        self.redirect_uri = redirect_uri
        self.judge: Callable[[str], str | None] = lambda query: None    # until there is a login
        self.outcome: str | OAuthError | None = None
        self.done = threading.Event()
        self.stray = False      # whether something came from another login

    def receive(self, path: str, host: str) -> tuple[int, str]:
        """Hear a request; return the status and the text of the page for it. All of it our own
        words: nothing that stood in the address may get onto the page."""
        path, _, query = path.partition("?")
        if path != "/callback" or not re.fullmatch(
                r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?", host, re.IGNORECASE):
            return 404, FOREIGN
        if self.outcome:
            return 200, "This login is over. You can close this page."
        try:
            self.outcome = self.judge(query)
        except OAuthError as error:
            self.outcome = error
            return 200, ("The login did not work. You can close this page: "
                         "the terminal says what happened.")
        self.stray = not self.outcome
        if self.stray:
            return 400, FOREIGN
        return 200, "You have signed in. You can close this page and go back to the terminal."

    def wait(self, seconds: float) -> str:
        """The code, or "" if none came. Raises OAuthError."""
        end = time.monotonic() + seconds
        while not self.done.wait(0.1) and time.monotonic() < end:
            pass                     # in short pieces: on Windows, Ctrl-C waits for their end
        if isinstance(self.outcome, OAuthError):
            raise self.outcome
        return self.outcome or ""


@contextlib.contextmanager
def listening(settings: dict, by_machine: bool) -> Iterator[Callback]:
    """Be the web server at the redirect URI, until the browser comes back. (Skip this on a
    first reading.)"""
    from http.server import BaseHTTPRequestHandler
    from socketserver import ThreadingTCPServer

    class CallbackHandler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            status, text = callback.receive(self.path, self.headers.get("Host", ""))
            page = PAGE.format(text).encode()
            try:
                self.send_response(status)
                for name, value in {**PAGE_HEADERS, "Content-Length": str(len(page))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(page)
            finally:
                if callback.outcome:
                    callback.done.set()     # after the page: with us, the web server ends

        def log_message(self, *words: object) -> None:
            """Say nothing: it would print the code."""

    class WebServer(ThreadingTCPServer):
        """Each connection has a thread: browsers like to open one and then say nothing."""

        daemon_threads = True
        # Linux keeps a port for a minute, unless we say this. Windows would share it.
        allow_reuse_address = sys.platform != "win32"

        def handle_error(self, *connection: object) -> None:
            """Say nothing: a browser that hangs up early is nobody's problem."""

    class WebServer6(WebServer):
        address_family = socket.AF_INET6

    port, servers = settings.get("redirect_port", 8080), []
    # "localhost" has two addresses, and a browser may try the second first. If another program
    # listens there, it would get the code. But some computers have only the first.
    kinds = [] if by_machine else [(WebServer, "127.0.0.1"), (WebServer6, "::1")]
    with contextlib.ExitStack() as at_the_end:
        for kind, host in kinds:
            try:
                servers.append(at_the_end.enter_context(kind((host, port), CallbackHandler)))
            except OSError as error:
                if not servers or error.errno == errno.EADDRINUSE:
                    also = " and register http://localhost:8765/callback with your client"
                    raise OAuthError(
                        f"port {port} is already in use. Close the other program, or set "
                        '"redirect_port" to another number, for example 8765'
                        f"{also if 'client_id' in settings else ''}.") from None
            port = servers[0].server_address[1]
        callback = Callback(f"http://localhost:{port or 8080}/callback")
        for server in servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            at_the_end.callback(server.shutdown)
        yield callback


def post_login_form(endpoint: str, form: dict[str, str], redirect_uri: str) -> str:
    """Sign in where the login page is a form that can be posted. Returns what comes back to us.

    The form holds a password, so it goes to the authorization server's own address and no other.
    """
    target = endpoint
    for _ in range(4):
        answer = fetch("POST", target, may_redirect=True, data=form)
        if answer.location.startswith(redirect_uri + "?"):
            return answer.location.removeprefix(redirect_uri + "?")
        target = answer.location
        if not is_safe(target, endpoint) or origin(target) != origin(endpoint):
            break
    raise OAuthError(f'the login form was refused (HTTP {answer.status}). Check "login_form".')


# ── Part 5: Tokens ───────────────────────────────────────────────────────────────────────
#
# The code and the code verifier go straight to the authorization server, without the browser:
#
#     POST /token HTTP/1.1                                        HTTP/1.1 200 OK
#     Content-Type: application/x-www-form-urlencoded
#                                                                 {"access_token": "2YotnFZFEj...",
#     grant_type=authorization_code&code=...&code_verifier=...     "token_type": "Bearer",
#     &client_id=...&redirect_uri=...&resource=...                 "expires_in": 3600,
#                                                                  "refresh_token": "tGzv3JOkF..."}
#
# What a token says is for the server to read; to us it is a text. After an hour we ask at the
# same address again, with grant_type=refresh_token, and nobody is disturbed.

@dataclass(frozen=True)
class Tokens:
    """One server's tokens, and what we need to get the next."""

    url: str                     # the server's; the access token is for no other
    issuer: str
    client_id: str
    token_endpoint: str
    resource: str | None
    scope: str
    access_token: str = field(default="", repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    obtained_at: int | float = 0             # in seconds since 1970, like the next: tomorrow,
    expires_at: int | float | None = None    # nobody would know what "in an hour" was

    def fresh(self, now: float) -> bool:
        """Whether the access token will do for a request that takes a moment."""
        if now < self.obtained_at - 60:      # somebody has set back the clock
            return False
        if self.expires_at is None:          # nobody said; the server will tell us with a 401
            return True
        return now < self.expires_at - min(60, (self.expires_at - self.obtained_at) / 2)

    def renewed(self, answer: dict, now: float) -> "Tokens":
        """The answer's fields, and the old ones where it has none."""
        refresh = answer.get("refresh_token")
        return replace(self, access_token=answer["access_token"],
                       refresh_token=refresh if is_text(refresh) else self.refresh_token,
                       scope=" ".join(scopes_in(answer.get("scope"))) or self.scope,
                       obtained_at=now, expires_at=expiry(answer.get("expires_in"), now))


def expiry(expires_in: Any, now: float) -> float | None:
    """When an access token ends, from what came with it: a number, or a number as a text."""
    try:
        seconds = math.inf if isinstance(expires_in, bool) else float(expires_in)
    except (TypeError, ValueError, OverflowError):
        return None
    return now + max(0.0, seconds) if seconds < TEN_YEARS else None


def token_request(endpoint: str, client: Client, form: dict[str, str | None]) -> dict:
    """Ask for tokens. Returns the answer's fields, or raises OAuthError."""
    headers = {}
    form = {**form, "client_id": client.client_id}
    if client.token_endpoint_auth_method == "client_secret_basic":
        pair = f"{quote(client.client_id, safe='')}:{quote(client.client_secret or '', safe='')}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    elif client.token_endpoint_auth_method == "client_secret_post":
        form["client_secret"] = client.client_secret
    answer = fetch("POST", endpoint, headers,
                   data={key: value for key, value in form.items() if value is not None})
    found = answer.document or {}
    if answer.status in (408, 429) or answer.status >= 500:
        raise TemporaryOAuthError("the sign-in service has a problem of its own (HTTP "
                                  f"{answer.status}). Try again later.", f"HTTP {answer.status}")
    if answer.status >= 400 or found.get("error"):      # some say no with a 200
        error = found.get("error")
        if not isinstance(error, str):
            error = "invalid_client" if answer.status == 401 else f"HTTP {answer.status}"
        raise Refused(error, found.get("error_description"))
    token = found.get("access_token")
    if not is_text(token) or " " in str(token) or \
            str(found.get("token_type", "bearer")).lower() != "bearer":
        raise TemporaryOAuthError("the sign-in service did not return a usable token.",
                                  "an answer without a token")
    return found


class Refused(OAuthError):
    """The authorization server said no. It has words for why; we have some for the usual ones."""

    def __init__(self, code: str, detail: object = None):
        more = f" ({clean(detail)})" if isinstance(detail, str) and clean(detail) else ""
        super().__init__(REASONS.get(code) or f"the sign-in service reported: {clean(code)}{more}")
        self.code = code


REASONS = {
    "access_denied": "access was not granted in the browser.",
    "invalid_grant": "the login took too long or was already used. Please try again.",
    "invalid_target": "the sign-in service does not accept the address of this MCP server "
                      "(invalid_target). Ask the server's owner.",
    "invalid_scope": "the sign-in service does not know one of the requested scopes. "
                     'Check "scopes" in the "oauth" section.',
    **dict.fromkeys(("invalid_client", "unauthorized_client"),
                    "the sign-in service does not accept this client. "
                    'Check "client_id" and "client_secret".'),
}


# ── Part 6: The token file ───────────────────────────────────────────────────────────────
#
# .mcp_tokens.json, beside mcp_servers.json, readable for you alone:
#
#     {"version": 1,
#      "clients": {"https://id.example.com": {"sheets": {"client_id": "s6BhdRkqt3", ...}}},
#      "tokens": {"sheets": {"url": "https://example.com/mcp", "access_token": "...", ...}}}
#
# Several chats may run at the same time. Many authorization servers take a refresh token only
# once, and who brings it again is taken for a thief: then everybody is signed out. So only one
# chat at a time may renew; the others wait for the lock, look into the file again, and find the
# new access token there. (Skip the rest of this part on a first reading.)

@dataclass
class Saved:
    """What is in the file."""

    clients: dict[str, dict[str, Client]] = field(default_factory=dict)   # by issuer, by server
    tokens: dict[str, Tokens] = field(default_factory=dict)               # by server


def read_entries(kind: type, entries: dict) -> dict[str, Any]:
    """Make a Client or Tokens of each entry, without those that can't be one."""
    def sound(value: object, hint: Any) -> bool:
        return isinstance(value, hint) and (is_text(value) or value in ("", None) or
                                            isinstance(value, int | float) and abs(value) < 1e11)

    hints, made = get_type_hints(kind), {}
    for name, entry in entries.items():
        with contextlib.suppress(TypeError):
            made[name] = kind(**entry)
    return {name: one for name, one in made.items()
            if all(sound(value, hints[key]) for key, value in vars(one).items())}


class TokenStore:
    """The file. Delete it, and you start over."""

    def __init__(self, path: Path | str, say: Callable[[str], object] = print,
                 patience: float = 60):
        self.path = Path(os.path.realpath(path))
        self.say = say
        self.patience = patience              # how long to wait for the lock
        self.memory: Saved | None = None      # in place of the file, if it can't be used

    def read(self, set_aside: bool = False) -> Saved:
        """All that is in the file. It is replaced as a whole, so we never see half of it."""
        if self.memory:
            return self.memory
        try:
            if os.name == "posix" and self.path.stat().st_mode & 0o077:
                self.path.chmod(0o600)
                self.say(f"Tightened the permissions of {self.path.name}.")
            data = json.loads(self.path.read_bytes().decode("utf-8"))
            if data["version"] != 1:
                raise ValueError
            return Saved({issuer: read_entries(Client, clients) for issuer, clients
                          in data["clients"].items() if isinstance(clients, dict)},
                         read_entries(Tokens, data["tokens"]))
        except FileNotFoundError:
            return Saved()
        except OSError as error:
            return self.only_remember(Saved(), error)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            if set_aside:
                with contextlib.suppress(OSError):
                    os.replace(self.path, f"{self.path}.bad")
                    self.say(f"{self.path.name} was damaged and has been set aside. "
                             "You will be asked to sign in again.")
            return Saved()

    @contextlib.contextmanager
    def open(self) -> Iterator[Saved]:
        """What is in the file, for us alone to change; written when the block ends well."""
        with self.locked():
            saved = self.read(set_aside=True)
            before = asdict(saved)
            yield saved
            if asdict(saved) != before and not self.memory:
                self.write(saved)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Wait until no other program, and no other thread, has the lock. The system takes it
        from who dies, so it can't be forgotten."""
        try:
            lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            yield       # a folder that we can't write to; write() will say so
            return
        end = time.monotonic() + self.patience
        try:
            while not try_to_lock(lock):
                if time.monotonic() > end:
                    raise TemporaryOAuthError("another copy of this program is busy signing in. "
                                              "Try again in a moment.")
                time.sleep(0.02)
            yield
        finally:
            os.close(lock)

    def write(self, saved: Saved) -> None:
        """Write a new file and put it in the old one's place, in one step. So whoever reads, and
        whenever the power fails, there is either the old file or the new one."""
        new = ""
        try:
            # mkstemp makes it readable for us alone, before there is anything in it.
            number, new = tempfile.mkstemp(dir=self.path.parent, prefix=f"{self.path.name}.")
            with os.fdopen(number, "w", encoding="utf-8") as file:
                json.dump({"version": 1, **asdict(saved)}, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            for wait in (0.1, 0.2, 0.4, 0):
                try:
                    return os.replace(new, self.path)
                except PermissionError:      # on Windows, while somebody else reads it
                    if not wait or sys.platform != "win32":
                        raise
                    time.sleep(wait)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(new)
            self.only_remember(saved, error)

    def only_remember(self, saved: Saved, error: OSError) -> Saved:
        self.memory = saved
        reason = (error.strerror or type(error).__name__).lower()
        self.say(f"Could not save the login ({self.path.name}): {reason}. "
                 "You will have to sign in again next time.")
        return saved

    def forget(self, name: str, only_registration: bool = False) -> bool:
        """Start over with a server. Returns whether there was anything to forget."""
        with self.open() as saved:
            before = asdict(saved)
            for clients in saved.clients.values():
                if name in clients and not (only_registration and
                                            clients[name].source != "registration"):
                    del clients[name]
            if not only_registration:
                saved.tokens.pop(name, None)
            return asdict(saved) != before

    def overview(self) -> list["SignedIn"]:
        """Where we are signed in. No secrets."""
        return [SignedIn(name, found.issuer, found.expires_at, bool(found.refresh_token))
                for name, found in self.read().tokens.items()]


def token_store(config: Path, say: Callable[[str], object] = print) -> TokenStore:
    """The file for the servers of this configuration: it lies beside it."""
    return TokenStore(config.resolve().with_name(".mcp_tokens.json"), say)


@dataclass
class SignedIn:
    server: str
    issuer: str
    until: int | float | None     # seconds since 1970. None: nobody said
    renews: bool                  # whether it goes on after that by itself


def try_to_lock(number: int) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        pass            # a disk that knows no locks
    return True


# ── Part 7: Precautions ──────────────────────────────────────────────────────────────────
#
# Signing in means following addresses that somebody else wrote down, with secrets in hand. So
# every address is looked at before we go there, every request is made by one function, and
# what comes back is believed only if it has the right shape. The settings are looked at, too.
# (Skip this on a first reading.)

LOCALHOST = ("localhost", "127.0.0.1", "::1")


def is_safe(url: object, near: str = "https://localhost") -> bool:
    """Whether we may go to an address that somebody else named.

    It must be https, so that nobody can listen (or plain http on this computer, where nobody
    else is). And a server out in the world has no business sending us to machines in our own
    network: `near` is the server's address.

    >>> is_safe("https://id.example.com"), is_safe("http://id.example.com")
    (True, False)
    >>> is_safe("https://192.168.1.1", near="https://example.com/mcp")
    False
    """
    # Two programs may read one odd address in two ways, like https://good\@evil.
    if not isinstance(url, str) or len(url) > 8000 or re.search(r"[^\x21-\x7e]|[\\#]", url):
        return False
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    encrypted = parts.scheme == "https" or parts.scheme == "http" and host in LOCALHOST
    return bool(encrypted and host and port != 0 and "@" not in parts.netloc and (
        not is_local(host) or is_local(urlsplit(near).hostname or "")))


def safe_url(url: object, near: str) -> str:
    if not is_safe(url, near):
        raise OAuthError("the server sent an unsafe sign-in address. "
                         "Check the server's URL, or ask its owner.")
    return str(url)


def is_local(host: str) -> bool:
    """Whether this names a machine in our own network, as far as one can see.

    >>> is_local("localhost"), is_local("10.0.0.5"), is_local("2130706433"), is_local("a.com")
    (True, True, True, False)
    """
    host = host.lower().rstrip(".")
    for spelled in (lambda: host, lambda: socket.inet_aton(host)):      # as usual, or oddly
        with contextlib.suppress(OSError, ValueError):
            return not ipaddress.ip_address(spelled()).is_global
    return host == "localhost" or host.endswith(".localhost")


@dataclass
class Answer:
    status: int
    document: dict | None = field(default=None, repr=False)    # the JSON object in it
    location: str = ""                                         # where a redirect goes: an address


def fetch(method: str, url: str, headers: dict | None = None, may_redirect: bool = False,
          **options: Any) -> Answer:
    """One request to an authorization server or for metadata, with all that each of them needs.

    Limits of time and size. No redirects by itself: a POST would carry its secrets along. And
    an `auth` that adds nothing: without one, requests would add a password from ~/.netrc.
    """
    headers = {"Accept": "application/json", "Accept-Encoding": "identity", **(headers or {})}
    answers: list[tuple[requests.Response, bytes]] = []

    def exchange() -> None:
        session = requests.Session()
        # (requests looks at each redirect, and reads it whole, although we let it follow none.)
        session.get_redirect_target = lambda resp: None        # type: ignore[assignment]
        body = b""
        # To this computer there is no proxy on the way.
        proxies = {"http": "", "https": ""} if urlsplit(url).hostname in LOCALHOST else None
        # All that requests raises is an OSError.
        with contextlib.suppress(OSError, ValueError), session, session.request(
                method, url, headers=headers, auth=lambda request: request, timeout=(5, 30),
                allow_redirects=False, stream=True, proxies=proxies, **options) as response:
            for piece in response.iter_content(65536):
                body += piece
                if len(body) > MAX_BYTES:
                    body = b""
                    break
            answers.append((response, body))

    # In a thread, since a service may take its time with each byte: no timeout ends that.
    work, end = threading.Thread(target=exchange, daemon=True), time.monotonic() + 60
    work.start()
    while work.is_alive() and time.monotonic() < end:
        work.join(0.1)
    if not answers:
        raise unreachable(url)           # why is not said: the details may hold secrets
    response, body = answers[0]
    redirected = 300 <= response.status_code < 400
    if redirected and method == "POST" and not may_redirect:
        raise OAuthError("the sign-in service redirected a private request. "
                         "Nothing was sent on.")
    document: object = None
    with contextlib.suppress(ValueError, RecursionError):
        kind = response.headers.get("Content-Type", "")
        document = dict(parse_qsl(body.decode("utf-8", "replace"))) \
            if kind.startswith("application/x-www-form-urlencoded") else json.loads(body)
    location = response.headers.get("Location", "") if redirected else ""
    try:
        location = urljoin(url, location) if location else ""
    except ValueError:
        location = ""
    return Answer(response.status_code, document if isinstance(document, dict) else None, location)


def unreachable(url: str) -> TemporaryOAuthError:
    return TemporaryOAuthError(f"could not reach {urlsplit(url).netloc}. "
                               "Check your connection and try again.")


def clean(text: object) -> str:
    """Somebody else's words, fit for a terminal: no codes that move its cursor, and short."""
    return "".join(letter for letter in str(text) if letter.isprintable()).strip()[:200]


def is_text(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[\x20-\x7e]+", value) is not None


def texts(value: object) -> list[str]:
    """A list of words from somebody's document; nothing, if it isn't one."""
    return value if isinstance(value, list) and all(map(is_text, value)) else []


def scopes_in(value: object) -> list[str]:
    """The single scopes in "read write" or ["read", "write"], without what can't be one."""
    found = value.split(" ") if isinstance(value, str) else texts(value)
    return [word for word in dict.fromkeys(found)
            if re.fullmatch(r"[\x21\x23-\x5b\x5d-\x7e]+", word)]


def origin(url: str) -> str:
    """
    >>> origin("https://ada@Example.com:443/mcp?x=1")
    'https://example.com'
    """
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    usual = parts.port in (None, {"https": 443, "http": 80}.get(parts.scheme))
    return f"{parts.scheme}://{host}" + ("" if usual else f":{parts.port}")


def canonical(url: str) -> str:
    """One spelling for one server: the name under which we keep its tokens.

    >>> canonical("HTTPS://Example.com:443/"), canonical("https://example.com/mcp?key=x")
    ('https://example.com', 'https://example.com/mcp')
    """
    path = urlsplit(url).path
    return origin(url) + ("" if path == "/" else path)


# What may stand in a server's "oauth": {...}. All of it may be left out. Each option has a
# test, and the words for what passes it.
OPTIONS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "client_id": (is_text, "a text"),
    "client_secret": (is_text, "a text"),
    "scopes": (lambda value: isinstance(value, list) and scopes_in(value) == value,
               'a list, for example ["mcp.read"]'),
    "redirect_port": (lambda value: type(value) is int and 0 <= value <= 65535,
                      "a whole number from 0 to 65535"),
    "auth_url": (is_safe, "an https address"),
    "token_url": (is_safe, "an https address"),
    "client_metadata_url": (lambda value: is_safe(value) and value.startswith("https:")
                            and urlsplit(value).path not in ("", "/"),
                            "the https address of your client's metadata document"),
    "grant_type": (lambda value: value in ("authorization_code", "client_credentials"),
                   '"client_credentials" for a machine, or left out for a person'),
    "login_form": (lambda value: isinstance(value, dict) and bool(value)
                   and all(isinstance(text, str) for text in value.values()),
                   'an object of texts, like {"username": "ada", "password": "${PASSWORD}"}'),
}


def check_settings(name: str, url: str, settings: object) -> None:
    """Refuse what can't work, by its name, when the program starts. Raises OAuthError."""
    for mistake in mistakes_in(url, settings):
        raise OAuthError(mistake, name)


def mistakes_in(url: str, settings: object) -> Iterator[str]:
    if not isinstance(settings, dict):
        yield '"oauth" must be an object, like {"scopes": ["mcp.read"]}.'
        return
    for key, value in settings.items():
        if key not in OPTIONS:
            yield f'"{key}" is not an option of "oauth". There are: {", ".join(OPTIONS)}.'
        elif not OPTIONS[key][0](value):
            yield f'"{key}" must be {OPTIONS[key][1]}.'
    if "client_secret" in settings and "client_id" not in settings:
        yield '"client_secret" needs a "client_id" beside it.'
    if settings.get("grant_type") == "client_credentials" and "client_secret" not in settings:
        yield '"client_credentials" needs "client_id" and "client_secret".'
    try:
        parts = urlsplit(url)
        if not parts.hostname or parts.port == 0:
            raise ValueError
        if parts.scheme != "https" and parts.hostname not in LOCALHOST:
            yield '"url" must begin with https://, because a token will be sent there.'
    except ValueError:
        yield '"url" must be a whole address, like https://example.com/mcp.'


# ── Part 8: All of it ────────────────────────────────────────────────────────────────────
#
# The method sign_in is this file once more, in thirty lines.
#
# The rest is for requests. It calls our object before it sends a request, and shows it each
# answer. Most of the time nothing happens then but one header:
#
#     Authorization: Bearer 2YotnFZFEjr1zCsicMWpAA
#
# chat.py sends requests side by side, from threads, but only its main thread reaches you at the
# keyboard. So what can be done without you is done on the spot. For the rest, LoginNeeded goes
# to the main thread, which calls its login(), and then sends the request again.

AT_A_TERMINAL = "a browser login is needed. Start the program in a terminal once to sign in."
REJECTED = ("the server rejects a fresh login (401 Unauthorized). Your account may lack access. "
            "To start over, delete .mcp_tokens.json and restart.")


class NotNow(TemporaryOAuthError):
    """You are signed in, only this one request can't be made. The text needs no beginning."""


class LoginNeeded(OAuthError):
    """Somebody has to sign in: login() asks them to, in the main thread. Raises OAuthError."""

    def __init__(self, auth: "OAuth", challenge: dict[str, str], scope: str, refused: str):
        super().__init__(AT_A_TERMINAL)
        self.auth = auth
        self.challenge = challenge      # what the server said
        self.scope = scope              # all we need, if what we have isn't enough
        self.refused = hash(refused)    # enough to recognise the access token, and no secret

    def login(self) -> None:
        self.auth.login(self)


class OAuth(AuthBase):
    """One server's credentials, for requests.post(url, auth=...)."""

    def __init__(self, name: str, url: str, settings: dict, store: TokenStore, *, person: bool,
                 say: Callable[[str], object] = print,
                 open_browser: Callable[[str], bool] = open_browser,
                 ask: Callable[[str], str] = input,
                 now: Callable[[], float] = time.time, patience: float = 300):
        check_settings(name, url, settings)
        self.name, self.url, self.settings, self.store = name, url, settings, store
        self.person = person             # whether somebody is there
        self.say, self.open_browser, self.ask, self.now = say, open_browser, ask, now
        self.patience = patience         # how many seconds somebody has to sign in
        self.by_machine = "login_form" in settings or \
            settings.get("grant_type") == "client_credentials"
        self.one_at_a_time = threading.Lock()
        self.problem = ""         # why a login failed; then we don't ask again, in this run
        self.untried = False      # whether the server has still to accept the last login's token
        self.asked_for = ""       # the scopes of the last login
        self.step_ups = 0         # how many logins were for more scopes than before
        self.announced = False    # whether we have said that there is a token

    def sign_in(self, challenge: dict[str, str], scope: str) -> None:
        """All the steps, in the order of the parts."""
        say = self.say if not (self.by_machine and self.announced) else lambda line: None
        # The port comes first: it is part of the redirect URI, and that of the registration.
        with listening(self.settings, self.by_machine) as callback:
            resource, server = discover(self.url, challenge, self.settings)              # Part 1
            say(f"  Discovered auth endpoint: {server.authorization_endpoint}")
            say(f"  Discovered token endpoint: {server.token_endpoint}")
            if not server.offers_pkce:
                say("  Note: it does not say whether it knows PKCE (S256). We use it anyway.")
            scope = scope or choose_scope(self.settings, challenge, resource, server)
            client = self.client_at(server, callback.redirect_uri, scope, say)           # Part 2
            form = {"grant_type": "client_credentials", "scope": scope or None}
            if self.settings.get("grant_type") != "client_credentials":
                state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(64)   # Part 3
                parameters = login_parameters(client, resource, scope, state, verifier)
                code = self.get_code(server, parameters, callback)                       # Part 4
                say("\n  [SUCCESS] Authorization code received")
                form = {"grant_type": "authorization_code", "code": code,
                        "redirect_uri": client.redirect_uri, "code_verifier": verifier}
            form["resource"] = resource["resource"] if resource else None
            try:
                answer = token_request(server.token_endpoint, client, form)              # Part 5
            except TemporaryOAuthError as error:
                if "code" in form:      # it can be used only once, so there is no second try
                    raise OAuthError(str(error)) from None
                raise
            say("  [SUCCESS] Access token obtained")
        tokens = Tokens(canonical(self.url), server.issuer, client.client_id,
                        server.token_endpoint, form["resource"], scope)
        with self.store.open() as saved:                                                 # Part 6
            saved.tokens[self.name] = tokens.renewed(answer, self.now())
        if not self.store.memory:
            say("  [SUCCESS] Token stored for future use\n")
        self.asked_for = scope

    def client_at(self, server: AuthorizationServer, redirect_uri: str, scope: str,
                  say: Callable[[str], object]) -> Client:
        """Find a client, or register one, and remember it before anything else happens."""
        with self.store.open() as saved:
            client = find_client(self.settings, saved, self.name, server, redirect_uri, self.now())
            if client is None:
                if server.registration_endpoint:
                    say(f"  Registering OAuth client for {self.name}...")
                client = register(server, self.name, redirect_uri, scope)
                say("  [OK] Client registered successfully")
            # A secret that stands in the settings is in one place, and that is enough.
            kept = replace(client, client_secret=None) if client.source == "config" else client
            saved.clients.setdefault(server.issuer, {})[self.name] = kept
        return client

    def get_code(self, server: AuthorizationServer, parameters: dict[str, str],
                 callback: Callback) -> str:
        """Have somebody say yes. Raises OAuthError."""
        endpoint = server.authorization_endpoint
        callback.judge = partial(judge, state=parameters["state"], server=server)
        if "login_form" in self.settings:
            code = callback.judge(post_login_form(
                endpoint, {**parameters, **self.settings["login_form"]}, callback.redirect_uri))
            if not code:
                raise OAuthError(NO_CODE)
            return code
        self.say("\n  Opening browser for OAuth authentication...")
        page = endpoint + ("&" if "?" in endpoint else "?") + urlencode(parameters, quote_via=quote)
        # (Python takes a browser that is done in no time for one that has never started.)
        if not self.open_browser(page) and not callback.done.wait(0.5):
            return self.ask_for_address(page, callback)
        self.say(f"  If the browser does not open, copy this address:\n{page}")
        self.say("  Waiting for authorization...")
        code = callback.wait(self.patience)
        if not code:
            self.store.forget(self.name, only_registration=True)
            stray = " (The browser did come, but from another login: close its old pages.)"
            raise OAuthError(f"no answer within {self.patience / 60:g} minutes. If the browser "
                             "showed an error, just try again: the program will register anew."
                             f"{stray if callback.stray else ''}")
        return code

    def ask_for_address(self, page: str, callback: Callback) -> str:
        """The browser is somewhere else, and can't come back to us. Its person can."""
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  (without it, a terminal cuts long lines)
        self.say(f"Open this address in any browser, then sign in:\n{page}\n"
                 "When the browser says you can close the page, press Enter.\n"
                 'If it shows "can\'t reach this page", paste the full address from its address '
                 "bar here:")
        for _ in range(4):
            text = self.ask("").strip().partition("#")[0]
            if callback.done.is_set():
                return callback.wait(0)
            start, _, query = text.partition("?")
            code = callback.judge(query) if start in ("", callback.redirect_uri) else None
            if code:
                return code
            self.say("That is not the address of this login. "
                     f"It starts with {callback.redirect_uri}?")
        raise OAuthError("there was no answer from the browser. Please try again.")

    def login(self, needed: LoginNeeded | None = None) -> None:
        """Sign in. If it takes a person, only the main thread may do this. Raises OAuthError."""
        with self.by_name(), self.one_at_a_time:
            if needed:
                found = self.tokens(renew=False)
                if found and hash(found.access_token) != needed.refused:
                    return                 # somebody has signed in meanwhile
                if self.problem:
                    raise OAuthError(self.problem)
            if not self.by_machine and not self.person:
                raise OAuthError(AT_A_TERMINAL)
            challenge, scope = (needed.challenge, needed.scope) if needed else ({}, "")
            try:
                try:
                    self.sign_in(challenge, scope)
                except Refused as error:
                    # The authorization server may have forgotten us since we registered.
                    if error.code not in ("invalid_client", "unauthorized_client") or \
                            not self.store.forget(self.name, only_registration=True):
                        raise
                    self.sign_in(challenge, scope)
            except TemporaryOAuthError:
                raise                      # the next time may be better
            except (KeyboardInterrupt, EOFError):
                self.problem = "login cancelled."
                raise OAuthError(self.problem) from None
            except OAuthError as error:
                self.problem = str(error)
                raise
            self.problem, self.announced, self.untried = "", True, True
            self.step_ups += bool(scope)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """requests calls this before it sends a request."""
        with self.by_name():
            tokens = self.tokens()
            if tokens:
                if not self.announced:
                    self.say(f"Using stored token for {self.name}")
                self.announced = True
                request.headers["Authorization"] = f"Bearer {tokens.access_token}"
            elif self.problem:
                raise OAuthError(self.problem)
        request.register_hook("response", self.react)
        return request

    def react(self, response: requests.Response, **options: Any) -> requests.Response:
        """requests calls this with each answer; what we return takes its place.

        A refused request is sent again with a newer token, and once more after a login. No step
        is taken twice, so nothing here can go round in circles.
        """
        with self.by_name():
            if response.status_code in (401, 403):
                # Another thread or program may have a newer token. Or ours can be renewed.
                newer = self.tokens(sent(response), renew=response.status_code == 401)
                response = self.repeat(response, newer, options)
            needed = self.what_is_needed(response)
            if needed and self.by_machine:
                self.login(needed)
                response = self.repeat(response, self.tokens(), options)
                needed = self.what_is_needed(response)
            if needed:
                raise needed
            return response

    def what_is_needed(self, response: requests.Response) -> LoginNeeded | None:
        """Which login would turn a refusal into a yes. Raises OAuthError if none can."""
        challenge, scope = parse_challenge(response.headers.get("WWW-Authenticate")), ""
        widen = challenge.get("error") == "insufficient_scope"
        if response.status_code == 401:
            if self.untried:
                self.problem = self.problem or REJECTED
        elif response.status_code == 403 and (widen or sent(response)):
            # A token can't be widened. It takes a login, for what we had and what is missing.
            found = self.stored(self.store.read())
            have = scopes_in(f"{self.asked_for} {found.scope if found else ''}")
            need = scopes_in(challenge.get("scope")) if widen else []
            if set(need) <= set(have) or self.step_ups >= MAX_STEP_UPS:
                response.close()
                raise NotNow(f"{self.name}: signed in, but not allowed to do this "
                             "(403 Forbidden). Ask the server's owner for access.")
            scope = " ".join(dict.fromkeys([*have, *need]))
        else:
            self.untried = self.untried and not sent(response)
            return None
        response.close()
        if self.problem:
            raise OAuthError(self.problem)
        return LoginNeeded(self, challenge, scope, sent(response))

    def repeat(self, response: requests.Response, tokens: Tokens | None, options: dict,
               ) -> requests.Response:
        """Send a refused request again. (It was refused, so nothing has been done.)"""
        if not tokens:
            return response
        response.close()       # unread: the rest may be long
        request = response.request.copy()
        request.headers["Authorization"] = f"Bearer {tokens.access_token}"
        again = response.connection.send(request, **options)  # type: ignore[attr-defined]
        again.history.append(response)
        again.request = request
        return again

    def stored(self, saved: Saved) -> Tokens | None:
        """What the file has for us. A token for another server, or another client, isn't ours."""
        found = saved.tokens.get(self.name)
        ours = found and found.url == canonical(self.url) and \
            found.client_id == self.settings.get("client_id", found.client_id)
        return found if ours else None

    def tokens(self, refused: str = "", renew: bool = True) -> Tokens | None:
        """The tokens to use: the stored ones, or renewed ones, or none.

        `refused` is an access token that the server doesn't take, whatever we think of it.
        """
        def stale(found: Tokens | None) -> bool:
            return found is None or found.access_token == refused or not found.fresh(self.now())

        found = self.stored(self.store.read())
        if renew and found and found.refresh_token and stale(found):
            with self.store.open() as saved:
                # Now nobody else can. But who had the lock before us may just have done it.
                found = self.stored(saved)
                if found and found.refresh_token and stale(found):
                    return self.refresh(found, saved, must=bool(refused))
        return None if stale(found) else found

    def refresh(self, old: Tokens, saved: Saved, must: bool) -> Tokens | None:
        """Trade the refresh token for new tokens, while we have the file for ourselves."""
        clients = saved.clients.get(old.issuer, {})
        client = clients.get(self.name) or Client("registration", old.client_id)
        if client.source == "config":
            client = replace(client, client_secret=self.settings.get("client_secret"))
        try:
            answer = token_request(old.token_endpoint, client, {
                "grant_type": "refresh_token", "refresh_token": old.refresh_token,
                "resource": old.resource})
        except Refused as error:
            del saved.tokens[self.name]
            if error.code == "invalid_client" and client.source == "registration":
                clients.pop(self.name, None)
            if self.person and not self.by_machine:
                self.say(f"The login for {self.name} has expired. Opening the browser again...")
            return None
        except TemporaryOAuthError as error:
            if not must and self.now() < (old.expires_at or math.inf):
                return old             # for its last minute
            raise NotNow(f"Could not renew the login for {self.name} right now ({error.reason}). "
                         "Try again in a moment.") from None
        saved.tokens[self.name] = tokens = old.renewed(answer, self.now())
        return tokens

    @contextlib.contextmanager
    def by_name(self) -> Iterator[None]:
        """Errors that leave us say which server they are about."""
        try:
            yield
        except OAuthError as error:
            error.server = "" if isinstance(error, NotNow) else self.name
            raise


def sent(response: requests.Response) -> str:
    """The access token that a request carried."""
    return response.request.headers.get("Authorization", "").removeprefix("Bearer ")
