"""oauth_handler.py, against an authorization server and an MCP server of ours (login_server.py).

The numbers F1 to F56 are those of our list of what may go wrong. Nothing is patched: what the
outside world does goes through the arguments of the class OAuth.
"""

import html as html_module
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from login_server import Reply, Site
from needs import is_missing
from oauth_world import (
    AFTER_ALL,
    CALL,
    RESOURCE,
    WELL_KNOWN,
    Browser,
    F,
    answers,
    free_port,
    html,
    nonsense,
    query,
    quickly,
)
from patience import PATIENCE, eventually

import oauth_handler
from chapters.addresses import Answer
from chapters.challenges import LoginNeeded, OAuthError
from chapters.outside import Problem
from chapters.token_file import TokenStore, as_each

# ── The story ────────────────────────────────────────────────────────────────────────────

def test_a_first_login_from_the_401_to_the_answer(world):
    world.server.challenge = 'Bearer scope="sheets.read"'

    assert world.call(world.auth()) == 200

    origin, page = world.auth_server.origin, world.opened[0]
    assert world.printed == f"""\
  Discovered auth endpoint: {origin}/authorize
  Discovered token endpoint: {origin}/token
  Registering OAuth client for sheets...
  [OK] Client registered successfully

  Opening browser for OAuth authentication...
  If the browser does not open, copy this address:
{page}
  Waiting for authorization...

  [SUCCESS] Authorization code received
  [SUCCESS] Access token obtained
  [SUCCESS] Token stored for future use
"""
    asked = {key: value for key, [value] in parse_qs(urlsplit(page).query).items()}
    port = urlsplit(asked["redirect_uri"]).port
    assert asked["redirect_uri"] == f"http://localhost:{port}/callback"
    assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
    assert asked["resource"] == world.server.url
    assert asked["scope"] == "sheets.read"
    [about_us] = [json.loads(visit.body) for visit in world.auth_server.asked("/register")]
    assert about_us == {
        "client_name": "simple-mcp-chat-sheets", "redirect_uris": [asked["redirect_uri"]],
        "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
        "token_endpoint_auth_method": "none", "application_type": "native",
        "scope": "sheets.read"}
    assert "You have signed in" in world.pages[0].text
    first, second = world.server.asked("/mcp")
    assert (first.token, second.body) == ("", CALL)
    assert second.token == world.stored["tokens"]["sheets"]["access_token"]


def test_later_runs_use_the_stored_token(world):
    world.call(world.auth())
    world.lines.clear()

    auth = world.auth()
    world.call(auth)
    world.call(auth)

    assert world.printed == "Using stored token for sheets"
    assert len(world.opened) == 1


def test_a_token_is_renewed_before_it_ends(world):
    world.call(world.auth())
    world.seconds += 3600 - 30

    auth = world.auth()
    assert world.call(auth) == 200

    form = world.auth_server.asked("/token")[-1].form
    assert (form["grant_type"], form["resource"]) == ("refresh_token", world.server.url)
    assert "scope" not in form
    assert len(world.opened) == 1
    assert len(world.server.asked("/mcp")) == 3      # 401, answer, answer: no second 401


def test_a_401_in_the_middle_renews_the_token_and_repeats_the_request(world):
    auth = world.auth()
    world.call(auth)
    world.auth_server.valid.clear()

    assert world.call(auth) == 200

    assert len(world.opened) == 1
    assert [visit.body for visit in world.server.asked("/mcp")] == [CALL] * 4


def test_a_revoked_token_that_cannot_be_renewed_leads_to_one_new_login(world):
    auth = world.auth()
    world.call(auth)
    world.auth_server.valid.clear()
    world.auth_server.refreshing.clear()

    assert world.call(auth) == 200
    assert len(world.opened) == 2
    assert "The login for sheets has expired. Opening the browser again..." in world.lines


def test_more_scope_is_asked_for_together_with_what_we_had(world):
    world.server.challenge = 'Bearer scope="read"'
    auth = world.auth()
    world.call(auth)
    world.server.scope = "write"

    assert world.call(auth) == 200
    assert parse_qs(urlsplit(world.opened[1]).query)["scope"] == ["read write"]


def test_in_threads_one_login_serves_all(world):
    auth = world.auth()
    needed = []

    def ask():
        with pytest.raises(LoginNeeded) as caught:
            requests.post(world.server.url, data=CALL, auth=auth, timeout=PATIENCE)
        needed.append(caught.value)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in needed:
        one.login()

    assert len(needed) == 4
    assert len(world.opened) == 1


def test_without_a_challenge_login_looks_in_the_well_known_places(world):
    auth = world.auth()
    auth.login()
    assert world.call(auth) == 200
    assert len(world.server.asked("/mcp")) == 1


def test_a_login_elsewhere_is_found_instead_of_opening_a_second_browser(world):
    auth = world.auth()
    with pytest.raises(LoginNeeded) as caught:
        requests.post(world.server.url, data=CALL, auth=auth, timeout=PATIENCE)
    world.call(world.auth())        # another program

    auth.login(caught.value)

    assert world.call(auth) == 200
    assert len(world.opened) == 1


@pytest.mark.parametrize("offered, registered, secret", [
    (["client_secret_basic"], {"client_secret": "s/e c:ret"}, "s/e c:ret"),
    (["client_secret_post"], {"client_secret": "s/e c:ret"}, "s/e c:ret"),
    (["none"], {"client_secret": "unwanted", "token_endpoint_auth_method": "none"}, None),
    (None, {"client_secret": "kept", "token_endpoint_auth_method": "client_secret_post"}, "kept"),
])
def test_a_client_shows_its_secret_in_the_way_that_was_agreed(world, offered, registered, secret):
    if offered:
        world.auth_server.metadata["token_endpoint_auth_methods_supported"] = offered
    world.auth_server.registered, world.auth_server.secret = registered, secret
    world.auth_server.confidential.add(registered["client_secret"])
    auth = world.auth()

    assert world.call(auth) == 200
    world.auth_server.valid.clear()
    assert world.call(auth) == 200         # and the same when the token is renewed

    for visit in world.auth_server.asked("/token"):
        assert ("authorization" in visit.headers) == (offered == ["client_secret_basic"])
        assert ("client_secret" in visit.form) == (
            secret is not None and offered != ["client_secret_basic"])


