"""chapters/loopback.py: the browser comes back, or somebody pastes, or nobody answers."""

import contextlib
import errno
import json
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from login_server import Reply, Site
from needs import is_missing
from oauth_world import (
    AFTER_ALL,
    CALL,
    WELL_KNOWN,
    Browser,
    F,
    address_of,
    answers,
    as_it_is,
    free_port,
    no_browser,
    query,
)
from patience import PATIENCE, eventually

import oauth_handler
from chapters import loopback
from chapters.outside import Problem
from chapters.token_file import TokenStore


def test_a_login_form_is_posted_and_followed_to_its_end(world):
    def login(visit):
        form = visit.form
        world.auth_server.confidential.add("hunter2")
        if form["password"] != "hunter2":
            return Reply(401)
        return world.auth_server.authorize(visit)

    pages = world.auth_server.pages
    pages["/authorize"] = lambda visit: Reply(302, headers={"Location": "/login?step=2"})
    pages["/login"] = login
    form = {"username": "ada", "password": "hunter2"}
    auth = world.auth(person=False, login_form=form)

    assert requests.post(auth.url, data=CALL, auth=auth, timeout=PATIENCE).status_code == 200
    assert not world.opened
    bad = world.auth(store=TokenStore(world.folder / "other.json"), person=False,
                     login_form={**form, "password": "wrong"})
    assert world.failure(bad) == (
        F + 'the login form was refused (HTTP 401). Check "login_form".' + AFTER_ALL)


def test_a_login_form_goes_to_no_other_address(world):
    elsewhere = Site()
    world.auth_server.pages["/authorize"] = answers(
        302, headers={"Location": f"{elsewhere.origin}/"})
    auth = world.auth(login_form={"password": "hunter2"})
    assert "the login form was refused" in world.failure(auth)
    assert elsewhere.visits == []
    elsewhere.close()


def test_a_login_form_is_posted_once_where_a_redirect_leads_nowhere(world):
    world.auth_server.pages["/authorize"] = answers(302)
    auth = world.auth(login_form={"username": "ada"})
    assert "the login form was refused (HTTP 302)" in world.failure(auth)
    assert len(world.auth_server.asked("/authorize")) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_F20_the_port_is_taken(world, host):
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as taken:
        try:
            taken.bind((host, 0))
        except OSError as error:
            assert error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
            pytest.skip("this computer has no IPv6")
        taken.listen()
        port = taken.getsockname()[1]
        assert world.failure(world.auth(redirect_port=port)) == (
            F + f"port {port} is already in use. Close the other program, or set "
            f'"redirect_port" to another number, for example {port + 1}.')
        assert f"and register http://localhost:{port + 1}/callback with your client." in \
            world.failure(world.auth(redirect_port=port, client_id="x"))


def test_F22_strangers_are_turned_away_and_the_login_goes_on(world):
    strays = [lambda good: {}, query(state="wrong"), query(state="é"),
              lambda good: [*good.items(), ("code", "second")]]
    browser = Browser(world, *strays, as_it_is)
    original = browser.__call__

    def open_page(url):
        port = urlsplit(parse_qs(urlsplit(url).query)["redirect_uri"][0]).port
        here = f"http://127.0.0.1:{port}"
        assert requests.get(f"{here}/favicon.ico", timeout=PATIENCE).status_code == 404
        assert requests.get(f"{here}/other?state=x", timeout=PATIENCE).status_code == 404
        assert requests.post(f"{here}/callback", timeout=PATIENCE).status_code == 501
        foreign = requests.get(f"{here}/callback?code=1", headers={"Host": "evil.example"},
                               timeout=PATIENCE)
        assert foreign.status_code == 404
        assert "This page does not belong to the login you started." in foreign.text
        return original(url)

    assert world.call(world.auth(browser=open_page)) == 200
    eventually(lambda: len(browser.seen) == 5)
    assert [page.status_code for page in browser.seen] == [400, 400, 400, 400, 200]
    assert browser.seen[-1].headers["Cache-Control"] == "no-store"


def says_no():
    raise Problem("access was not granted in the browser.")


@pytest.mark.parametrize("second", [lambda: "the code", lambda: None, says_no],
                         ids=["the same again", "from another login", "a refusal"])
def test_of_two_visits_at_the_same_time_the_first_counts_and_both_get_a_page(second):
    both = threading.Barrier(2)  # nothing has come back when either of them is let in

    def judge(query):
        both.wait(PATIENCE)
        if query == "first":
            return "the code"
        eventually(lambda: callback.outcome)
        return second()

    with loopback.listening(0, typed=contextlib.nullcontext) as callback:
        callback.expect(judge)
        with ThreadPoolExecutor(2) as browser:
            pages = list(browser.map(lambda query: requests.get(
                f"{callback.redirect_uri}?{query}", timeout=PATIENCE), ["first", "second"]))
        code = callback.wait(PATIENCE, print)
    assert code == "the code"
    assert [page.status_code for page in pages] == [200, 200]
    assert all("You have signed in." in page.text for page in pages)


