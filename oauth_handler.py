"""Signing in to MCP servers with OAuth: the second story, after chat.py.

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
       │ ◀── code and state ──── │ ◀── go back there ─── │
       │ ── the code, and a proof that it's ours ──────▶ │
       │ ◀──── an access token, and a refresh token ──── │
       │ ── the request again, with the token ────────────────────────────────▶ │
       │ ◀──────────────────────────────────────────────────── the answer ───── │

Each step is one part of this file, and has a standard of its own (an "RFC"):

    Part 1   Discovery               two documents whose place can be guessed: RFC 9728, RFC 8414
    Part 2   Client registration     the authorization server gets to know us: RFC 7591
    Part 3   Code verifier, state    so that nobody else can use the code: RFC 7636
    Part 4   The browser             how it gets to the login page and back: RFC 8252, RFC 9207
    Part 5   Tokens                  what the code is traded for: RFC 6749, RFC 8707
    Part 6   Refresh                 so that you sign in once, and not every hour
    Part 7   All of it               the steps again, in code: sign_in in the class OAuth

The words, here and in the standards (only our messages to you say "sign-in service"):

    authorization server   who knows your password and gives out tokens   id.example.com
    issuer                 its name: an address                           "https://id.example.com"
    client                 what we are to the authorization server        client_id "s6BhdRkqt3"
    redirect URI           where the browser comes back to us             "http://localhost:8080/..."
    scope                  what a token allows, in the server's words     "sheets.read sheets.write"
    refresh token          good for nothing but the next access token

`resource` and `auth_server` are the two JSON documents of Part 1, as dicts; `settings` is the
"oauth" section of an entry in mcp_servers.json (see the README; checked in challenges.OPTIONS).
What real servers, browsers and disks need besides is in four chapters; the imports say what each is
for. chat.py uses little more than the class at the end: requests.post(url, auth=OAuth(...)).
"""

import base64
import contextlib
import hashlib
import math
import secrets  # random texts that nobody can guess
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial  # partial(f, x=1) is f with one of its arguments filled in
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from chapters import (
    addresses,  # which addresses we go to, and fetch(), a careful requests.request()
    challenges,  # what servers say about signing in, and what you can set
    loopback,  # the web server that your browser comes back to
    token_file,  # where tokens are kept, for several programs at the same time
)
from chapters.addresses import Temporary, clean, is_safe, is_text, number, origin, scopes_in, texts
from chapters.challenges import LoginNeeded, OAuthError, check_settings
from chapters.outside import Problem, open_browser

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
#      "code_challenge_methods_supported": ["S256"]}                      PKCE, see Part 3
#
# Both must name what we asked about. Otherwise one server could have us sign in for another.
# https://modelcontextprotocol.io/specification/2026-07-28/basic/authorization

NO_PKCE = "the sign-in service offers no PKCE (S256), so a login would not be safe. Ask its owner."
NOTHING_FOUND = ("this server asks for a login but publishes no sign-in information. If it uses a "
                 'token, set "auth_type": "token"; otherwise set "client_id", "auth_url" and '
                 '"token_url" in its "oauth" section.')
INCOMPLETE = ("the sign-in service {issuer} sent incomplete data (no {missing}). Ask its owner, or "
              'set "auth_url" and "token_url".')
NAMES_ITSELF = ("the sign-in service names itself {named} but was found at {issuer}. Ask the "
                "server's owner which sign-in addresses are right; they can be set as "
                '"auth_url" and "token_url".')


def well_known(name: str, url: str) -> str:
    """
    >>> well_known("oauth-protected-resource", "https://example.com/public/mcp")
    'https://example.com/.well-known/oauth-protected-resource/public/mcp'
    """
    return f"{origin(url)}/.well-known/{name}{urlsplit(url).path.removesuffix('/')}"


