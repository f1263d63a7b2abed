"""Challenges: what does a server say about signing in, and what if it doesn't say?

Each request carries its access token in a header. When that isn't good enough, the server says so
with a status, and what it wants in a header that is called the challenge (RFC 6750):

    Authorization: Bearer 2YotnFZFEjr1zCsicMWpAA

    401 Unauthorized                                              a new token ...
    WWW-Authenticate: Bearer resource_metadata="https://..."      ... and here is who gives it out
    403 Forbidden                                                 a token that allows more
    WWW-Authenticate: Bearer error="insufficient_scope", scope="sheets.write"

A refused request has not been done. So it is sent again with a token that somebody else has got
meanwhile, or a renewed one, and once more after a login. No step is taken twice.

The first servers (2025-03-26) don't say who gives out tokens, as they do it themselves:

    GET https://example.com/.well-known/oauth-authorization-server
    404                                         then it is at /authorize, /token, /register
    {"issuer": "https://example.com", ...}      here are the addresses
    {"issuer": "https://id.example.org", ...}   somebody else does it; we ask there. If nothing is
        there, as with Workato, this document will do, if all its addresses are at that issuer or
        at the server. (It gains nothing by that: it could as well name itself.)

Where nothing helps, you say it, in the "oauth" section of mcp_servers.json.

https://modelcontextprotocol.io/specification/2026-07-28/basic/authorization and the same of
2025-03-26. Left out: other kinds of challenges, like DPoP, that take a library for signatures.

Try it:

>>> parse_challenge(r'Bearer scope="a b", error_description="say \\"scope=evil\\""')
{'scope': 'a b', 'error_description': 'say "scope=evil"'}
>>> list(mistakes_in("https://example.com/mcp", {"redirect_port": "8080"}))
['"redirect_port" must be a whole number from 0 to 65535.']
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from chapters.addresses import LOCALHOST, get_document, is_safe, is_text, origin, scopes_in
from chapters.outside import Problem

MAX_STEP_UPS = 2  # how many logins of a run may be for more scopes than you first agreed to
ENDPOINTS = ("authorization_endpoint", "token_endpoint", "registration_endpoint")
AT_A_TERMINAL = "a browser login is needed. Run chat.py --login {} in a terminal once."
AFTER_ALL = " (To sign in after all: chat.py --login {}, also in a second terminal.)"
REJECTED = ("the server rejects a fresh login (401 Unauthorized). Your account may lack access. "
            "To start over: chat.py --logout {0}, then --login {0}.")
PARAMETER = re.compile(r'(?<![\w-])([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


class OAuthError(Problem):
    """Signing in didn't work. With a name, its text says for which server."""

    def __init__(self, text: str, server: str = ""):
        super().__init__(f"OAuth authentication failed for {server}: {text}" if server else text)


class LoginNeeded(OAuthError):
    """Somebody has to sign in: login() asks them to, in the main thread. Raises OAuthError."""

    def __init__(self, auth: Any, challenge: dict[str, str], scope: str, refused: str):
        super().__init__(AT_A_TERMINAL.format(auth.name), auth.name)
        self.auth = auth
        self.challenge = challenge    # what the server said
        self.scope = scope            # all we need, if what we have isn't enough
        self.refused = hash(refused)  # enough to recognise the access token, and no secret

    def login(self) -> None:
        self.auth.login(self)