def test_F29_slow_and_endless_visitors_do_not_stand_in_the_way(world):
    with contextlib.ExitStack() as open_sockets:
        def open_page(url):
            port = urlsplit(parse_qs(urlsplit(url).query)["redirect_uri"][0]).port
            for first_words in (b"", b"GET /callback?co", b"GET /" + b"x" * 2**20):
                visitor = socket.create_connection(("127.0.0.1", port))
                open_sockets.enter_context(visitor)
                with contextlib.suppress(OSError):
                    visitor.sendall(first_words)
            return world.browser(url)

        assert world.call(world.auth(browser=open_page)) == 200


def test_F19_no_answer_at_all(world):
    port = free_port()
    auth = world.auth(browser=lambda url: True, patience=0.2, redirect_port=port)
    assert world.failure(auth).startswith(F + "no answer within ")
    assert world.failure(auth).endswith("If the browser showed an error, the next sign-in "
                                        "registers anew." + AFTER_ALL)
    world.call(world.auth(redirect_port=port))
    assert len(world.auth_server.asked("/register")) == 2


def test_F19_an_old_page_is_mentioned(world):
    auth = world.auth(browser=Browser(world, query(state="old")), patience=0.5)
    assert "from another login" in world.failure(auth)


def test_F25_ctrl_c(world):
    port = free_port()

    def press_ctrl_c(url):
        raise KeyboardInterrupt

    auth = world.auth(browser=press_ctrl_c, redirect_port=port)
    assert world.failure(auth) == F + "login cancelled." + AFTER_ALL
    assert world.failure(auth) == F + "login cancelled." + AFTER_ALL
    assert not world.file.exists()
    socket.create_server(("127.0.0.1", port)).close()


def test_without_a_browser_the_address_is_pasted(world):
    world.typed = [lambda: address_of(world) + "#_=_ "]
    assert world.call(world.auth(browser=no_browser(world))) == 200
    assert world.opened[0] in world.printed.split("\n")


def test_without_a_browser_here_the_listener_works_through_a_tunnel(world):
    world.typed = [lambda: world.browser(world.opened[0]) and ""]
    assert world.call(world.auth(browser=no_browser(world))) == 200


def test_F27_what_is_pasted_must_be_the_address_of_this_login(world):
    world.typed = ["abc", lambda: address_of(world, state="old"),
                   lambda: "https://evil.example/?" + address_of(world).partition("?")[2],
                   "", lambda: "?" + address_of(world).partition("?")[2]]
    assert world.call(world.auth(browser=no_browser(world))) == 200
    assert world.printed.count("That is not the address of this login. It starts with "
                               "http://localhost:") == 3


def test_F27_at_most_three_more_times(world):
    world.typed = ["abc", "", "what is 2 + 2?", "code", "code", "not asked for"]
    assert "there was no answer" in world.failure(world.auth(browser=no_browser(world)))
    assert world.typed == ["not asked for"]


def test_end_of_input_is_a_no(world):
    def ctrl_d():
        raise EOFError

    world.typed = [ctrl_d]
    auth = world.auth(browser=no_browser(world))
    assert world.failure(auth) == F + "login cancelled." + AFTER_ALL


@pytest.mark.parametrize("environment, opens", [
    ({"SSH_CONNECTION": "10.0.0.1"}, False), ({"SSH_TTY": "/dev/pts/1", "DISPLAY": ":0"}, False),
    ({}, sys.platform != "linux"), ({"SSH_CONNECTION": "10.0.0.1", "BROWSER": "true"}, True)])
def test_a_browser_is_opened_only_where_there_is_a_screen(environment, opens):
    program = "import oauth_handler as o; print(o.open_browser('http://127.0.0.1:9/'))"
    if opens and "BROWSER" not in environment:
        pytest.skip("it would open on your screen")
    said = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True,
                          cwd=Path(oauth_handler.__file__).parent,
                          env={"PATH": os.environ["PATH"], **environment})
    assert said.stdout == f"{opens}\n"


