"""chapters/token_file.py, alone and below oauth_handler.py."""

import errno
import importlib
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from oauth_world import F, nonsense, quickly
from patience import PATIENCE

import oauth_handler
from chapters.challenges import OAuthError
from chapters.token_file import Busy, TokenStore, as_each

DAMAGED = [b"", b'{"version": 1, "tok', b'{"version": 1}}', b"null", b"[]", b"\xff\xfe\x00",
           b'\xef\xbb\xbf{"version": 1, "clients": {}, "tokens": {}}', b'{"version": 99}',
           b'{"version": 1, "clients": [], "tokens": {}}', b"[" * 100_000]


@pytest.mark.parametrize("content", DAMAGED, ids=lambda content: f"F38 {content[:20]!r}")
def test_F38_a_damaged_file_is_set_aside(world, content):
    world.file.write_bytes(content)
    world.file.chmod(0o600)
    assert world.call(world.auth()) == 200
    assert (".mcp_tokens.json was damaged and has been set aside. You will be asked to sign in "
            "again.") in world.lines
    assert (world.folder / ".mcp_tokens.json.bad").read_bytes() == content
    assert world.stored["tokens"]["sheets"]["access_token"] in world.auth_server.valid


def test_F39_a_file_that_cannot_be_written(world):
    folder = world.folder / "a file, not a folder"
    folder.write_text("")
    store = TokenStore(folder / ".mcp_tokens.json", say=world.lines.append)
    auth = world.auth(store)
    assert world.call(auth) == 200
    assert world.call(auth) == 200
    assert len(world.opened) == 1
    warnings = [line for line in world.lines if line.startswith("Could not save the login")]
    assert warnings == ["Could not save the login (.mcp_tokens.json): not a directory. You will "
                        "have to sign in again next time."]


def test_F40_a_lock_that_is_held_too_long(world):
    world.call(world.auth())
    world.seconds += 7200
    with world.store().open():
        failure = world.failure(world.auth(world.store(patience=0.1)))
    assert failure == F + ("another copy of this program is busy signing in. "
                           "Try again in a moment.")


PROCESS = """
import sys, requests
from chapters.token_file import TokenStore
from oauth_handler import OAuth
url, file = sys.argv[1:]
auth = OAuth("sheets", url, {"redirect_port": 0}, TokenStore(file), person=False)
sys.stdin.readline()
print(requests.post(url, data=b"{}", auth=auth, timeout=120).status_code)
"""


def test_F41_five_processes_and_one_refresh(world):
    world.call(world.auth())
    world.auth_server.valid.clear()
    world.change(expires_at=5, obtained_at=1)
    asked_before = len(world.auth_server.asked("/token"))
    processes = [subprocess.Popen([sys.executable, "-c", PROCESS, world.server.url, world.file],
                                  cwd=Path(oauth_handler.__file__).parent, text=True,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                 for _ in range(5)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    assert said == ["Using stored token for sheets\n200\n"] * 5
    assert len(world.auth_server.asked("/token")) == asked_before + 1


def test_F41_five_threads_and_one_refresh(world):
    world.call(world.auth())
    world.auth_server.valid.clear()
    asked_before = len(world.auth_server.asked("/token"))
    together, auth = threading.Barrier(5), world.auth()
    fine = world.server.pages["/mcp"]

    def refuse_all_five_at_once(visit):
        if visit.token not in world.auth_server.valid:
            together.wait(PATIENCE)
        return fine(visit)

    world.server.pages["/mcp"] = refuse_all_five_at_once
    said = []
    threads = [threading.Thread(target=lambda: said.append(world.call(auth))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == [200] * 5
    assert len(world.auth_server.asked("/token")) == asked_before + 1


@pytest.fixture
def no_locks(monkeypatch):
    """The disk knows no locks."""
    def refuse(*given):
        raise OSError(errno.ENOLCK, "No locks available")

    windows = sys.platform == "win32"
    monkeypatch.setattr(importlib.import_module("msvcrt" if windows else "fcntl"),
                        "locking" if windows else "flock", refuse)


def test_on_a_disk_without_locks_five_threads_refresh_once(world, no_locks):
    test_F41_five_threads_and_one_refresh(world)


def test_on_a_disk_without_locks_the_threads_of_a_program_wait_for_each_other(world, no_locks):
    # (Each server of a chat has a TokenStore of its own.)
    with world.store().open() as saved:
        saved["tokens"]["sheets"] = {"access_token": "a"}
        with pytest.raises(Busy), world.store(patience=0).open():
            pass
    with world.store(patience=0).open() as saved:
        saved["tokens"]["mail"] = {"access_token": "b"}
    assert list(world.stored["tokens"]) == ["sheets", "mail"]


@pytest.mark.skipif(os.name != "posix", reason="Windows has other permissions")
def test_F46_the_file_is_for_its_owner_only(world):
    old = os.umask(0)
    try:
        world.call(world.auth())
        assert stat.S_IMODE(world.file.stat().st_mode) == 0o600
        world.file.chmod(0o644)
        world.call(world.auth())
    finally:
        os.umask(old)
    assert stat.S_IMODE(world.file.stat().st_mode) == 0o600
    assert world.lines.count("Tightened the permissions of .mcp_tokens.json.") == 1
    assert not [name for name in os.listdir(world.folder) if name.startswith(".mcp_tokens.json.")
                and name != ".mcp_tokens.json.lock"]


@quickly
@given(data=st.data())
def test_any_token_file_is_used_or_set_aside(world, data):
    good = {"url": world.server.url, "issuer": world.auth_server.issuer, "client_id": "x",
            "token_endpoint": f"{world.auth_server.origin}/token", "resource": None, "scope": "",
            "access_token": "stale", "refresh_token": "stale", "obtained_at": 1,
            "expires_at": 5}
    client = {"source": "dynamic", "client_id": "x"}
    mutated = data.draw(st.fixed_dictionaries({}, optional={
        key: nonsense for key in good if key != "token_endpoint"}))
    content = data.draw(st.sampled_from([
        lambda: {"version": 1, "clients": {world.auth_server.issuer: {"sheets": client}},
                 "tokens": {"sheets": {**good, **mutated}}},
        lambda: {"version": 1, "clients": {world.auth_server.issuer: {"sheets": mutated}},
                 "tokens": {"sheets": good}},
        lambda: {"version": 1, "clients": mutated, "tokens": mutated},
        lambda: mutated]))()
    path = world.folder / "fuzz.json"
    path.write_text(json.dumps(content))
    path.chmod(0o600)
    store = TokenStore(path, say=world.lines.append)
    as_each(oauth_handler.Tokens, store.read()["tokens"])
    auth = world.auth(store, person=False)
    try:
        response = requests.post(world.server.url, auth=auth, timeout=PATIENCE)
        assert response.status_code == 200
    except OAuthError as error:
        assert "sheets" in str(error)
    assert store.forget("sheets") in (True, False)