def test_a_client_from_the_settings(world):
    world.auth_server.clients["by-hand"] = ""
    world.auth_server.secret = "config-secret"
    world.auth_server.confidential.add("config-secret")
    by_hand = {"client_id": "by-hand", "client_secret": "config-secret"}

    assert world.call(world.auth(**by_hand)) == 200
    world.seconds += 7200
    assert world.call(world.auth(**by_hand)) == 200

    assert not world.auth_server.asked("/register")
    assert "config-secret" not in world.file.read_text()


def test_a_document_about_us_instead_of_a_registration(world):
    ours = "https://example.com/simple-mcp-chat.json"
    world.auth_server.metadata["client_id_metadata_document_supported"] = True
    world.auth_server.clients[ours] = ""

    assert world.call(world.auth(client_metadata_url=ours)) == 200
    assert not world.auth_server.asked("/register")
    assert world.stored["tokens"]["sheets"]["client_id"] == ours


def test_a_document_about_us_goes_before_a_registration_of_earlier(world):
    ours, port = "https://example.com/simple-mcp-chat.json", free_port()
    world.call(world.auth(redirect_port=port))
    world.change(url="https://elsewhere.example")  # nobody is signed in, but we are registered
    world.auth_server.metadata["client_id_metadata_document_supported"] = True
    world.auth_server.clients[ours] = ""

    assert world.call(world.auth(redirect_port=port, client_metadata_url=ours)) == 200
    assert parse_qs(urlsplit(world.opened[1]).query)["client_id"] == [ours]
    assert world.stored["tokens"]["sheets"]["client_id"] == ours
    assert len(world.auth_server.asked("/register")) == 1


def test_a_machine_signs_in_without_a_person(world):
    world.auth_server.clients["machine"] = ""
    world.auth_server.secret = "machine-secret"
    world.auth_server.confidential.add("machine-secret")
    auth = world.auth(person=False, client_id="machine", client_secret="machine-secret",
                      grant_type="client_credentials", scopes=["read"])

    assert requests.post(auth.url, data=CALL, auth=auth, timeout=PATIENCE).status_code == 200
    [form] = [visit.form for visit in world.auth_server.asked("/token")]
    assert form == {"grant_type": "client_credentials", "scope": "read", "client_id": "machine",
                    "resource": world.server.url}
    assert not world.opened


@pytest.mark.parametrize("set_by_hand", [False, True])
def test_a_machine_needs_no_login_page(world, set_by_hand):
    """RFC 8414: the address of one may be missing, where nobody could use it."""
    del world.auth_server.metadata["authorization_endpoint"]
    world.auth_server.clients["machine"] = ""
    settings = {"client_id": "machine", "client_secret": "x", "grant_type": "client_credentials"}
    if set_by_hand:
        world.server.pages.pop(RESOURCE)
        settings["token_url"] = world.auth_server.metadata["token_endpoint"]

    assert world.call(world.auth(person=False, **settings)) == 200
    assert "Discovered token endpoint" in world.printed
    assert set_by_hand or "Discovered auth endpoint" not in world.printed


def test_a_machine_tries_again_after_a_hiccup(world):
    world.auth_server.clients["machine"] = ""
    fine, world.auth_server.pages["/token"] = world.auth_server.pages["/token"], answers(503)
    auth = world.auth(person=False, client_id="machine", client_secret="x",
                      grant_type="client_credentials")
    assert "(HTTP 503). Try again later." in world.failure(auth)
    world.auth_server.pages["/token"] = fine
    assert world.call(auth) == 200


def test_F11_who_sets_both_addresses_vouches_for_them(world):
    del world.auth_server.metadata["code_challenge_methods_supported"]
    origin = world.auth_server.origin
    auth = world.auth(auth_url=f"{origin}/authorize", token_url=f"{origin}/token")
    assert world.call(auth) == 200
    assert "does not say whether it knows PKCE" in world.printed
    assert "code_challenge_method=S256" in world.opened[0]


def test_a_login_page_may_have_a_query_of_its_own(world):
    world.auth_server.metadata["authorization_endpoint"] += "?tenant=7"
    assert world.call(world.auth()) == 200
    assert "/authorize?tenant=7&response_type=code" in world.opened[0]


def test_offline_access_is_asked_for_where_it_exists(world):
    world.server.resource["scopes_supported"] = ["read"]
    world.auth_server.metadata["scopes_supported"] = ["read", "offline_access"]
    world.call(world.auth())
    assert "scope=read%20offline_access&prompt=consent" in world.opened[0]


def test_signing_out_and_the_overview(world):
    store = world.store()
    world.call(world.auth(store))
    signed_in = as_each(oauth_handler.Tokens, store.read()["tokens"])
    assert list(signed_in) == ["sheets"]
    assert signed_in["sheets"].issuer == world.auth_server.issuer
    assert signed_in["sheets"].expires_at == world.seconds + 3600

    assert store.forget("sheets")
    assert not store.forget("sheets")
    assert as_each(oauth_handler.Tokens, store.read()["tokens"]) == {}
    world.call(world.auth(store))
    assert len(world.auth_server.asked("/register")) == 2


def test_secrets_stay_out_of_what_python_prints(world):
    client = oauth_handler.Client("config", "id", "the secret")
    tokens = oauth_handler.Tokens("u", "i", "c", "t", None, "s", "the secret", "the secret", 0, 0)
    assert "the secret" not in f"{client!r} {tokens!r} {Answer(200, {})!r}"
    world.auth_server.secret = "the secret"
    auth = world.auth(client_id="x", client_secret="the secret")
    with pytest.raises(OAuthError) as caught:
        world.call(auth)
    assert "the secret" not in repr((caught.value.args, vars(caught.value), auth))


def test_the_map_in_the_docstring_is_the_order_of_the_file():
    source = Path(oauth_handler.__file__).read_text(encoding="utf-8")
    on_the_map = re.findall(r"^    Part (\d)   (.+?)  ", oauth_handler.__doc__, re.MULTILINE)
    in_the_file = re.findall(r"^# ── Part (\d): (.+?) ─", source, re.MULTILINE)
    assert on_the_map == in_the_file
    assert "import chat" not in source and "from chat" not in source


