"""chapters/challenges.py: what servers say about signing in, the first servers, the settings."""

import time
from functools import partial
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from login_server import Reply, Site
from oauth_world import AFTER_ALL, RESOURCE, WELL_KNOWN, F, answers

from chapters.challenges import OAuthError, check_settings, parse_challenge
from chapters.jobs import finish, with_logins
from chapters.token_file import TokenStore
from chat import Server, list_tools


def test_the_old_way_without_resource_metadata(world):
    """MCP 2025-03-26: the server is its own authorization server."""
    world.server.pages.pop(RESOURCE)
    for path in ("/authorize", "/token", "/register"):
        world.server.pages[path] = world.auth_server.pages[path]

    assert world.call(world.auth()) == 200
    assert "resource=" not in world.opened[0]


def test_the_old_way_with_metadata_that_points_to_another_issuer(world):
    world.server.pages.pop(RESOURCE)
    world.server.pages[WELL_KNOWN] = answers(200, {
        "issuer": world.auth_server.issuer, "authorization_endpoint": "https://not.believed",
        "token_endpoint": "https://not.believed"})

    assert world.call(world.auth()) == 200
    assert world.stored["tokens"]["sheets"]["issuer"] == world.auth_server.issuer


def test_two_addresses_from_the_settings_need_no_discovery(world):
    world.server.pages.pop(RESOURCE)
    world.auth_server.clients["by-hand"] = ""
    origin = world.auth_server.origin
    auth = world.auth(client_id="by-hand", auth_url=f"{origin}/authorize",
                      token_url=f"{origin}/token")
    assert world.call(auth) == 200
    assert 'set "client_id", "auth_url" and "token_url" in its "oauth" section.' in world.failure(
        world.auth(store=TokenStore(world.folder / "other.json"), client_id="by-hand",
                   auth_url=f"{origin}/authorize"))


@pytest.mark.parametrize("header, found", [
    ('Bearer resource_metadata="https://a/x", scope="a b"',
     {"resource_metadata": "https://a/x", "scope": "a b"}),
    ('BEARER Scope = "a b"', {"scope": "a b"}),
    (r'Basic realm="a, Bearer scope=\"x\"", Bearer scope=foo , resource_metadata=https://a/b?c=d',
     {"realm": 'a, Bearer scope="x"', "scope": "foo", "resource_metadata": "https://a/b?c=d"}),
    ('DPoP algs="ES256", Bearer scope="z"', {"algs": "ES256", "scope": "z"}),
    ('Bearer realm="x" resource_metadata="https://nocomma/x"',
     {"realm": "x", "resource_metadata": "https://nocomma/x"}),
    ("Bearer", {}), ('Bearer scope="unterminated', {}), ("", {}), (None, {}),
    ('Bearer scope=""', {"scope": ""}),
])
def test_challenges(header, found):
    assert parse_challenge(header) == found


def test_F10_an_issuer_that_the_old_way_points_to_must_confirm_it(world):
    world.server.pages.pop(RESOURCE)
    world.server.pages[WELL_KNOWN] = answers(200, {"issuer": world.auth_server.issuer})
    world.auth_server.metadata["issuer"] = "https://evil.example"
    assert world.failure(world.auth()).startswith(
        F + f"the sign-in service names itself {world.auth_server.issuer} but was found at "
        f"{world.server.origin}. Ask the server's owner")


SETTINGS = [
    *[(f"F21 {port!r}", {"redirect_port": port}, '"redirect_port" must be a whole number from 0 '
       "to 65535.") for port in ("8080", 70000, -1, True, 80.5, None)],
    ("F47 scopes", {"scopes": "mcp.read"}, '"scopes" must be a list, for example ["mcp.read"].'),
    ("F47 scope", {"scopes": ["a b"]}, '"scopes" must be a list, for example ["mcp.read"].'),
    ("F47 secret", {"client_secret": "x"}, '"client_secret" needs a "client_id" beside it.'),
    ("F47 no object", ["x"], '"oauth" must be an object, like {"scopes": ["mcp.read"]}.'),
    ("F47 unknown", {"scope": "x"}, '"scope" is not an option of "oauth". There are: client_id, '
     "client_secret, scopes, redirect_port, auth_url, token_url, client_metadata_url, grant_type, "
     "login_form."),
    ("F47 auth_url", {"auth_url": "http://evil.example"}, '"auth_url" must be an https address.'),
    ("F47 document", {"client_metadata_url": "https://a.example/"}, '"client_metadata_url" must '
     "be the https address of your client's metadata document."),
    ("F47 grant", {"grant_type": "password"}, '"grant_type" must be "client_credentials" for a '
     "machine, or left out for a person."),
    ("F47 machine", {"grant_type": "client_credentials"}, '"client_credentials" needs "client_id" '
     'and "client_secret".'),
    ("F47 form", {"login_form": {"user": 7}}, '"login_form" must be an object of texts, like '
     '{"username": "ada", "password": "${PASSWORD}"}.'),
]