def parse_challenge(header: str | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, quoted, bare in PARAMETER.findall((header or "")[:8192]):
        found.setdefault(name.lower(), re.sub(r"\\(.)", r"\1", quoted) or bare)
    return found


class Bearer(AuthBase):
    """Adds an access token to each request, and answers refusals. The class OAuth, which is made
    from this one in oauth_handler.py, knows how to get tokens."""
    accepted = 0    # after how many logins the server has taken our token; written by react()
    in_use = False  # whether we have sent one; written by __call__()

    def __call__(self: Any, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """requests calls this before it sends a request."""
        with self.by_name():
            tokens = self.take_tokens()
            if not tokens and self.problem:
                raise Problem(self.problem)
        if tokens:
            if not self.in_use and not self.logins:
                self.say(f"Using stored token for {self.name}")
            self.in_use = True
            request.headers["Authorization"] = f"Bearer {tokens.access_token}"
        request.register_hook("response", self.react)
        return request

    def react(self: Any, response: requests.Response, **options: Any) -> requests.Response:
        """requests calls this with each response; what we return takes its place."""
        with self.by_name():
            if response.status_code in (401, 403):
                newer = self.take_tokens(sent(response), renew=response.status_code == 401)
                response = repeat(response, newer, options)
            needed = self.what_is_needed(response)
            if needed and self.by_machine:
                self.login(needed)
                response = repeat(response, self.take_tokens(), options)
                needed = self.what_is_needed(response)
            if needed:
                raise needed
            if sent(response) and not response.is_redirect and response.status_code < 429:
                self.accepted = self.logins  # (429 and 5xx are about no token)
            return response

    def what_is_needed(self: Any, response: requests.Response) -> LoginNeeded | None:
        """Which login would turn a refusal into a yes. Raises Problem if none can."""
        challenge, token = parse_challenge(response.headers.get("WWW-Authenticate")), sent(response)
        widen, scope = challenge.get("error") == "insufficient_scope", ""
        if response.status_code != 401 and not (response.status_code == 403 and (widen or token)):
            return None
        response.close()  # unread: the rest may be long
        if response.status_code == 403:
            # A token can't be widened. It takes a login, for what we had and what is missing.
            had = self.stored()
            have = scopes_in(had.asked_for, had.scope) if had else []
            need = scopes_in(challenge.get("scope") or self.scopes_at(challenge)) if widen else []
            if set(need) <= set(have) or self.step_ups >= MAX_STEP_UPS:
                raise OAuthError(f"{self.name}: signed in, but not allowed to do this "
                                 "(403 Forbidden). Ask the server's owner for access.")
            scope = " ".join(scopes_in(have, need))
        if self.problem:
            raise Problem(self.problem)
        if response.status_code == 401 and self.logins > self.accepted:
            raise Problem(REJECTED.format(self.name))
        return LoginNeeded(self, challenge, scope, token)

    @contextlib.contextmanager
    def by_name(self: Any) -> Iterator[None]:
        """Problems that leave us say which server they are about."""
        try:
            yield
        except OAuthError:
            raise
        except Problem as problem:
            raise OAuthError(str(problem), self.name) from None


def sent(response: requests.Response) -> str:
    """The access token that a request carried."""
    return response.request.headers.get("Authorization", "").removeprefix("Bearer ")


def repeat(response: requests.Response, tokens: Any, options: dict) -> requests.Response:
    """Send a refused request again, if there are tokens."""
    if not tokens:
        return response
    response.close()
    request = response.request.copy()
    request.headers["Authorization"] = f"Bearer {tokens.access_token}"
    again = response.connection.send(request, **options)  # type: ignore[attr-defined]
    again.history.append(response)
    again.request = request
    return again


# ── What if it doesn't say? ──────────────────────────────────────────────────────────────

def documents(server_url: str, resource: dict, look_up: Callable[[str, str], dict]
              ) -> Iterator[tuple[dict, str]]:
    """Each metadata document of an authorization server that may be the right one, and the issuer
    that should stand in it ("": none). look_up() gets the document of an issuer."""
    if resource:
        issuers = resource["authorization_servers"]
        issuer = next((one for one in issuers if is_safe(one, server_url)), issuers[0])
        yield look_up(issuer, server_url), issuer
        return
    base = origin(server_url)
    answer = get_document([f"{base}/.well-known/oauth-authorization-server"], server_url)
    if answer.document is None:
        guess = (f"{base}/authorize", f"{base}/token", f"{base}/register")
        yield dict(zip(ENDPOINTS, guess, strict=True)) if 400 <= answer.status < 500 else {}, ""
        return
    own = {**answer.document, "issuer": answer.document.get("issuer") or base}
    issuer = str(own["issuer"])
    if issuer.removesuffix("/") != base and is_safe(issuer, server_url):
        yield look_up(issuer, server_url), issuer
        named = [own[key] for key in ENDPOINTS if own.get(key)]
        if len(named) > 1 and all(is_safe(url, server_url) and origin(url) in (base, origin(issuer))
                                  for url in named):
            yield own, issuer
            return
    yield own, base


# What may stand in a server's "oauth": {...}: a test for each, and the words for what passes it.
OPTIONS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "client_id": (is_text, "a text"),
    "client_secret": (is_text, "a text"),
    "scopes": (lambda value: isinstance(value, list) and scopes_in(value) == value,
               'a list, for example ["mcp.read"]'),
    "redirect_port": (lambda value: type(value) is int and 0 <= value <= 65535,
                      "a whole number from 0 to 65535"),
    "auth_url": (is_safe, "an https address"),
    "token_url": (is_safe, "an https address"),
    "client_metadata_url": (lambda value: is_safe(value) and re.match("https://[^/]+/.", value),
                            "the https address of your client's metadata document"),
    "grant_type": (lambda value: value in ("authorization_code", "client_credentials"),
                   '"client_credentials" for a machine, or left out for a person'),
    "login_form": (lambda value: isinstance(value, dict) and bool(value)
                   and all(isinstance(text, str) for text in value.values()),
                   'an object of texts, like {"username": "ada", "password": "${PASSWORD}"}'),
}


def mistakes_in(url: str, settings: object) -> Iterator[str]:
    """What can't work in a server's address and its "oauth" section."""
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


def check_settings(name: str, url: str, settings: object) -> None:
    for mistake in mistakes_in(url, settings):
        raise OAuthError(mistake, name)