def find_resource(server_url: str, challenge: dict[str, str]) -> dict:
    """Get the protected resource metadata of an MCP server. {}: it has none."""
    named = [challenge["resource_metadata"]] if challenge.get("resource_metadata") else []
    guesses = [well_known("oauth-protected-resource", url)
               for url in (server_url, origin(server_url))]
    found = addresses.get_document(named + guesses, server_url).document or {}
    if not texts(found.get("authorization_servers")):
        return {}
    if not addresses.covers(found.get("resource"), server_url):
        raise Problem(f"the server's sign-in data is for {clean(found.get('resource'))}, not "
                      'for this URL. Check "url" in mcp_servers.json.')
    return found


def look_up(issuer: str, near: str) -> dict:
    """Get the metadata of an authorization server. {}: it has none. (`near` is who has named it,
    because a stranger out there may not send us into our own network.)"""
    if not is_safe(issuer, near):
        return {}
    # OpenID Connect, OAuth's relative, has the same document under another name, and used to
    # put it at the end of the issuer's path.
    candidates = [well_known("oauth-authorization-server", issuer),
                  well_known("openid-configuration", issuer)]
    if urlsplit(issuer).path.strip("/"):
        candidates.append(issuer.removesuffix("/") + "/.well-known/openid-configuration")
    return addresses.get_document(candidates, near).document or {}


def mistake_in(auth_server: dict, issuer: str, near: str, needed: dict, needs_pkce: bool) -> str:
    """What is wrong with the metadata that was found for this issuer. "": nothing."""
    named = str(auth_server.get("issuer", ""))
    if issuer and not is_safe(issuer, near):
        return addresses.UNSAFE
    if not auth_server:
        return INCOMPLETE.format(issuer=clean(issuer), missing="addresses")
    # (Many forget the slash at the end, or add one. Either way it is the same document.)
    if named.removesuffix("/") != issuer.removesuffix("/"):
        return NAMES_ITSELF.format(named=clean(named), issuer=clean(issuer))
    # Whoever says nothing: that is a no where we must be sure, else a yes.
    methods = auth_server.get("code_challenge_methods_supported", [] if needs_pkce else ["S256"])
    if "S256" not in texts(methods):
        return NO_PKCE
    for key in challenges.ENDPOINTS:
        if key in needed and not is_text(auth_server.get(key)):
            return INCOMPLETE.format(issuer=clean(issuer), missing=key)
        if auth_server.get(key) and not is_safe(auth_server[key], near):
            return addresses.UNSAFE
    return ""


def discover(server_url: str, challenge: dict[str, str], settings: dict) -> tuple[dict, dict]:
    """Both documents, one after the other. The settings have the last word on two addresses."""
    # Whoever sets all addresses knows what is there. And a machine needs no login page, nor PKCE.
    for_a_machine = settings.get("grant_type") == "client_credentials"
    names = {"token_endpoint": "token_url"}
    names |= {} if for_a_machine else {"authorization_endpoint": "auth_url"}
    by_hand = {key: settings[name] for key, name in names.items() if name in settings}
    all_by_hand = len(by_hand) == len(names)
    resource = find_resource(server_url, challenge)
    needs_pkce = bool(resource) and not all_by_hand and not for_a_machine
    mistakes: list[str] = []
    # Most have one candidate, old servers may have two; the first without a mistake wins. If none
    # does, addresses that were set by hand are enough; else we say what was wrong.
    for auth_server, issuer in challenges.documents(server_url, resource, look_up):
        mistake = mistake_in(auth_server, issuer, server_url, names, needs_pkce)
        if not mistake and (issuer or not by_hand or all_by_hand):  # half a guess won't do
            found = {**auth_server, **by_hand}
            break
        mistakes.insert(0, mistake if issuer else NOTHING_FOUND)
    else:
        if not all_by_hand:
            raise Problem(" Its own answer: ".join(mistakes))
        place = auth_server.get("registration_endpoint")
        found = {**by_hand, "registration_endpoint": is_safe(place, server_url) and place}
    return resource, {**found, "key": found.get("issuer") or origin(found["token_endpoint"])}