@pytest.mark.parametrize("options, expected", [row[1:] for row in SETTINGS],
                         ids=[row[0] for row in SETTINGS])
def test_settings_are_refused_at_the_start(options, expected):
    with pytest.raises(OAuthError) as caught:
        check_settings("sheets", "https://example.com/mcp", options)
    assert str(caught.value) == F + expected


def test_F47_a_token_does_not_travel_in_the_open():
    with pytest.raises(OAuthError, match='"url" must begin with https://'):
        check_settings("sheets", "http://example.com/mcp", {})
    with pytest.raises(OAuthError, match='"url" must be a whole address'):
        check_settings("sheets", "https://example.com:99999/mcp", {})
    check_settings("sheets", "http://localhost:8000/mcp", {})


class Workato:
    """The shape of some of its servers: no resource metadata, and the server's own document names
    an issuer on another host, which publishes nothing. (127.0.0.1 and localhost are two hosts.)"""

    def __init__(self, world, **changes):
        here = world.auth_server
        self.issuer = here.origin.replace("127.0.0.1", "localhost")
        self.document = {**{key: value.replace("127.0.0.1", "localhost") if isinstance(value, str)
                            else value for key, value in here.metadata.items()}, **changes}
        here.metadata = {"issuer": self.issuer}    # in what the browser brings
        here.pages.pop(WELL_KNOWN)
        world.server.pages.pop(RESOURCE)
        world.server.pages[WELL_KNOWN] = answers(200, self.document)


def test_a_server_of_workato_whose_issuer_publishes_nothing(world):
    workato = Workato(world)
    assert world.call(world.auth()) == 200
    assert world.stored["tokens"]["sheets"]["issuer"] == workato.issuer
    assert world.opened[0].startswith(f"{workato.issuer}/authorize?")
    assert "resource=" not in world.opened[0]
    assert world.auth_server.asked(WELL_KNOWN)        # it was asked first
    world.auth_server.valid.clear()
    assert world.call(world.auth()) == 200            # and its tokens are renewed
    assert len(world.opened) == 1


@pytest.mark.parametrize("status, body", [(404, b""), (403, b"<html>no"), (200, b"<html>an app"),
                                          (200, {"issuer": "{issuer}", "jwks_uri": "https://a"})])
def test_workatos_issuer_may_publish_what_is_of_no_use(world, status, body):
    workato = Workato(world)
    if isinstance(body, dict):
        body = {**body, "issuer": workato.issuer}
    world.auth_server.pages["/.well-known/openid-configuration"] = answers(status, body)
    assert world.call(world.auth()) == 200


def test_where_workatos_issuer_publishes_something_that_counts(world):
    workato = Workato(world, token_endpoint="http://localhost:1/never")
    world.auth_server.pages[WELL_KNOWN] = answers(200, {
        **workato.document, "token_endpoint": f"{workato.issuer}/token"})
    assert world.call(world.auth()) == 200


def test_the_answer_must_come_from_the_issuer_that_workatos_server_names(world):
    Workato(world)
    world.auth_server.metadata = {"issuer": world.server.origin}
    assert "came from a different sign-in service" in world.failure(world.auth())
    assert not world.auth_server.asked("/token")


def test_a_document_that_names_one_issuer_and_addresses_at_a_third_place_is_refused(world):
    elsewhere = Site()
    workato = Workato(world, token_endpoint=f"{elsewhere.origin}/token")
    failure = world.failure(world.auth())
    assert failure == (
        F + f"the sign-in service names itself {workato.issuer} but was found at "
        f"{world.server.origin}. Ask the server's owner which sign-in addresses are right; they "
        'can be set as "auth_url" and "token_url". Its own answer: the sign-in service '
        f"{workato.issuer} sent incomplete data (no addresses). Ask its owner, or set "
        '"auth_url" and "token_url".' + AFTER_ALL)
    assert not world.opened and not elsewhere.visits

    # What the message advises works: the registration endpoint is still the one that was found.
    auth = world.auth(auth_url=f"{workato.issuer}/authorize", token_url=f"{workato.issuer}/token")
    assert world.call(auth) == 200
    assert len(world.auth_server.asked("/register")) == 1
    elsewhere.close()