# ── What may go wrong before the browser opens ───────────────────────────────────────────


def too_big(visit):
    return Reply(200, b'{"resource": "' + b"x" * 2**21 + b'"}')


FINE = {
    "F1 no challenge": lambda world: setattr(world.server, "challenge", ""),
    "F1 no header at all": lambda world: world.server.pages.update(
        {"/mcp": lambda visit: Reply(200) if visit.token else Reply(401)}),
    "F1 html in place of the first document": lambda world: world.server.pages.update(
        {RESOURCE: html, RESOURCE[:-4]: lambda visit: Reply(200, world.server.resource)}),
    "F1 one slash": lambda world: world.auth_server.metadata.update(
        issuer=world.auth_server.issuer + "/"),
    "F4 too big, so the next place": lambda world: world.server.pages.update(
        {RESOURCE: too_big, RESOURCE[:-4]: lambda visit: Reply(200, world.server.resource)}),
    "F4 redirects in a circle": lambda world: world.server.pages.update(
        {RESOURCE: answers(302, headers={"Location": RESOURCE}),
         RESOURCE[:-4]: lambda visit: Reply(200, world.server.resource)}),
    "F9 form-encoded": lambda world: world.auth_server.pages.update({
        "/token": lambda visit: Reply(
            200, "&".join(f"{key}={value}" for key, value in
                          world.auth_server.token(visit).body.items()).encode(),
            {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"})}),
}


@pytest.mark.parametrize("case", FINE)
def test_it_works_all_the_same(world, case):
    FINE[case](world)
    assert world.call(world.auth()) == 200


def test_F9_a_refresh_keeps_what_the_answer_leaves_out(world):
    world.server.challenge = 'Bearer scope="read"'
    world.call(world.auth())
    before = world.stored["tokens"]["sheets"]
    world.auth_server.valid["next"] = "read"
    world.auth_server.pages["/token"] = answers(200, {"access_token": "next"})
    world.seconds += 7200
    assert world.call(world.auth()) == 200
    after = world.stored["tokens"]["sheets"]
    assert (after["access_token"], after["expires_at"]) == ("next", None)
    assert all(after[key] == before[key] for key in ("refresh_token", "scope", "resource"))


UNSAFE = ("the server sent an unsafe sign-in address. Check the server's URL, or ask its owner.")
NO_PKCE = "the sign-in service offers no PKCE (S256), so a login would not be safe. Ask its owner."
NO_SCOPE = ("the sign-in service does not know one of the requested scopes. If you have set "
            '"scopes", check them; if not, ask the server\'s owner.')
NO_TOKEN = ("the sign-in service did not return a usable token. Try again, or ask the server's "
            "owner.")
NOT_FOUND = ("this server asks for a login but publishes no sign-in information. If it uses a "
             'token, set "auth_type": "token"; otherwise set "client_id", "auth_url" and '
             '"token_url" in its "oauth" section.')
INCOMPLETE = ("the sign-in service {{issuer}} sent incomplete data (no {}). Ask its owner, or set "
              '"auth_url" and "token_url".')
NO_REGISTRATION = (
    "this sign-in service does not register clients by itself. {}Create an OAuth client there with "
    'the redirect address {}, then put its "client_id" (and "client_secret", if any) in the '
    '"oauth" section of mcp_servers.json.')


def challenge(url):
    return lambda world: setattr(world.server, "challenge", f'Bearer resource_metadata="{url}"')


def metadata(**fields):
    return lambda world: world.auth_server.metadata.update(fields)


def without(key):
    return lambda world: world.auth_server.metadata.pop(key)


def auth_server_says(path, *args, **more):
    return lambda world: world.auth_server.pages.update({path: answers(*args, **more)})


def server_says(path, *args, **more):
    return lambda world: world.server.pages.update({path: answers(*args, **more)})


def nothing_anywhere(world):
    world.server.pages.pop(RESOURCE)


def down(world):
    world.auth_server.close()


BEFORE = [
    ("F2 http", challenge("http://evil.example/x"), UNSAFE),
    ("F2 javascript", challenge("javascript:alert(1)"), UNSAFE),
    ("F2 spaces", challenge("https://evil.example/a b"), UNSAFE),
    ("F2 a password", challenge("https://user:pw@evil.example/x"), UNSAFE),
    ("F2 a port that is none", challenge("https://evil.example:99999/x"), UNSAFE),
    ("F2 a backslash", challenge("https://good.example\\\\@evil.example/x"), UNSAFE),
    ("F2 an endpoint", metadata(authorization_endpoint="javascript:alert(1)"), UNSAFE),
    ("F5 resource metadata 503", server_says(RESOURCE, 503), "could not reach {server} "
     "(HTTP 503). Try again later."),
    ("F5 server metadata 503", auth_server_says(WELL_KNOWN, 503), "could not reach {auth_server} "
     "(HTTP 503). Try again later."),
    ("F5 the server is down", down, "could not reach {auth_server} (connection refused). "
     "Try again later."),
    ("F5 no such host", challenge("https://nowhere.invalid/x"), "could not reach nowhere.invalid "
     "(there is no such host). Or is this computer offline?"),
    ("F6 another host", lambda world: world.server.resource.update(
        resource="https://evil.example"), "the server's sign-in data is for https://evil.example,"
     ' not for this URL. Check "url" in mcp_servers.json.'),
    ("F6 not a parent", lambda world: world.server.resource.update(
        resource=world.server.origin + "/mc"), "the server's sign-in data is for {server_url}/mc,"
     ' not for this URL. Check "url" in mcp_servers.json.'),
    ("F7 nothing found", nothing_anywhere, NOT_FOUND),
    ("F8 not an object", auth_server_says(WELL_KNOWN, 200, []), INCOMPLETE.format("addresses")),
    ("F8 no token_endpoint", without("token_endpoint"), INCOMPLETE.format("token_endpoint")),
    ("F8 no authorization_endpoint", without("authorization_endpoint"),
     INCOMPLETE.format("authorization_endpoint")),
    ("F8 a wrong type", metadata(token_endpoint=["x"]), INCOMPLETE.format("token_endpoint")),
    ("F10 another issuer", metadata(issuer="https://a"), "the sign-in service names itself "
     "https://a but was found at {issuer}. Ask the server's owner which sign-in addresses are "
     'right; they can be set as "auth_url" and "token_url".'),
    ("F11 PKCE not mentioned", without("code_challenge_methods_supported"), NO_PKCE),
    ("F11 only plain", metadata(code_challenge_methods_supported=["plain"]), NO_PKCE),
    ("F13", auth_server_says("/register", 400, {"error": "invalid_redirect_uri"}), "the sign-in "
     "service refused the address {redirect} (invalid_redirect_uri). Create a client there by "
     'hand and set "client_id".'),
    ("F14", without("registration_endpoint"), NO_REGISTRATION.format(
        'Set "redirect_port" to a fixed number, like 8080. ', "{redirect}")),
    *[(f"F15 {answer}", auth_server_says("/register", 201, answer), "the sign-in service answered "
       "the registration in a way this program cannot use.") for answer in (
        {}, {"client_id": ""}, {"client_id": 7}, {"client_id": "a\nb"},
        {"client_id": "x", "token_endpoint_auth_method": "client_secret_basic"},
        {"client_id": "x", "token_endpoint_auth_method": "private_key_jwt"})],
    ("F16 403", auth_server_says("/register", 403, b"<html>no"), "registration was refused "
     '(HTTP 403). Try later, or set "client_id".'),
    ("F16 429", auth_server_says("/register", 429), "registration was refused (HTTP 429). "
     'Try later, or set "client_id".'),
    ("F45 registration", auth_server_says("/register", 307, headers={
        "Location": "https://evil.example/"}), "the sign-in service redirected a private request. "
     "Nothing was sent on."),
]


@pytest.mark.parametrize("arrange, expected", [row[1:] for row in BEFORE],
                         ids=[row[0] for row in BEFORE])
def test_it_stops_before_a_browser_opens(world, arrange, expected):
    arrange(world)
    names = {"server": urlsplit(world.server.url).netloc, "server_url": world.server.origin,
             "auth_server": urlsplit(world.auth_server.origin).netloc,
             "issuer": world.auth_server.issuer,
             "redirect": "http://localhost:*/callback"}
    failure = re.sub(r"localhost:\d+/callback", "localhost:*/callback", world.failure(world.auth()))
    assert failure.removesuffix(AFTER_ALL) == F + expected.format(**names)
    assert world.opened == []
    assert not world.auth_server.asked("/authorize") + world.auth_server.asked("/token")


def test_F14_with_a_fixed_port_its_address_is_to_be_registered(world):
    del world.auth_server.metadata["registration_endpoint"]
    port = free_port()
    assert world.failure(world.auth(redirect_port=port)) == F + NO_REGISTRATION.format(
        "", f"http://localhost:{port}/callback") + AFTER_ALL


def test_F14_a_port_that_is_another_one_each_time_is_not_to_be_registered(world):
    del world.auth_server.metadata["registration_endpoint"]
    failure = world.failure(world.auth(redirect_port=0))
    assert re.findall(r"\d{4,}", failure) == ["8080", "8080"]


def test_F5_deletes_nothing_and_does_not_latch(world):
    auth = world.auth()
    world.call(auth)
    world.auth_server.valid.clear()
    world.auth_server.refreshing.clear()
    fine = world.server.pages[RESOURCE]
    world.server.pages[RESOURCE] = answers(503)
    assert "could not reach" in world.failure(auth)
    assert world.stored["clients"]
    world.server.pages[RESOURCE] = fine
    assert world.call(auth) == 200


def test_F12_a_clock_set_back_and_a_netrc(world, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login ada password netrc-password\n")
    monkeypatch.setenv("NETRC", str(netrc))
    world.call(world.auth())
    world.seconds -= 86400
    assert world.call(world.auth()) == 200
    assert [visit.form["grant_type"] for visit in world.auth_server.asked("/token")] == [
        "authorization_code", "refresh_token"]
    headers = [visit.headers.get("authorization", "")
               for visit in world.auth_server.asked("/token") + world.server.visits]
    assert not [header for header in headers if header.startswith("Basic")]
    netrc.unlink()


@pytest.mark.parametrize("change", [
    {"redirect_uri": "http://localhost:1/callback"}, {"client_secret_expires_at": 5},
    {"client_id": 7}], ids=["F17 port", "F17 secret expired", "F17 nonsense"])
def test_F17_an_unfit_registration_is_made_anew(world, change):
    port = free_port()
    world.call(world.auth(redirect_port=port))
    data = world.stored
    data["clients"][world.auth_server.issuer]["sheets"].update(change)
    data["tokens"] = {}
    world.file.write_text(json.dumps(data))
    assert world.call(world.auth(redirect_port=port)) == 200
    assert len(world.auth_server.asked("/register")) == 2


def test_F17_a_fitting_registration_is_used_again(world):
    port = free_port()
    world.call(world.auth(redirect_port=port))
    world.change(url="https://elsewhere.example")       # F44: and its token isn't
    world.server.visits.clear()
    assert world.call(world.auth(redirect_port=port)) == 200
    assert len(world.auth_server.asked("/register")) == 1
    assert world.server.asked("/mcp")[0].token == ""


def test_F18_a_configured_client_is_for_one_issuer(world):
    world.auth_server.clients["by-hand"] = ""
    world.call(world.auth(client_id="by-hand"))
    old, world.auth_server.issuer = world.auth_server.issuer, world.auth_server.origin + "/moved"
    world.auth_server.metadata["issuer"] = world.auth_server.issuer
    world.auth_server.pages[WELL_KNOWN + "/moved"] = answers(200, world.auth_server.metadata)
    world.server.resource["authorization_servers"] = [world.auth_server.issuer]
    world.change(access_token="old", refresh_token=None)
    assert world.failure(world.auth(client_id="by-hand")) == (
        F + f"sign-in moved from {old} to {world.auth_server.issuer}. If that is expected, run "
        'chat.py --logout sheets and update "client_id".' + AFTER_ALL)


# ── What may go wrong while the person signs in ──────────────────────────────────────────


WRONG_SENDER = ("the answer came from a different sign-in service than the one asked. Nothing was "
                "sent. Try again; if it repeats, do not use this server.")


@pytest.mark.parametrize("change, expected", [
    pytest.param(query(iss="https://evil.example"), WRONG_SENDER, id="F23 wrong"),
    pytest.param(query(iss=None), WRONG_SENDER, id="F23 missing"),
    pytest.param(query(iss="https://evil.example", error="access_denied"), WRONG_SENDER,
                 id="F23 wrong, with an error that we don't believe"),
    pytest.param(query(error="access_denied", code=None),
                 "access was not granted in the browser.", id="F24"),
    pytest.param(query(error="server_error"), "the sign-in service reported: server_error",
                 id="F26"),
    pytest.param(query(error="server_error\x1b[2J", error_description="\x1b[31m<script>"),
                 "the sign-in service reported: server_error[2J ([31m<script>)", id="F26 escapes"),
    pytest.param(query(error="invalid_scope"), NO_SCOPE, id="F33"),
    pytest.param(query(code=""), "the sign-in service sent no code. Please try again.",
                 id="no code"),
])
def test_the_browser_brings_a_refusal(world, change, expected):
    browser = Browser(world, change)
    auth = world.auth(browser=browser)
    assert world.failure(auth) == F + expected + AFTER_ALL
    assert not world.auth_server.asked("/token")
    eventually(lambda: browser.seen)
    assert "You are not signed in yet." in browser.seen[0].text
    assert "<script>" not in browser.seen[0].text
    # From now on, it fails without another window.
    assert world.failure(auth) == F + expected + AFTER_ALL
    assert len(world.opened) == 1


def test_F28_not_a_terminal(world):
    assert world.failure(world.auth(person=False)) == (
        F + "a browser login is needed. Run chat.py --login sheets in a terminal once.")
    assert world.opened == []


# ── What may go wrong with the token ─────────────────────────────────────────────────────

AFTER = [
    ("F30", 400, {"error": "invalid_grant"}, "the login took too long or was already used. "
     "Please try again."),
    ("F32", 400, {"error": "invalid_target"}, "the sign-in service does not accept the address of "
     "this MCP server (invalid_target). Ask the server's owner."),
    ("F33", 400, {"error": "invalid_scope"}, NO_SCOPE),
    ("F42 error with a 200", 200, {"error": "bad_verification_code"}, "the sign-in service "
     "reported: bad_verification_code"),
    *[(f"F42 {answer}", 200, answer, NO_TOKEN) for answer in (
        {}, {"access_token": ""}, {"access_token": 7}, {"access_token": "a\nb"},
        {"access_token": "é"}, {"access_token": "x", "token_type": "DPoP"},
        {"access_token": "x", "token_type": 7}, ["list"], b"<html>")],
    ("a problem of its own", 503, b"", "the sign-in service has a problem of its own (HTTP 503). "
     "Try again later."),
]


@pytest.mark.parametrize("kind", ["Bearer", "bearer", "BEARER", None])
def test_a_token_is_a_bearer_token_unless_its_answer_says_otherwise(world, kind):
    world.auth_server.token_answer = {"expires_in": 3600, "token_type": kind}
    assert world.call(world.auth()) == 200


@pytest.mark.parametrize("status, answer, expected", [row[1:] for row in AFTER],
                         ids=[row[0] for row in AFTER])
def test_the_code_gets_us_no_token(world, status, answer, expected):
    world.auth_server.pages["/token"] = answers(status, answer)
    auth = world.auth()
    assert world.failure(auth) == F + expected + AFTER_ALL
    assert world.failure(auth) == F + expected + AFTER_ALL
    assert len(world.auth_server.asked("/token")) == len(world.opened) == 1
    assert world.stored["tokens"] == {}


NOT_ACCEPTED = ('the sign-in service does not accept this client. If you have set "client_id" or '
                '"client_metadata_url", check that; if not, ask the server\'s owner.')


def test_F31_a_client_that_is_not_accepted(world):
    assert world.failure(world.auth(client_id="unknown")) == F + NOT_ACCEPTED + AFTER_ALL
    assert world.stored["clients"]


def test_F31_a_client_that_has_just_registered_itself_is_not_accepted(world):
    """Nobody has set a client_id, so nobody is told only to check it."""
    world.auth_server.pages["/token"] = answers(401, {"error": "invalid_client"})
    assert world.failure(world.auth()) == F + NOT_ACCEPTED + AFTER_ALL
    assert "if not, ask the server's owner" in NOT_ACCEPTED


def test_F31_a_registration_that_was_forgotten_is_made_anew_once(world):
    port = free_port()
    world.call(world.auth(redirect_port=port))
    world.auth_server.clients.clear()
    world.auth_server.valid.clear()

    assert world.call(world.auth(redirect_port=port)) == 200
    assert len(world.auth_server.asked("/register")) == 2
    world.auth_server.pages["/token"] = answers(401)
    world.auth_server.valid.clear()
    assert "does not accept this client" in world.failure(world.auth(redirect_port=port))
    assert len(world.auth_server.asked("/register")) <= 4


@pytest.mark.parametrize("reply, reason", [
    (Reply(500), "HTTP 500"), (Reply(503), "HTTP 503"), (Reply(429), "HTTP 429"),
    (Reply(408), "HTTP 408"), (Reply(200, b"<html>"), "an answer without a token"),
    (Reply(200, {"access_token": ""}), "an answer without a token")])
def test_F34_a_service_with_a_problem_costs_no_login(world, reply, reason):
    auth = world.auth()
    world.call(auth)
    before = world.file.read_text()
    world.auth_server.valid.clear()
    world.auth_server.pages["/token"] = lambda visit: reply
    expected = f"Could not renew the login for sheets right now ({reason}). Try again in a moment."
    assert world.failure(auth) == expected
    world.seconds += 7200
    assert world.failure(auth) == expected
    assert world.file.read_text() == before
    assert len(world.opened) == 1


def test_F34_nobody_there(world):
    world.call(world.auth())
    world.auth_server.close()
    world.seconds += 3600 - 30
    assert world.call(world.auth()) == 200       # half a minute is enough for a request
    world.seconds += 60
    assert "right now (connection refused)" in world.failure(world.auth())


def test_after_a_failed_login_a_second_terminal_rescues_this_one_and_no_browser_is_announced(world):
    auth = world.auth(browser=Browser(world, query(error="access_denied", code=None)))
    assert world.failure(auth).endswith(AFTER_ALL)
    world.auth().login()         # chat.py --login sheets
    assert world.call(auth) == 200

    world.auth_server.valid.clear()
    world.auth_server.refreshing.clear()
    assert world.failure(auth).endswith(AFTER_ALL)
    assert len(world.opened) == 2
    assert "Opening the browser again" not in world.printed


@pytest.mark.parametrize("error", ["invalid_grant", "invalid_request", "unauthorized_client"])
def test_F35_a_refused_refresh_leads_to_one_login(world, error):
    world.call(world.auth())
    world.seconds += 7200
    fine = world.auth_server.pages["/token"]
    world.auth_server.pages["/token"] = lambda visit: Reply(400, {"error": error}) \
        if visit.form["grant_type"] == "refresh_token" else fine(visit)
    assert world.call(world.auth()) == 200
    assert "The login for sheets has expired. Opening the browser again..." in world.lines
    assert len(world.opened) == 2


# ── What may go wrong with the file ──────────────────────────────────────────────────────


@pytest.mark.parametrize("expires_in, left", [
    (None, None), ("3600", 3600), (3600.5, 3600.5), (0, 0), (-1, 0), (True, None), ("abc", None),
    (float("inf"), None), (float("nan"), None), (10**400, None), ([], None), ("1e400", None)],
    ids=lambda value: f"F43 {str(value)[:9]}")
def test_F43_when_a_token_ends(expires_in, left):
    assert oauth_handler.expiry(expires_in, now=1000) == (None if left is None else 1000 + left)


def test_F43_a_token_that_has_ended_already_is_renewed_for_each_request(world):
    world.auth_server.token_answer = {"expires_in": 0}
    auth = world.auth()
    assert [world.call(auth), world.call(auth)] == [200, 200]
    assert len(world.opened) == 1


def test_F44_a_token_is_for_one_server(world):
    world.call(world.auth())
    other = type(world.server)(world.auth_server)
    with pytest.raises(LoginNeeded):
        requests.post(other.url, data=CALL, auth=world.auth(url=other.url), timeout=PATIENCE)
    assert other.asked("/mcp")[0].token == ""
    other.close()


@pytest.mark.parametrize("grant", ["authorization_code", "refresh_token"])
def test_F45_a_private_request_is_not_sent_on(world, grant):
    elsewhere = Site()
    fine = world.auth_server.pages["/token"]
    world.auth_server.pages["/token"] = lambda visit: Reply(
        307, headers={"Location": f"{elsewhere.origin}/"}) \
        if visit.form["grant_type"] == grant else fine(visit)
    auth = world.auth()
    if grant == "refresh_token":
        world.call(auth)
        world.auth_server.valid.clear()
    assert world.failure(auth).removesuffix(AFTER_ALL) == (
        F + "the sign-in service redirected a private request. Nothing was sent on.")
    assert elsewhere.visits == []
    elsewhere.close()


def test_F48_killed_between_the_refresh_and_the_file(world):
    world.call(world.auth())
    world.seconds += 7200
    world.auth_server.refreshing.clear()       # it has given out a new one, and we lost it
    assert world.call(world.auth()) == 200
    assert len(world.opened) == 2


# ── No dead end ──────────────────────────────────────────────────────────────────────────

def registered_scopes(world):
    return [json.loads(visit.body).get("scope") for visit in world.auth_server.asked("/register")]


def asked_scopes(world):
    return [parse_qs(urlsplit(page).query).get("scope", [""])[0] for page in world.opened]


def test_a_server_that_wants_one_more_scope_gets_a_new_registration(world):
    port = free_port()
    world.auth_server.strict = True
    world.server.challenge = 'Bearer scope="read"'
    world.call(world.auth(redirect_port=port))
    world.auth_server.valid.clear()                      # it has been restarted, ...
    world.auth_server.refreshing.clear()
    world.server.challenge = 'Bearer scope="write"'      # ... and wants something else

    assert world.call(world.auth(redirect_port=port)) == 200
    assert registered_scopes(world) == ["read", "read write"]
    assert asked_scopes(world) == ["read", "write", "write"]
    eventually(lambda: len(world.pages) == 3)
    [before_the_last] = [page.text for page in world.pages if "signed in yet" in page.text]
    assert "another one opens" in before_the_last  # so nobody is told that it has failed
    world.auth_server.valid.clear()
    assert world.call(world.auth(redirect_port=port)) == 200      # renewed
    assert len(world.opened) == 3


def test_a_scope_that_is_added_to_the_settings_gets_a_new_registration(world):
    port = free_port()
    world.auth_server.strict = True
    world.call(world.auth(redirect_port=port, scopes=["read"]))
    world.auth_server.valid.clear()
    world.auth_server.refreshing.clear()

    assert world.call(world.auth(redirect_port=port, scopes=["read", "write"])) == 200
    assert registered_scopes(world) == ["read", "read write"]


def test_a_step_up_beyond_what_was_registered_gets_a_new_registration(world):
    port = free_port()
    world.auth_server.strict = True
    world.server.challenge = 'Bearer scope="read"'
    world.call(world.auth(redirect_port=port))
    world.server.scope = "write"

    assert world.call(world.auth(redirect_port=port)) == 200
    assert registered_scopes(world) == ["read", "read write"]
    assert asked_scopes(world) == ["read", "read write", "read write"]


def test_a_step_up_whose_scope_stands_only_in_the_resource_metadata(world):
    world.server.resource["scopes_supported"] = ["read"]
    auth = world.auth()
    world.call(auth)
    fine = world.server.pages["/mcp"]
    world.server.resource["scopes_supported"] = ["read", "write"]
    world.server.pages["/mcp"] = lambda visit: fine(visit) if "write" in \
        world.auth_server.valid.get(visit.token, "") else Reply(403, headers={
            "WWW-Authenticate": 'Bearer error="insufficient_scope"'})

    assert world.call(auth) == 200
    assert asked_scopes(world) == ["read", "read write"]


@pytest.mark.parametrize("error", ["invalid_scope", "invalid_client", "unauthorized_client"])
def test_a_registration_that_is_refused_at_the_token_endpoint_is_made_anew_once(world, error):
    port = free_port()
    world.call(world.auth(redirect_port=port))
    world.file.write_text(json.dumps({**world.stored, "tokens": {}}))
    world.auth_server.pages["/token"] = answers(400, {"error": error})

    failure = world.failure(world.auth(redirect_port=port))
    assert "the sign-in service does not" in failure
    assert len(world.auth_server.asked("/register")) == 2
    assert len(world.opened) == 3


def test_a_registration_of_just_now_is_not_made_twice(world):
    world.auth_server.pages["/token"] = answers(400, {"error": "invalid_scope"})
    assert world.failure(world.auth()) == F + NO_SCOPE + AFTER_ALL
    assert len(world.auth_server.asked("/register")) == 1


def test_a_client_from_the_settings_is_never_replaced(world):
    world.auth_server.strict = True
    world.auth_server.clients["by-hand"] = "read"
    auth = world.auth(client_id="by-hand", scopes=["read", "write"])
    assert world.failure(auth) == F + NO_SCOPE + AFTER_ALL
    assert not world.auth_server.asked("/register")


def test_a_server_that_lost_its_memory_while_we_are_signed_in(world):
    port = free_port()
    world.auth_server.strict = True
    auth = world.auth(redirect_port=port)
    world.call(auth)
    world.auth_server.restart()

    assert world.call(auth) == 200
    assert len(world.auth_server.asked("/register")) == len(world.opened) == 2


@pytest.mark.parametrize("refusal", [
    {"error": "invalid_target"}, {"error": "invalid_request"}, {"error": "server_error"},
    {"error": "invalid_grant", "error_description": "AADSTS9010010: The resource parameter ..."},
    "no json"])
def test_a_refresh_that_is_refused_only_because_of_the_resource(world, refusal):
    world.call(world.auth())
    world.seconds += 7200
    fine = world.auth_server.pages["/token"]
    world.auth_server.pages["/token"] = lambda visit: Reply(400, refusal) \
        if "resource" in visit.form else fine(visit)

    assert world.call(world.auth()) == 200
    assert len(world.opened) == 1
    forms = [visit.form for visit in world.auth_server.asked("/token")][1:]
    assert [form.get("resource") for form in forms] == [world.server.url, None]
    world.seconds += 7200
    assert world.call(world.auth()) == 200        # and from then on, it is left out
    assert len(world.auth_server.asked("/token")) == 4


def test_a_refresh_token_that_has_ended_is_shown_only_once(world):
    world.call(world.auth())
    world.seconds += 7200
    world.auth_server.refreshing.clear()
    assert world.call(world.auth()) == 200
    grants = [visit.form["grant_type"] for visit in world.auth_server.asked("/token")]
    assert grants == ["authorization_code", "refresh_token", "authorization_code"]


@pytest.mark.parametrize("nothing", [None, "", "0"])
def test_what_a_registration_leaves_empty_is_absent(world, nothing):
    fine = world.auth_server.pages["/register"]

    def register(visit):
        reply = fine(visit)
        reply.body |= {"client_secret": nothing, "client_secret_expires_at": nothing,
                       "token_endpoint_auth_method": nothing, "client_uri": nothing}
        return reply

    world.auth_server.pages["/register"] = register
    assert world.call(world.auth()) == 200
    [client] = [by_name["sheets"] for by_name in world.stored["clients"].values()]
    assert (client["client_secret"], client["client_secret_expires_at"]) == (None, 0)


@pytest.mark.parametrize("key", ["registration_endpoint", "scopes_supported",
                                 "token_endpoint_auth_methods_supported",
                                 "client_id_metadata_document_supported"])
def test_what_metadata_leaves_empty_is_absent(world, key):
    world.auth_server.metadata[key] = None
    world.auth_server.clients["by-hand"] = ""
    assert world.call(world.auth(client_id="by-hand")) == 200


# ── Authorization servers that we didn't write ───────────────────────────────────────────

HELLO = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
    "protocolVersion": "2025-11-25", "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"}}}
ACCEPT = {"Accept": "application/json, text/event-stream"}


def test_the_sdks_own_authorization_server_with_expiring_and_rotating_tokens(tmp_path):
    pytest.importorskip("mcp.server.mcpserver", reason="needs the SDK mcp, version 2")
    from servers.oauth_sdk_server import sdk_server
    lines, now = [], [time.time()]

    def browser(page):
        threading.Thread(target=requests.get, args=(page,), daemon=True).start()
        return True

    def hello(auth):
        try:
            return requests.post(url, json=HELLO, headers=ACCEPT, auth=auth, timeout=PATIENCE)
        except LoginNeeded as needed:
            needed.login()
            return hello(auth)

    def new_run():
        return oauth_handler.OAuth(
            "sheets", url, {"redirect_port": 0}, TokenStore(tmp_path / "tokens.json"),
            person=True, say=lines.append, open_browser=browser, now=lambda: now[0])

    with sdk_server() as (url, auth_server):
        auth = new_run()
        assert "serverInfo" in hello(auth).text
        for _ in range(3):
            now[0] += 3600                         # the token has ended by our clock ...
            assert "serverInfo" in hello(auth).text
        auth_server.tokens.clear()                     # ... and now only it knows
        assert "serverInfo" in hello(new_run()).text
        assert (auth_server.logins, auth_server.refreshes) == (1, 4)
        auth_server.tokens.clear()
        auth_server.refreshing.clear()
        assert "serverInfo" in hello(new_run()).text
        assert auth_server.logins == 2
        for secret in [*auth_server.tokens, *auth_server.refreshing]:
            assert secret not in "\n".join(lines)


def test_the_sdks_own_authorization_server_restarted_with_one_more_required_scope(world):
    pytest.importorskip("mcp.server.mcpserver", reason="needs the SDK mcp, version 2")
    from servers.oauth_sdk_server import sdk_server

    def hello(url):
        auth = world.auth(url=url, redirect_port=port)
        send = partial(requests.post, url, json=HELLO, headers=ACCEPT, auth=auth, timeout=PATIENCE)
        try:
            return send()
        except LoginNeeded as needed:
            needed.login()
            return send()

    port = free_port()
    with sdk_server() as (url, auth_server):
        assert "serverInfo" in hello(url).text
    with sdk_server(auth_server, urlsplit(url).port, required="read write") as (url, _):
        assert "serverInfo" in hello(url).text
    assert sorted(client.scope for client in auth_server.clients.values()) == ["read", "read write"]
    assert asked_scopes(world) == ["read", "read write", "read write"]


PERSON = """
import sys, requests
from chapters.token_file import TokenStore
from oauth_handler import LoginNeeded, OAuth
url, file = sys.argv[1:]
auth = OAuth("sheets", url, {"redirect_port": 0}, TokenStore(file), person=True, patience=120)
try:
    requests.post(url, data=b"{}", auth=auth, timeout=120)
except LoginNeeded as needed:
    needed.login()
print(requests.post(url, data=b"{}", auth=auth, timeout=120).status_code)
"""

BROWSER = """
import subprocess, sys
subprocess.run([{path!r}, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                "--no-first-run", "--user-data-dir={folder}/profile", "--virtual-time-budget=5000",
                "--dump-dom", sys.argv[1]], stdout=open({folder!r} + "/page.html", "w"),
               stderr=subprocess.DEVNULL, timeout=120)
open({folder!r} + "/ended", "w").close()
"""


def test_a_real_browser_opens_the_page_clicks_and_lands_on_ours(world, tmp_path_factory):
    path = next(filter(None, map(shutil.which, (
        "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))), None)
    if not path:
        is_missing("no Chromium on this computer")
    folder = tmp_path_factory.mktemp("browser")
    script = folder / "browser.py"
    script.write_text(BROWSER.format(path=path, folder=str(folder)))
    fine = world.auth_server.pages["/authorize"]
    world.auth_server.pages["/allow"] = lambda visit: fine(visit)
    world.auth_server.pages["/authorize"] = lambda visit: Reply(
        200, ('<form action="/allow">' + "".join(
            f'<input type="hidden" name="{name}" value="{html_module.escape(value)}">'
            for name, value in visit.query.items()) +
            '<button id="allow">Allow</button></form>'
            "<script>document.getElementById('allow').click()</script>").encode())
    answer = subprocess.run(
        [sys.executable, "-c", PERSON, world.server.url, world.file], text=True,
        cwd=Path(oauth_handler.__file__).parent, capture_output=True, timeout=PATIENCE,
        env={**os.environ, "BROWSER": f"{sys.executable} {script} %s &"})
    assert answer.stdout.endswith("200\n"), answer.stderr
    eventually((folder / "ended").exists)
    assert "You have signed in. You can close this page" in (folder / "page.html").read_text()
    assert world.auth_server.asked("/allow")
    world.lines.append(answer.stdout + answer.stderr)


# ── Nonsense ─────────────────────────────────────────────────────────────────────────────


@settings(max_examples=300)
@given(st.text(alphabet="codestaiserr=&%+1;\x00é\udc80", max_size=60) | st.text(max_size=60))
def test_only_the_right_state_makes_a_query_ours(query):
    server = {"issuer": "https://a"}
    assert oauth_handler.judge(query, "the state", server) is None


@quickly
@given(key=st.text(alphabet="codeisr_crptn", max_size=18) |
       st.sampled_from(["code", "iss", "error", "error_description"]), value=st.text(
           st.characters(exclude_categories=["Cs"]), max_size=300))
def test_any_answer_with_our_state_is_a_code_or_a_clear_error(key, value):
    server = {"issuer": "https://a"}
    query = urlencode([("state", "ours"), (key, value)])
    try:
        found = oauth_handler.judge(query, "ours", server)
    except Problem as error:
        assert str(error).isprintable() and len(str(error)) < 700
    else:
        assert found is None or found == value


@quickly
@given(data=st.data())
def test_any_metadata_leads_to_a_login_or_a_clear_error(world, data):
    places = [(world.server, RESOURCE), (world.auth_server, WELL_KNOWN),
              (world.auth_server, "/register")]
    fine = {path: site.pages[path] for site, path in places}
    site, path = data.draw(st.sampled_from(places))
    good = {RESOURCE: world.server.resource, WELL_KNOWN: world.auth_server.metadata,
            "/register": {"client_id": "x"}}[path]
    document = data.draw(st.one_of(
        st.fixed_dictionaries({}, optional={key: nonsense for key in good}).map(
            lambda changes: {**good, **changes}), nonsense))
    body = json.dumps(document).encode()
    site.pages[path] = lambda visit: Reply(200, body)
    store = TokenStore(world.folder / "fuzz.json", say=world.lines.append)
    auth = world.auth(store, browser=lambda page: True, patience=0)
    try:
        auth.login()
    except OAuthError as error:
        world.failures.append(str(error))
        assert str(error).startswith(F) and "\x1b" not in str(error)
    finally:
        site.pages[path] = fine[path]


@quickly
@given(changes=st.fixed_dictionaries({}, optional={
    key: nonsense for key in ("access_token", "token_type", "expires_in", "refresh_token", "scope",
                              "error", "error_description")}),
       status=st.sampled_from([200, 200, 200, 400, 401, 503]))
def test_any_token_answer_is_stored_well_or_refused_clearly(world, changes, status):
    fine = world.auth_server.pages["/token"]
    body = json.dumps({"access_token": "x", **changes}).encode()
    world.auth_server.pages["/token"] = lambda visit: Reply(status, body)
    path = world.folder / "fuzz.json"
    path.unlink(missing_ok=True)
    auth = world.auth(TokenStore(path, say=world.lines.append), client_id="machine",
                      client_secret="x", grant_type="client_credentials")
    try:
        auth.login()
    except OAuthError as error:
        assert str(error).startswith(F) and str(error).isprintable()
    else:
        request = requests.Request("POST", world.server.url).prepare()
        assert auth(request).headers.get("Authorization", "Bearer ").startswith("Bearer ")
    finally:
        world.auth_server.pages["/token"] = fine