def choose_scope(settings: dict, challenge: dict, resource: dict, auth_server: dict) -> str:
    """What to ask for. Where nobody names a scope, we ask for none: they will know."""
    if settings.get("scopes"):
        return " ".join(settings["scopes"])
    scopes = scopes_in(challenge.get("scope")) or scopes_in(resource.get("scopes_supported"))
    # With this one, many give us a refresh token, and you needn't come back each hour.
    if scopes and "offline_access" in texts(auth_server.get("scopes_supported")):
        scopes = scopes_in(scopes, ["offline_access"])
    return " ".join(scopes)


# ── Part 2: Client registration ──────────────────────────────────────────────────────────
#
# The login page wants to say which program asks: "Simple MCP Chat wants to read your sheets".
# A program's name is its client_id. On some authorization servers, a person can get one, and put
# it into the settings. Some take the address of a document about the program, as MCP 2026-07-28
# would have it. Most let a program register itself (RFC 7591), with one POST:
#
#     {"client_name": "simple-mcp-chat-sheets", "redirect_uris": ["http://localhost:8080/callback"],
#      "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
#      "token_endpoint_auth_method": "none", "application_type": "native", "scope": "sheets.read"}
#
# and answer {"client_id": "s6BhdRkqt3", ...}. That is good for this redirect URI and these scopes,
# until they forget us. Then it is your browser that shows an error, and we never hear of it. So a
# registration is used again only if the last sign-in with it has brought us an answer.

METHODS = ("none", "client_secret_basic", "client_secret_post")  # to show a secret, see Part 5

@dataclass(frozen=True)
class Client:
    """What we are to one authorization server. The names are those on the wire."""

    source: str                                 # "config", "document" or "registration"
    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    token_endpoint_auth_method: str = "none"    # one of METHODS
    client_secret_expires_at: int | float = 0   # 0: never
    redirect_uri: str = ""
    scope: str = ""                             # that it was registered with
    answered: bool = True                       # whether the last sign-in with it was


def choose_method(auth_server: dict, secret: str | None, named: object = None) -> str:
    """How to show our secret: as the registration said, or as the authorization server prefers."""
    offered = texts(auth_server.get("token_endpoint_auth_methods_supported")) or METHODS
    return next((str(one) for one in (named, "client_secret_basic", "client_secret_post")
                 if one in METHODS and one in offered and (secret or one == "none")), "none")


def find_client(settings: dict, known: dict[str, Client], auth_server: dict, name: str,
                redirect_uri: str, now: float) -> Client | None:
    """Who we are without asking: by the settings, by a document about us, by the token file
    (`known`, by issuer). Raises Problem."""
    if "client_id" in settings:
        moved = [issuer for issuer, one in known.items() if one.source == "config" and
                 one.client_id == settings["client_id"] and issuer != auth_server["key"]]
        if moved:
            raise Problem(f"sign-in moved from {moved[0]} to {auth_server['key']}. If that is "
                          f'expected, run chat.py --logout {name} and update "client_id".')
        secret = settings.get("client_secret")
        return Client("config", settings["client_id"], secret, choose_method(auth_server, secret),
                      redirect_uri=redirect_uri)
    if "client_metadata_url" in settings and \
            auth_server.get("client_id_metadata_document_supported") is True:
        return Client("document", settings["client_metadata_url"], redirect_uri=redirect_uri)
    stored = known.get(auth_server["key"])
    is_good = stored and stored.source == "registration" and stored.answered and \
        stored.redirect_uri == redirect_uri and (stored.client_secret_expires_at or math.inf) > now
    return stored if is_good else None