def test_a_posted_form_at_a_server_of_mcp_oauth(world):
    try:
        program = subprocess.Popen(
            ["uv", "run", "--quiet", "--no-project", "--python", ">=3.11", "--with", "mcp-oauth",
             "--with", "mcp<2", "python",
             Path(__file__).parent / "servers" / "oauth_form_server.py"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except FileNotFoundError:
        is_missing("needs uv, to make an environment with mcp-oauth and mcp<2")
    try:
        port = int(program.stdout.readline() or 0)  # 0: it has ended, and didn't say why
        origin = f"http://127.0.0.1:{port}"
        end = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(requests.ConnectionError):
                requests.get(origin + WELL_KNOWN, timeout=PATIENCE)
                break
            if program.poll() is not None or time.monotonic() > end:
                is_missing("mcp-oauth can't be had; is this computer offline?")
            time.sleep(0.1)
        world.server.resource["authorization_servers"] = [origin]
        world.server.pages["/mcp"] = lambda visit: Reply(
            200 if visit.token and requests.post(f"{origin}/introspect", timeout=PATIENCE, data={
                "token": visit.token}).json()["active"] else 401)
        auth = world.auth(person=False,
                          login_form={"username": "ada", "password": "a posted password"})
        assert world.call(auth) == 200
        world.auth_server.confidential |= {"a posted password",
                                       world.stored["tokens"]["sheets"]["access_token"]}
        wrong = world.auth(store=TokenStore(world.folder / "other.json"), person=False,
                           login_form={"username": "ada", "password": "wrong"})
        assert "the login form was refused (HTTP 401)" in world.failure(wrong)
    finally:
        program.terminate()
        program.wait(PATIENCE)


# ── No dead end ──────────────────────────────────────────────────────────────────────────

def ctrl_c(world):
    def press(url):
        raise KeyboardInterrupt
    return {"browser": press}


def ctrl_d(world):
    def press():
        raise EOFError
    world.typed = [press]
    return {"browser": no_browser(world)}


def wrong_pastes(world):
    world.typed = ["one", "two", "three", "four"]
    return {"browser": no_browser(world)}


def no_time_left(world):
    return {"browser": lambda url: True, "patience": 0.3}


@pytest.mark.parametrize("end", [ctrl_c, ctrl_d, wrong_pastes, no_time_left])
def test_a_registration_whose_sign_in_had_no_answer_is_not_used_again(world, end):
    port = free_port()
    world.auth_server.strict = True
    world.call(world.auth(redirect_port=port))
    world.auth_server.restart()
    data = world.stored
    data["tokens"] = {}                       # nobody is signed in
    world.file.write_text(json.dumps(data))

    # The browser shows "invalid_client", and will never come back.
    first = world.auth(redirect_port=port, **end(world))
    assert world.failure(first).startswith(F)
    assert len(world.auth_server.asked("/register")) == 1
    assert world.call(world.auth(redirect_port=port)) == 200
    assert len(world.auth_server.asked("/register")) == 2


def test_a_client_from_the_settings_stays_however_the_sign_in_ends(world):
    world.auth_server.clients["by-hand"] = ""
    assert "no answer" in world.failure(world.auth(client_id="by-hand", **no_time_left(world)))
    assert world.call(world.auth(client_id="by-hand")) == 200
    assert not world.auth_server.asked("/register")


def test_a_no_in_the_browser_is_an_answer_so_the_registration_stays(world):
    port = free_port()
    no = Browser(world, query(error="access_denied", code=None))
    assert "access was not granted" in world.failure(world.auth(browser=no, redirect_port=port))
    assert world.call(world.auth(redirect_port=port)) == 200
    assert len(world.auth_server.asked("/register")) == 1


def test_a_port_that_is_in_use_by_another_chat_is_tried_again_when_that_has_signed_in(world):
    port, failures = free_port(), []
    second = world.auth(redirect_port=port)

    def meanwhile(url):
        failures.append(world.failure(second))
        return world.browser(url)

    assert world.call(world.auth(browser=meanwhile, redirect_port=port)) == 200
    assert f"port {port} is already in use" in failures[0]
    assert world.call(second) == 200
    assert len(world.opened) == 1


def test_while_the_browser_is_open_an_address_may_be_pasted(world):
    """It was opened on another computer, and ends at a page that can't be reached."""
    def elsewhere(url):
        world.opened.append(url)
        return True

    world.typed = [None, "", "what is 2 + 2?", lambda: address_of(world)]
    assert world.call(world.auth(browser=elsewhere)) == 200
    assert world.printed.count("That is not the address of this login.") == 1


def test_an_error_may_be_pasted_as_well(world):
    world.typed = [lambda: address_of(world, error="access_denied")]
    assert "access was not granted" in world.failure(world.auth(browser=no_browser(world)))


def test_the_address_is_printed_before_a_browser_is_opened(world):
    def browser(url):
        assert url in world.printed.split("\n")
        return world.browser(url)

    assert world.call(world.auth(browser=browser)) == 200


def test_where_no_browser_opens_it_is_said_how_to_paste(world):
    world.typed = [None] * 8 + [lambda: address_of(world)]
    assert world.call(world.auth(browser=no_browser(world))) == 200
    assert "paste the full address" in world.printed