def test_with_resource_metadata_an_issuer_must_name_itself_but_the_advice_works(world):
    origin, world.auth_server.metadata["issuer"] = world.auth_server.origin, "https://id.example"
    assert "names itself https://id.example but was found at" in world.failure(world.auth())
    auth = world.auth(auth_url=f"{origin}/authorize", token_url=f"{origin}/token")
    assert world.call(auth) == 200
    assert len(world.auth_server.asked("/register")) == 1


def test_a_step_up_in_a_later_run_keeps_offline_access(world):
    world.server.resource["scopes_supported"] = ["read"]
    world.auth_server.metadata["scopes_supported"] = ["read", "write", "offline_access"]
    world.auth_server.token_answer = {"expires_in": 3600, "scope": "read"}  # as most answer
    world.call(world.auth())
    world.server.scope = "write"

    assert world.call(world.auth()) == 200
    assert parse_qs(urlsplit(world.opened[1]).query)["scope"] == ["read offline_access write"]


def test_F36_a_fresh_login_that_is_rejected(world):
    world.server.pages["/mcp"] = answers(401)
    auth = world.auth()
    expected = ("the server rejects a fresh login (401 Unauthorized). Your account may lack "
                "access. To start over: chat.py --logout sheets, then --login sheets.")
    assert world.failure(auth) == F + expected
    assert world.failure(auth) == F + expected
    assert len(world.opened) == 1
    assert len(world.auth_server.asked("/token")) == 2 + 1      # login, one refresh, one more later


def test_a_redirect_on_the_way_to_a_refusal_has_not_accepted_our_token(world, connect):
    site = world.server
    site.resource["resource"] = site.origin
    site.pages |= {"/mcp": answers(307, headers={"Location": "/mcp/"}), "/mcp/": answers(401)}
    connection = connect(Server("sheets", site.url), auth=world.auth())
    for _ in range(2):
        [answer] = finish(with_logins([partial(list_tools, connection)]))
        assert "the server rejects a fresh login" in str(answer)
    assert len(world.opened) == 1, "the browser opens once, not again and again"


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_server_with_a_problem_of_its_own_has_not_accepted_our_token(world, status):
    statuses = iter([401, status])  # before the login, and after it; then 401 again and again
    world.server.pages["/mcp"] = lambda visit: Reply(next(statuses, 401))
    auth = world.auth()
    assert world.call(auth) == status
    assert "the server rejects a fresh login" in world.failure(auth)
    assert len(world.opened) == 1, "the browser opens once, not again and again"


def test_F36_a_machine_stops_as_well(world):
    world.server.pages["/mcp"] = answers(401)
    world.auth_server.clients["machine"] = ""
    auth = world.auth(client_id="machine", client_secret="x", grant_type="client_credentials")
    assert "rejects a fresh login" in world.failure(auth)


@pytest.mark.parametrize("header", ["", 'Bearer error="insufficient_scope"',
                                    'Bearer error="insufficient_scope", scope="read"'])
def test_F37_a_403_that_no_login_can_help(world, header):
    world.server.challenge = 'Bearer scope="read"'
    auth = world.auth()
    world.call(auth)
    world.server.pages["/mcp"] = answers(403, headers={"WWW-Authenticate": header})
    assert world.failure(auth) == ("sheets: signed in, but not allowed to do this (403 Forbidden)."
                                   " Ask the server's owner for access.")
    assert len(world.opened) == 1


def test_F37_two_step_ups_and_no_more(world):
    wanted = iter("abcdefgh")
    auth = world.auth()
    world.call(auth)
    world.server.pages["/mcp"] = lambda visit: Reply(403, headers={
        "WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{next(wanted)}"'})
    assert "not allowed to do this" in world.failure(auth)
    assert [parse_qs(urlsplit(page).query).get("scope") for page in world.opened] == [
        None, ["a"], ["a b"]]


def test_a_403_before_any_login_is_not_our_business(world):
    world.server.pages["/mcp"] = answers(403)
    assert world.call(world.auth()) == 403


@settings(max_examples=300)
@given(st.text(alphabet='Bearer scope="a\\,= \x1b\xff', max_size=80) | st.text(max_size=80))
def test_any_header_may_be_a_challenge(header):
    for name, value in parse_challenge(header).items():
        assert name == name.lower() and isinstance(value, str)


@pytest.mark.parametrize("piece", ["a", "a=", '="', 'a="\\'])
def test_a_long_challenge_takes_no_longer_per_letter_than_a_short_one(piece):
    def seconds(count):
        begin = time.thread_time()
        parse_challenge(piece * count)
        return time.thread_time() - begin

    assert seconds(80_000) < 24 * max(seconds(10_000), 0.001)  # 8 would do; squared, it is 64