def register(settings: dict, auth_server: dict, name: str, redirect_uri: str, scope: str,
             say: Callable[[str], object]) -> Client:
    """Send a client registration. Raises Problem."""
    if not auth_server.get("registration_endpoint"):
        first = ""
        if settings.get("redirect_port") == 0:  # any port, another one each time
            redirect_uri = loopback.REDIRECT_URI.format(8080)
            first = 'Set "redirect_port" to a fixed number, like 8080. '
        raise Problem(
            f"this sign-in service does not register clients by itself. {first}Create an OAuth "
            f'client there with the redirect address {redirect_uri}, then put its "client_id" (and '
            '"client_secret", if any) in the "oauth" section of mcp_servers.json.')
    say(f"  Registering OAuth client for {name}...")
    offered = texts(auth_server.get("token_endpoint_auth_methods_supported"))
    about_us = {
        "client_name": f"simple-mcp-chat-{name}",
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        # Everybody can read this program. So it can't prove with a secret that it is the real one.
        "token_endpoint_auth_method": next((way for way in METHODS if way in offered), "none"),
        "application_type": "native",
        **({"scope": scope} if scope else {}),
    }
    response = addresses.fetch("POST", auth_server["registration_endpoint"], json=about_us)
    # Some fill in every field, also those that don't apply.
    said = {key: value for key, value in (response.document or {}).items()
            if value not in (None, "", "0")}
    if response.status in (404, 405) and not auth_server.get("issuer"):
        raise Problem(NOTHING_FOUND)
    if response.status not in (200, 201):
        if said.get("error") == "invalid_redirect_uri":
            raise Problem(f"the sign-in service refused the address {redirect_uri} (invalid_"
                          'redirect_uri). Create a client there by hand and set "client_id".')
        why = clean(said.get("error") or f"HTTP {response.status}")
        raise Problem(f'registration was refused ({why}). Try later, or set "client_id".')
    client = read_registration(said, about_us, auth_server)
    say("  [OK] Client registered successfully")
    return client


def read_registration(said: dict, about_us: dict, auth_server: dict) -> Client:
    """What the answer says counts, even if we asked for something else. Raises Problem."""
    client_id, secret = said.get("client_id"), said.get("client_secret")
    named = said.get("token_endpoint_auth_method", about_us["token_endpoint_auth_method"])
    expires = number(said.get("client_secret_expires_at", 0))
    if not (is_text(client_id) and is_text(secret or "none") and named in METHODS and
            (secret or named == "none") and expires is not None):
        raise Problem("the sign-in service answered the registration in a way this program "
                      "cannot use.")
    return Client("registration", str(client_id), secret, choose_method(auth_server, secret, named),
                  expires, about_us["redirect_uris"][0], about_us.get("scope", ""))


# ── Part 3: Code verifier, state ─────────────────────────────────────────────────────────
#
# The code will come back through a browser, where other programs may see it. So, before it all
# begins, we make up a secret, the code verifier, and show only its fingerprint, the code challenge.
# Who brings the code later must also bring the code verifier. That is PKCE (say "pixy", RFC 7636).
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


def login_parameters(client: Client, resource: dict, scope: str, state: str,
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
        "resource": resource.get("resource", ""),
        "scope": scope,
        # OpenID Connect gives a refresh token only if you were asked.
        "prompt": "consent" if "offline_access" in scope.split() else "",
    }
    return {key: value for key, value in parameters.items() if value}


# ── Part 4: The browser ──────────────────────────────────────────────────────────────────
#
# We open the login page in your browser. When you have said yes, it sends the browser back to us:
# to http://localhost:8080/callback?code=...&state=...  "localhost" is this very computer, where we
# are a web server for that moment (RFC 8252). Or you paste that address. Both are judged here.

