"""chapters/addresses.py: which addresses may be trusted, and the one careful request."""

import contextlib
import socket
import threading
from urllib.parse import quote, urlsplit

import pytest
from oauth_world import AFTER_ALL, RESOURCE, F, answers

from chapters.addresses import UNSAFE, fetch, is_safe
from chapters.outside import Problem


@pytest.mark.parametrize("address", ["https://127.0.0.1/x", "https://169.254.169.254/x",
                                     "https://10.0.0.5/x", "http://localhost/x", "https://[::1]/x",
                                     "https://2130706433/x", "https://[::ffff:10.0.0.5]/x"])
def test_F3_a_public_server_cannot_send_us_into_our_own_network(address):
    assert not is_safe(address, near="https://public.example/mcp")


def test_F3_not_even_with_a_redirect(world):
    world.server.pages[RESOURCE] = answers(302, headers={"Location": "http://10.0.0.5/"})
    assert world.failure(world.auth()) == F + UNSAFE + AFTER_ALL


@pytest.mark.parametrize("status", [300, 302, 307])
def test_F3_nor_with_one_that_leads_to_no_address(world, status):
    world.server.pages[RESOURCE] = answers(status, headers={"Location": "http://["})
    assert world.failure(world.auth()) == F + UNSAFE + AFTER_ALL


def test_an_address_of_900_kb_is_not_a_safe_one(world):
    world.auth_server.metadata["authorization_endpoint"] += "a" * 900_000
    assert len(world.failure(world.auth())) < 1000


@pytest.mark.parametrize("address", ["https://id.example/@org/server", "https://id.example:8443/?a=@",
                                     "https://[2606:4700::1111]/x"])
def test_addresses_that_only_look_odd(address):
    assert is_safe(address, near="https://public.example/mcp")


@pytest.mark.parametrize("url, why", [
    ("http://127.0.0.1:9/x?token=secret", "127.0.0.1:9 (connection refused). Try again later."),
    ("https://nowhere.invalid/x?token=secret",
     "nowhere.invalid (there is no such host). Or is this computer offline?"),
    ("https://{plain}/x?token=secret", "{plain} (no safe https connection). Behind a company's "
     "proxy, put the file with the company's certificate into REQUESTS_CA_BUNDLE."),
    ("http://{rude}/x?token=secret",
     "{rude} (the connection broke off). Check your connection and try again."),
])
def test_a_host_that_cannot_be_reached_is_named_with_the_reason(world, url, why):
    world.auth_server.pages["/x"] = answers(200)
    with socket.create_server(("127.0.0.1", 0)) as rude:
        def hang_up():
            with contextlib.suppress(OSError):
                rude.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        names = {"plain": urlsplit(world.auth_server.origin).netloc,
                 "rude": f"127.0.0.1:{rude.getsockname()[1]}"}
        with pytest.raises(Problem) as caught:
            fetch("GET", url.format(**names))
    assert str(caught.value) == "could not reach " + why.format(**names)


def test_a_proxy_that_lets_nobody_through_is_the_reason(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://ada:secret@127.0.0.1:9")
    with pytest.raises(Problem, match="your proxy doesn't let us through.*HTTPS_PROXY") as caught:
        fetch("GET", "https://id.example.com/x")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("host, port, fits", [("localhost", 0, True), ("[::1]", 0, True),
                                              ("localhost", 1, False), ("127.0.0.2", 0, False)])
def test_the_names_of_this_computer_are_equal_on_one_port(world, host, port, fits):
    """The file of fastchat-mcp says 127.0.0.1, and its server calls itself localhost."""
    there = world.server.server.server_port
    world.server.resource["resource"] = f"http://{host}:{there + port}/mcp"
    if fits:
        assert world.call(world.auth()) == 200
        assert f"resource=http%3A%2F%2F{quote(host)}%3A{there}%2Fmcp" in world.opened[0]
    else:
        assert "the server's sign-in data is for " in world.failure(world.auth())