def judge(query: str, state: str, auth_server: dict) -> str | None:
    """Return the code in what came back; None if it isn't from our login at all. Raises Problem if
    it is, but brings no code. (Of an answer from elsewhere, not even the error is shown.)"""
    fields = parse_qs(query, keep_blank_values=True)
    found = {key: values[0] for key, values in fields.items() if len(values) == 1}
    # Compared as bytes, and in a time that doesn't tell how much of it was right.
    known = secrets.compare_digest(found.get("state", "").encode("utf-8", "replace"),
                                   state.encode())
    if not known or len(found) < len(fields):  # a field that comes twice is not an honest sender's
        return None
    # Who signs in at two authorization servers could be made to carry the code of one to the
    # other. That is why a sender gives its name (RFC 9207), spelled as in Part 1.
    promised = auth_server.get("authorization_response_iss_parameter_supported") is True
    issuer = auth_server.get("issuer")
    if issuer and found.get("iss", "" if promised else issuer) != issuer:
        raise Problem("the answer came from a different sign-in service than the one asked. "
                      "Nothing was sent. Try again; if it repeats, do not use this server.")
    if "error" in found:
        raise Refused(found["error"], found.get("error_description"))
    if not found.get("code"):
        raise Problem(loopback.NO_CODE)
    return found["code"]


class Refused(Problem):
    """The authorization server said no. It has words for why; we have some for the usual ones."""

    def __init__(self, code: str, detail: object = None):
        self.code, self.detail = code, clean(detail) if isinstance(detail, str) else ""
        more = f" ({self.detail})" if self.detail else ""
        super().__init__(REASONS.get(code) or f"the sign-in service reported: {clean(code)}{more}")


REASONS = {
    "access_denied": "access was not granted in the browser.",
    "invalid_grant": "the login took too long or was already used. Please try again.",
    "invalid_target": "the sign-in service does not accept the address of this MCP server "
                      "(invalid_target). Ask the server's owner.",
    "invalid_scope": "the sign-in service does not know one of the requested scopes. If you have "
                     'set "scopes", check them; if not, ask the server\'s owner.',
    **dict.fromkeys(("invalid_client", "unauthorized_client"),
                    'the sign-in service does not accept this client. If you have set "client_id" '
                    'or "client_metadata_url", check that; if not, ask the server\'s owner.'),
}


# ── Part 5: Tokens ───────────────────────────────────────────────────────────────────────
#
# The code and the code verifier go straight to the authorization server, without the browser. (A
# client with a secret adds it: in a header, client_secret_basic, or a field, client_secret_post.)
#
#     POST /token HTTP/1.1                                        HTTP/1.1 200 OK
#     Content-Type: application/x-www-form-urlencoded
#                                                                 {"access_token": "2YotnFZFEj...",
#     grant_type=authorization_code&code=...&code_verifier=...     "token_type": "Bearer",
#     &client_id=...&redirect_uri=...&resource=...                 "expires_in": 3600,
#                                                                  "refresh_token": "tGzv3JOkF..."}

def token_request(endpoint: str, client: Client, form: dict[str, str | None]) -> dict:
    """Ask for tokens. Returns the answer's fields. Raises Problem: Refused, Temporary."""
    headers = {}
    form = {**form, "client_id": client.client_id}
    if client.token_endpoint_auth_method == "client_secret_basic":
        pair = f"{quote(client.client_id, safe='')}:{quote(client.client_secret or '', safe='')}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    elif client.token_endpoint_auth_method == "client_secret_post":
        form["client_secret"] = client.client_secret
    response = addresses.fetch("POST", endpoint, headers,
                               data={key: value for key, value in form.items() if value})
    found, status = response.document or {}, f"HTTP {response.status}"
    if response.status in (408, 429) or response.status >= 500:
        raise Temporary(
            f"the sign-in service has a problem of its own ({status}). Try again later.", status)
    if response.status >= 400 or found.get("error"):      # some say no with a 200
        error, other = found.get("error"), "invalid_client" if response.status == 401 else status
        raise Refused(error if isinstance(error, str) else other, found.get("error_description"))
    token = found.get("access_token")
    if not is_text(token) or " " in str(token) or \
            str(found.get("token_type") or "bearer").lower() != "bearer":
        raise Temporary("the sign-in service did not return a usable token. Try again, or ask the "
                        "server's owner.", "an answer without a token")
    return found


@dataclass(frozen=True)
class Tokens:
    """One server's tokens (to us, they are just texts), and what we need to get the next."""

    url: str                     # the server's; the access token is for no other
    issuer: str
    client_id: str
    token_endpoint: str
    resource: str | None         # as the MCP server names itself
    scope: str                   # what we may do; it may be less than what we have asked for
    access_token: str = field(default="", repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    obtained_at: int | float = 0             # both in seconds since 1970, because tomorrow,
    expires_at: int | float | None = None    # nobody would know what "in an hour" was
    asked_for: str = ""                      # the scopes that we asked you for

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


def expiry(expires_in: object, now: float) -> float | None:
    """When an access token ends, from what came with it. None: nobody knows."""
    seconds = number(expires_in)
    return now + max(0.0, seconds) if seconds is not None and seconds < 10 * 365 * 86400 else None


# ── Part 6: Refresh ──────────────────────────────────────────────────────────────────────
#
# An access token ends after, say, an hour. A minute before, we ask at the same address again, with
# grant_type=refresh_token&refresh_token=tGzv3JOkF..., and nobody is disturbed.
#
# Many authorization servers take a refresh token only once. So of several chats only one renews,
# while it has the file .mcp_tokens.json for itself, and the others find the new tokens there.

def refresh(old: Tokens, client: Client, now: float) -> Tokens:
    """Trade the refresh token for new tokens. Raises Problem: Refused, Temporary."""
    form = {"grant_type": "refresh_token", "refresh_token": old.refresh_token}
    try:
        answer = token_request(old.token_endpoint, client, {**form, "resource": old.resource})
    except Refused as error:
        # Some take a `resource` with a code, but not here.
        final = error.code in ("invalid_grant", "invalid_client", "unauthorized_client") and \
            "resource" not in error.detail
        if final or not old.resource:
            raise
        old = replace(old, resource=None)
        answer = token_request(old.token_endpoint, client, form)
    return old.renewed(answer, now)


# ── Part 7: All of it ────────────────────────────────────────────────────────────────────
#
# The method sign_in is this file once more, in thirty lines. When it is called, challenges.Bearer
# knows: Bearer adds the access token to each request, and sees when one is refused. (A token may be
# good and still too small: 403, "insufficient_scope". Then we sign in once more, for what we had
# and what is missing: `scope` is that list, and "" in a usual login.) chat.py sends requests side
# by side, from threads, but only its main thread reaches you at the keyboard. So what can be done
# without you is done on the spot. For the rest, LoginNeeded goes to the main thread, which calls
# login(), and then sends the request again.

class OAuth(challenges.Bearer):
    """One server's credentials, for requests.post(url, auth=...)."""

    def __init__(self, name: str, url: str, settings: dict, store: token_file.TokenStore, *,
                 person: bool, say: Callable[[str], object] = print,
                 open_browser: Callable[[str], bool] = open_browser,
                 typed: Callable[[], Any] = loopback.Keyboard,
                 now: Callable[[], float] = time.time, patience: float = 300):
        check_settings(name, url, settings)
        self.name, self.url, self.settings, self.store = name, url, settings, store
        self.say, self.open_browser, self.typed, self.now = say, open_browser, typed, now
        self.person, self.patience = person, patience  # whether one is there, with how many seconds
        self.by_machine = "login_form" in settings or \
            settings.get("grant_type") == "client_credentials"
        self.one_at_a_time = threading.Lock()
        self.problem = ""  # why a login failed. Then we don't ask again; a model would, on and on
        self.logins = 0    # how many there were ...
        self.step_ups = 0  # ... and of them for more scopes (for in_use, accepted see Bearer)

    def sign_in(self, challenge: dict[str, str], scope: str) -> None:
        """All the steps, in the order of the parts. Raises Problem."""
        # The port comes first: it is part of the redirect URI, and that of the registration.
        with self.listening() as callback:
            resource, auth_server = discover(self.url, challenge, self.settings)         # Part 1
            if "authorization_endpoint" in auth_server:
                self.report(f"  Discovered auth endpoint: {auth_server['authorization_endpoint']}")
            self.report(f"  Discovered token endpoint: {auth_server['token_endpoint']}")
            if auth_server.get("issuer") and "code_challenge_methods_supported" not in auth_server:
                self.report("  Note: it does not say whether it knows PKCE (S256). We use it.")
            scope = scope or choose_scope(self.settings, challenge, resource, auth_server)
            known = find_client(self.settings, self.clients_in(self.store.read()), auth_server,
                                self.name, callback.redirect_uri, self.now())
            make_client = partial(register, self.settings, auth_server, self.name,       # Part 2
                                  callback.redirect_uri, say=self.report)
            if known:
                self.keep(auth_server, replace(known, answered=False))  # until something comes back
            client = known or make_client(scope)
            get_tokens = partial(self.get_tokens, auth_server, resource, scope, callback)
            try:
                answer = get_tokens(client)                                        # Parts 3 to 5
            except Refused as error:
                # What we have registered may be forgotten there, or not good for these scopes.
                if not known or known.source != "registration" or error.code not in (
                        "invalid_client", "unauthorized_client", "invalid_scope"):
                    raise
                client = make_client(" ".join(scopes_in(known.scope, scope)))
                answer = get_tokens(client)
        tokens = Tokens(
            addresses.canonical(self.url), auth_server["key"], client.client_id,
            auth_server["token_endpoint"], resource.get("resource"), scope, asked_for=scope)
        with self.store.open() as saved:                                                 # Part 6
            saved["tokens"][self.name] = asdict(tokens.renewed(answer, self.now()))
        if self.store.memory is None:
            self.report("  [SUCCESS] Token stored for future use\n")

    def get_tokens(self, auth_server: dict, resource: dict, scope: str,
                   callback: loopback.Callback, client: Client) -> dict:
        """Have somebody say yes, and trade that for tokens. Raises Problem."""
        form = {"grant_type": "client_credentials", "scope": scope}
        if self.settings.get("grant_type") != "client_credentials":
            state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(64)       # Part 3
            callback.expect(partial(judge, state=state, auth_server=auth_server))
            try:
                about_us = login_parameters(client, resource, scope, state, verifier)    # Part 4
                code = self.get_code(auth_server["authorization_endpoint"], about_us, callback)
            finally:
                if callback.outcome:  # something came back; even with a no, they know us
                    self.keep(auth_server, client)
            self.report("\n  [SUCCESS] Authorization code received")
            form = {"grant_type": "authorization_code", "code": code,
                    "redirect_uri": client.redirect_uri, "code_verifier": verifier}
        try:
            answer = token_request(auth_server["token_endpoint"], client,                # Part 5
                                   {**form, "resource": resource.get("resource")})
        except Temporary as problem:  # (a code can be used only once, so there is no second try)
            raise (Problem(str(problem)) if "code" in form else problem) from None
        self.report("  [SUCCESS] Access token obtained")
        return answer

    def get_code(self, endpoint: str, parameters: dict, callback: loopback.Callback) -> str:
        """Show the login page to somebody, and wait. Raises Problem."""
        if "login_form" in self.settings:
            callback.take(loopback.post_login_form(
                endpoint, {**parameters, **self.settings["login_form"]}, callback.redirect_uri))
            return callback.result()
        page = endpoint + ("&" if "?" in endpoint else "?") + urlencode(parameters, quote_via=quote)
        self.say("\n  Opening browser for OAuth authentication...")
        self.say(f"  If the browser does not open, copy this address:\n{page}")
        self.say("  Waiting for authorization...")
        opened = self.open_browser(page)
        return callback.wait(self.patience, self.say, explain=not opened)

    def keep(self, auth_server: dict, client: Client) -> None:
        """Remember a client. (A secret that stands in the settings is in one place already.)"""
        kept = replace(client, client_secret=None) if client.source == "config" else client
        with self.store.open() as saved:
            saved["clients"].setdefault(auth_server["key"], {})[self.name] = asdict(kept)

    def listening(self) -> Any:
        """Where the answer comes to. (A machine needs no web server for that.)"""
        port = self.settings.get("redirect_port", 8080)
        if self.by_machine:
            return contextlib.nullcontext(loopback.Callback(port or 8080))
        return loopback.listening(port, "client_id" in self.settings, self.typed)

    def report(self, line: str) -> None:
        """Say how it goes. (A machine that signs in every hour does so only once.)"""
        if not (self.by_machine and (self.logins or self.in_use)):
            self.say(line)

    def login(self, needed: LoginNeeded | None = None) -> None:
        """Sign in. If it takes a person, only the main thread may do this. Raises OAuthError."""
        with self.by_name(), self.one_at_a_time:
            if needed:
                found = self.take_tokens(renew=False)
                if found and hash(found.access_token) != needed.refused:  # (it keeps no secret)
                    return                 # somebody has signed in meanwhile
                if self.problem:
                    raise Problem(self.problem)
            if not self.by_machine and not self.person:
                raise Problem(challenges.AT_A_TERMINAL.format(self.name))
            self.problem, scope = "", needed.scope if needed else ""
            try:
                self.sign_in(needed.challenge if needed else {}, scope)
            except (Temporary, token_file.Busy):
                raise                      # the next time may be better
            except (KeyboardInterrupt, EOFError, Problem) as error:
                why = str(error) if isinstance(error, Problem) else "login cancelled."
                self.problem = why + challenges.AFTER_ALL.format(self.name)
                raise Problem(self.problem) from None
            self.logins += 1
            self.step_ups += bool(scope)

    def scopes_at(self, challenge: dict[str, str]) -> object:
        return find_resource(self.url, challenge).get("scopes_supported")

    def clients_in(self, saved: dict) -> dict[str, Client]:
        return token_file.as_each(Client, token_file.by_issuer(saved, self.name))

    def stored(self, saved: dict | None = None) -> Tokens | None:
        """What the file has for us. A token for another server, or another client, isn't ours."""
        found = token_file.as_each(Tokens, (saved or self.store.read())["tokens"]).get(self.name)
        ours = found and found.url == addresses.canonical(self.url) and \
            found.client_id == self.settings.get("client_id", found.client_id)
        return found if ours else None

    def take_tokens(self, refused: str = "", renew: bool = True) -> Tokens | None:
        """The tokens to use: stored, or renewed, or none. `refused`: one that isn't taken."""
        def stale(found: Tokens | None) -> bool:
            return found is None or found.access_token == refused or not found.fresh(self.now())

        found = self.stored()
        if renew and found and found.refresh_token and stale(found):
            with self.store.open() as saved:
                # Now nobody else can. But who had the lock before us may just have done it.
                found = self.stored(saved)
                if found and found.refresh_token and stale(found):
                    return self.renew(found, saved, must=bool(refused))
        return None if stale(found) else found

    def renew(self, old: Tokens, saved: dict, must: bool) -> Tokens | None:
        """Get new tokens, while we have the file for ourselves. None: it takes a login."""
        known = self.clients_in(saved).get(old.issuer)
        client = known if known and known.client_id == old.client_id else \
            Client("registration", old.client_id)
        if client.source == "config":
            client = replace(client, client_secret=self.settings.get("client_secret"))
        try:
            tokens = refresh(old, client, self.now())
        except Refused as error:
            del saved["tokens"][self.name]
            if error.code == "invalid_client" and known == client and known.source != "config":
                del saved["clients"][old.issuer][self.name]
            if self.person and not self.by_machine and not self.problem:
                self.say(f"The login for {self.name} has expired. Opening the browser again...")
            return None
        except Temporary as problem:
            if not must and self.now() < (old.expires_at or math.inf):
                return old             # for its last minute
            raise OAuthError(f"Could not renew the login for {self.name} right now "
                             f"({problem.reason}). Try again in a moment.") from None
        saved["tokens"][self.name] = asdict(tokens)
        return tokens
