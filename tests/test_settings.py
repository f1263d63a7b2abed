"""Settings: what may stand in mcp_servers.json, and what is said about mistakes in it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE
from terminal import ROOT

from chapters.outside import Problem
from chapters.settings import find
from chat import Server, list_tools, load_servers


@pytest.fixture
def load(tmp_path):
    """load(config): what load_servers makes of a file with that in it."""
    def load(config, name="mcp_servers.json"):
        path = tmp_path / name
        path.write_text(config if isinstance(config, str) else json.dumps(config), "utf-8")
        return load_servers(path)

    return load


# ── The shapes ───────────────────────────────────────────────────────────────────────────


def test_our_own_shape(load, tmp_path):
    servers = load({"servers": [
        {"name": "dexcom", "url": "https://example.com/mcp?token=T", "enabled": True,
         "auth_type": "token", "timeout": 5, "tools": ["readings"], "confirm": "never"},
        {"name": "sheets", "url": "https://example.com/mcp", "headers": {"X-Key": "k"},
         "auth_type": "oauth", "oauth": {"client_id": "me"}},
        {"name": "files", "command": "npx", "args": ["-y", "server"], "env": {"A": "b"}},
    ]})
    here = str(tmp_path)
    assert servers == {
        "dexcom": Server("dexcom", url="https://example.com/mcp?token=T", timeout=5, cwd=here,
                         tools=["readings"], confirm="never"),
        "sheets": Server("sheets", url="https://example.com/mcp", headers={"X-Key": "k"},
                         auth_type="oauth", oauth={"client_id": "me"}, cwd=here),
        "files": Server("files", command="npx", args=["-y", "server"], env={"A": "b"}, cwd=here),
    }
    assert list(servers) == ["dexcom", "sheets", "files"], "the order of the file"


def test_the_shape_of_claude_desktop_cursor_and_lm_studio(load, tmp_path):
    servers = load({"theme": "dark", "mcpServers": {
        "files": {"type": "stdio", "command": "npx", "args": ["server"], "env": {"A": "b"},
                  "cwd": "work", "autoApprove": ["all"]},
        "web": {"type": "http", "url": "https://example.com/mcp", "headers": {"X-Key": "k"}},
        "off": {"command": "npx", "disabled": True},
        "on": {"command": "npx", "disabled": False},
    }})
    assert servers == {
        "files": Server("files", command="npx", args=["server"], env={"A": "b"},
                        cwd=str(tmp_path / "work")),
        "web": Server("web", url="https://example.com/mcp", headers={"X-Key": "k"},
                      cwd=str(tmp_path)),
        "on": Server("on", command="npx", cwd=str(tmp_path)),
    }


def test_the_shape_of_fastchat(load, tmp_path):
    servers = load({"app_name": "mine", "mcp_servers": {
        "web": {"transport": "httpstream", "name": "The web", "httpstream-url":
                "https://example.com/mcp", "headers": {"X-Key": "k"}, "auth": {"required": False}},
        "files": {"transport": "stdio", "name": "My files", "config": {
            "command": "npx", "args": ["server"], "env": {"A": "b"}, "cwd": "work"}},
        "off": {"transport": "stdio", "disabled": True, "config": {"command": "npx"}},
    }})
    assert servers == {
        "web": Server("web", url="https://example.com/mcp", headers={"X-Key": "k"},
                      cwd=str(tmp_path)),
        "files": Server("files", command="npx", args=["server"], env={"A": "b"},
                        cwd=str(tmp_path / "work")),
    }


def test_the_shape_of_vs_code(load, tmp_path):
    servers = load({
        "inputs": [{"type": "promptString", "id": "key", "password": True}],
        "servers": {
            "github": {"type": "http", "url": "https://example.com/mcp", "headers": {"X-Key": "k"}},
            "files": {"type": "stdio", "command": "npx", "args": ["-y", "server"],
                      "env": {"A": "b"}, "dev": {"watch": "src"}, "gallery": True}}})
    assert servers == {
        "github": Server("github", url="https://example.com/mcp", headers={"X-Key": "k"},
                         cwd=str(tmp_path)),
        "files": Server("files", command="npx", args=["-y", "server"], env={"A": "b"},
                        cwd=str(tmp_path)),
    }


@pytest.mark.parametrize("config", [
    {"mcp": {"servers": {"x": {"command": "npx", "args": ["-y", "s"]}}}},  # VS Code's settings.json
    {"context_servers": {"x": {"source": "custom", "command": "npx", "args": ["-y", "s"]}}},  # Zed
    {"mcp": {"x": {"type": "local", "command": ["npx", "-y", "s"]}}},  # OpenCode
    {"mcp": {"x": {"type": "local", "command": ["npx", "-y"], "args": ["s"]}}},
    {"mcpServers": {"x": {"transport": {"type": "stdio", "command": "npx", "args": ["-y", "s"]}}}},
    {"mcpServers": {"x": {"command": "npx", "args": ["-y", "s"], "url": None, "env": None}}},
    {"mcpServers": {"x": {"command": "npx", "args": ["-y", "s"], "baseUrl": ""}}},  # Cherry Studio
    {"mcpServers": {"x": {"cmd": "npx", "args": ["-y", "s"], "envs": {}}}},  # Goose
], ids=json.dumps)
def test_the_shapes_of_still_others(load, config):
    server = load(config)["x"]
    assert (server.command, server.args, server.url, server.env) == ("npx", ["-y", "s"], "", {})


@pytest.mark.parametrize("entry", [
    {"serverUrl": "https://a.b/mcp"},  # Windsurf
    {"httpUrl": "https://a.b/mcp"},  # Gemini
    {"httpUrl": "https://a.b/mcp", "url": "https://a.b/sse"},
    {"baseUrl": "https://a.b/mcp", "type": "streamableHttp"},  # Cherry Studio
    {"endpoint": "https://a.b/mcp"}, {"uri": "https://a.b/mcp"}, {"server_url": "https://a.b/mcp"},
    {"type": "streamable-http", "url": "https://a.b/mcp"}, {"type": "sse", "url": "https://a.b/mcp"},
    {"transport": {"type": "http", "url": "https://a.b/mcp"}}, {"URL": "https://a.b/mcp"},
], ids=json.dumps)
@pytest.mark.parametrize("shape", ["mcpServers", "servers"])
def test_other_names_for_an_address(load, shape, entry):
    server = load({shape: {"x": entry}})["x"]
    assert isinstance(server, Server) and server.url == "https://a.b/mcp"


@pytest.mark.parametrize("entry", [
    {"http_headers": {"X-Key": "k"}}, {"requestInit": {"headers": {"X-Key": "k"}}},
    {"config": {"headers": {"X-Key": "k"}}}], ids=json.dumps)
def test_other_names_for_headers(load, entry):
    assert load({"mcpServers": {"x": {"url": "https://a.b", **entry}}})["x"].headers == {
        "X-Key": "k"}


@pytest.mark.parametrize("entry", [
    {"enabled": False}, {"enabled": "false"}, {"enabled": 0}, {"isActive": False},
    {"is_active": False}, {"active": False}, {"isEnabled": False}, {"disabled": True},
    {"disabled": "true"}, {"disabled": 1}, {"start_on_launch": False}, {"autoStart": False},
    {"anythingllm": {"autoStart": False}}, {"options": {"disabled": True}},
    {"config": {"enabled": False}}, {"enabled": True, "disabled": True}], ids=json.dumps)
@pytest.mark.parametrize("shape", ["mcpServers", "servers", "mcp_servers", "context_servers"])
def test_what_switches_a_server_off_in_other_programs_does_so_here(load, shape, entry):
    assert load({shape: {"off": {"command": "npx", **entry}, "on": {"command": "npx"}}}).keys() == {
        "on"}


@pytest.mark.parametrize("entry", [
    {"enabled": True}, {"enabled": "true"}, {"enabled": None}, {"isActive": True},
    {"disabled": False}, {"disabled": "false"}, {"disabled": None}, {"start_on_launch": True},
    {"disabledTools": ["a"]}, {"disabled_tools": True}], ids=json.dumps)
def test_what_leaves_it_on_there_leaves_it_on_here(load, entry):
    assert isinstance(load({"mcpServers": {"on": {"command": "npx", **entry}}})["on"], Server)


@pytest.mark.parametrize("lists", [
    {"mcp": {"excluded": ["b"]}}, {"mcp": {"allowed": ["a"]}},
    {"mcp": {"allowed": ["a", "b"], "excluded": ["b"]}}], ids=json.dumps)
def test_a_list_of_servers_that_are_off(load, lists):
    servers = {"a": {"command": "npx"}, "b": {"command": "npx"}}
    assert load({"mcpServers": servers, **lists}).keys() == {"a"}


@pytest.mark.parametrize("setting", ["envFile", "headersHelper"])
def test_a_setting_that_would_be_missed_is_not_left_out_in_silence(load, setting):
    servers = load({"servers": {"x": {"command": "npx", setting: "secrets"}, "y": {
        "command": "npx"}}})
    assert f'"{setting}" is not a setting' in str(servers["x"])
    assert isinstance(servers["y"], Server)


def test_a_file_that_begins_with_a_byte_order_mark(load):
    # Windows' Notepad writes one.
    assert list(load('\ufeff{"servers": [{"name": "x", "command": "y"}]}')) == ["x"]


def test_an_empty_list_is_no_mistake(load):
    assert load({"servers": []}) == load({"mcpServers": {}}) == load({"mcp_servers": {}}) == {}


# ── ${NAME} ──────────────────────────────────────────────────────────────────────────────


def test_names_are_filled_in_at_any_depth(load, monkeypatch):
    monkeypatch.setenv("TOKEN", "s3cret")
    monkeypatch.setenv("HOST", "example.com")
    servers = load({"servers": [
        {"name": "web", "url": "https://${HOST}/mcp?token=${TOKEN}",
         "headers": {"Authorization": "Bearer ${TOKEN}"},
         "oauth": {"client": {"secrets": ["${TOKEN}", 3, None, True]}}},
        {"name": "files", "command": "${HOST}", "args": ["-t", "${TOKEN}"],
         "env": {"KEY": "${TOKEN}"}}]})
    web, files = servers.values()
    assert web.url == "https://example.com/mcp?token=s3cret"
    assert web.headers == {"Authorization": "Bearer s3cret"}
    assert web.oauth == {"client": {"secrets": ["s3cret", 3, None, True]}}
    assert (files.command, files.args, files.env) == ("example.com", ["-t", "s3cret"],
                                                      {"KEY": "s3cret"})


def test_what_is_filled_in_is_not_filled_in_again(load, monkeypatch):
    monkeypatch.setenv("TOKEN", "${HOME} $5")
    server = load({"servers": [{"name": "x", "command": "y", "args": ["${TOKEN}", "$TOKEN"]}]})["x"]
    assert server.args == ["${HOME} $5", "$TOKEN"]


@pytest.mark.parametrize("text, filled", [
    ("Bearer ${env:TOKEN}", "Bearer s3cret"), ("${TOKEN:-other}", "s3cret"),
    ("${env:TOKEN:-other}", "s3cret"), ("${ TOKEN }", "s3cret"),
    ("${TOKEN}${TOKEN}", "s3crets3cret"),
    ("${NO_SUCH_KEY:-other}", "other"), ("${env:NO_SUCH_KEY:-other}", "other"),
    ("${NO_SUCH_KEY:-}x", "x"), ("${NO_SUCH_KEY:-http://localhost:80/a?b}", "http://localhost:80/a?b"),
    ("${NO_SUCH_KEY:-a:-b}", "a:-b"), ("${input:api-key}", "k3y"), ("${lower}", "case"),
    ("${PROGRAM(X86)}", "p"),
    ("%TOKEN% $TOKEN {TOKEN} $(TOKEN)", "%TOKEN% $TOKEN {TOKEN} $(TOKEN)")])
def test_each_spelling_of_a_variable_and_of_its_default(load, monkeypatch, text, filled):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    for name, value in {"TOKEN": "s3cret", "input_api_key": "k3y", "lower": "case",
                        "PROGRAM(X86)": "p"}.items():
        monkeypatch.setenv(name, value)
    server = load({"mcpServers": {"x": {
        "url": "https://a.b", "headers": {"X": text, "Y": "y"}}}})["x"]
    assert server.headers == {"X": filled, "Y": "y"}


@pytest.mark.parametrize("text, name, what_to_do", [
    ("${env:NO_SUCH_KEY}", "${env:NO_SUCH_KEY}", "line NO_SUCH_KEY=... to .env"),
    ("${input:api-key}", "${input:api-key}", "line input_api_key=... to .env"),
    ("${command:ext.getKey}", "${command:ext.getKey}", "line command_ext_getKey=... to .env"),
    ("${config:a.b}", "${config:a.b}", ".env"), ("${env.NO_SUCH}", "${env.NO_SUCH}", ".env"),
    ("${NO_SUCH_KEY:?must}", "${NO_SUCH_KEY:?must}", ".env"),
    ("${NO_SUCH_KEY:-${TOKEN}}", "${NO_SUCH_KEY:-${TOKEN", "like ${NAME}"),
    ("${TOKEN:-${NO_SUCH_KEY}}", "${TOKEN:-${NO_SUCH_KEY", "like ${NAME}"),
    ("${{ secrets.TOKEN }}", "${{ secrets.TOKEN", "like ${NAME}"), ("${}", "${}", "like ${NAME}"),
    ("Bearer ${TOKEN", "${TOKEN", "like ${NAME}"), ("${env:}", "${env:}", "like ${NAME}")])
@pytest.mark.parametrize("place", [
    lambda text: {"url": "https://a.b", "headers": {"X": text}},
    lambda text: {"url": "https://a.b", "headers": {text: "x"}},
    lambda text: {"url": f"https://a.b/{text}"},
    lambda text: {"command": "npx", "args": ["-y", text]},
    lambda text: {"command": "npx", "env": {"A": text}},
    lambda text: {"command": text}, lambda text: {"command": "npx", "cwd": text}],
    ids=["header", "header name", "url", "args", "env", "command", "cwd"])
def test_what_cannot_be_filled_in_is_named_and_never_sent(
        load, monkeypatch, place, text, name, what_to_do):
    monkeypatch.setenv("TOKEN", "s3cret")
    servers = load({"servers": {"x": place(text), "good": {"command": "npx"}}})
    assert isinstance(servers["x"], Problem) and isinstance(servers["good"], Server)
    assert name in str(servers["x"]) and what_to_do in str(servers["x"])
    assert "s3cret" not in str(servers["x"])


def test_the_env_of_an_entry_counts_for_its_other_settings(load, monkeypatch):
    monkeypatch.setenv("TOKEN", "mine")
    monkeypatch.setenv("PATH", "/bin")
    env = {"TOKEN": "its", "PATH": "/opt:${PATH}", "HOST": "${env:TOKEN}.example.com"}
    servers = load({"mcpServers": {
        "files": {"command": "npx", "args": ["${TOKEN}", "${env:HOST}"], "env": env},
        "web": {"url": "https://${HOST}/mcp", "headers": {"X": "${TOKEN}"}, "env": env},
        "other": {"command": "npx", "args": ["${TOKEN}"], "env": {"TOKEN": "${TOKEN}"}}}})
    files, web, other = servers.values()
    assert files.args == ["its", "its.example.com"]
    assert files.env == {"TOKEN": "its", "PATH": "/opt:/bin", "HOST": "its.example.com"}
    assert (web.url, web.headers) == ("https://its.example.com/mcp", {"X": "its"})
    assert other.args == ["mine"] and other.env == {"TOKEN": "mine"}, "the others keep theirs"


@pytest.mark.parametrize("folder", [".", ".vscode", ".cursor"])
def test_the_names_that_editors_have_for_folders(load, tmp_path, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    server = load({"servers": {"x": {"command": "${workspaceFolder}/run", "cwd": "work", "args": [
        "${userHome}", "a${pathSeparator}b${/}c"]}}}, f"{folder}/mcp.json")["x"]
    assert server.command == f"{tmp_path}/run" and Path(server.cwd) == tmp_path / "work"
    assert server.args == [os.path.expanduser("~"), f"a{os.sep}b{os.sep}c"]


@pytest.mark.parametrize("value", [None, ""])
def test_a_name_that_is_not_set_costs_its_entry(load, monkeypatch, value):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("NO_SUCH_KEY", value)
    servers = load({"servers": [
        {"name": "github", "url": "https://example.com", "headers": {"A": "${NO_SUCH_KEY}"}},
        {"name": "files", "command": "npx"}]})
    message = str(servers["github"])
    assert "NO_SUCH_KEY" in message and ".env" in message and "github" in message
    assert isinstance(servers["files"], Server)


# ── Mistakes ─────────────────────────────────────────────────────────────────────────────

GOOD = {"name": "good", "command": "npx"}


@pytest.mark.parametrize("entry, words", [
    ({}, "a \"url\" or a \"command\""),
    ({"url": "https://a.b", "command": "c"}, "not both"),
    ({"url": "https://a.b", "ulr": "https://a.b"}, '"ulr"'),
    ({"url": "https://a.b", "type": "http"}, '"type"'),  # in the shapes of others, it's fine
    ({"url": "https://a.b", "disabled": True}, '"disabled"'),
    ({"url": 3}, '"url"'),
    ({"url": None}, '"url"'),
    ({"url": "example.com/mcp"}, '"url"'),
    ({"url": "ftp://example.com"}, '"url"'),
    ({"url": "https://"}, '"url"'),
    ({"url": "https:///mcp"}, '"url"'),
    ({"command": ["npx", "server"]}, '"command"'),
    ({"command": "npx", "args": "server"}, '"args"'),
    ({"command": "npx", "args": ["-p", 80]}, '"args"'),
    ({"command": "npx", "env": ["A=b"]}, '"env"'),
    ({"command": "npx", "env": {"PORT": 80}}, '"env"'),
    ({"command": "npx", "cwd": 3}, '"cwd"'),
    ({"url": "https://a.b", "headers": "X: y"}, '"headers"'),
    ({"url": "https://a.b", "headers": {"X": None}}, '"headers"'),
    ({"url": "https://a.b", "enabled": "yes"}, '"enabled"'),
    ({"url": "https://a.b", "enabled": 0}, '"enabled"'),
    ({"url": "https://a.b", "auth_type": "basic"}, '"auth_type" must be token or oauth'),
    ({"url": "https://a.b", "auth_type": ["token"]}, '"auth_type"'),
    ({"url": "https://a.b", "oauth": "yes"}, '"oauth"'),
    ({"url": "https://a.b", "timeout": 0}, '"timeout"'),
    ({"url": "https://a.b", "timeout": -1}, '"timeout"'),
    ({"url": "https://a.b", "timeout": "60"}, '"timeout"'),
    ({"url": "https://a.b", "timeout": True}, '"timeout"'),
    ({"url": "https://a.b", "timeout": float("nan")}, '"timeout"'),
    ({"url": "https://a.b", "tools": "search"}, '"tools"'),
    ({"url": "https://a.b", "tools": {"search": True}}, '"tools"'),
    ({"url": "https://a.b", "confirm": "always"}, '"confirm" must be every or destructive or'),
], ids=json.dumps)
def test_a_mistake_in_an_entry_costs_that_entry_and_names_the_place(load, entry, words):
    servers = load({"servers": [{"name": "bad", **entry}, GOOD]})
    assert isinstance(servers["bad"], Problem) and isinstance(servers["good"], Server)
    message = str(servers["bad"])
    assert words in message
    assert "bad" in message and "mcp_servers.json" in message


@pytest.mark.parametrize("entry", [{"command": "npx"}, {"name": "", "command": "npx"},
                                   {"name": "  ", "command": "npx"}, {"name": 3, "command": "npx"},
                                   {"name": None}, {"name": ["x"]}, 3, "npx", None, [["name", 1]]],
                         ids=json.dumps)
def test_an_entry_without_a_name_is_known_by_its_number(load, entry):
    servers = load({"servers": [GOOD, entry]})
    assert isinstance(servers["good"], Server)
    assert 'needs a "name"' in str(servers["entry 2"]) and "mcp_servers.json" in str(
        servers["entry 2"])


def test_of_two_entries_with_one_name_the_second_has_the_mistake(load):
    servers = load({"servers": [{"name": "x", "command": command} for command in "ab"] + [GOOD]})
    assert '"name" that no other has' in str(servers["entry 2"])
    assert servers["x"].command == "a" and isinstance(servers["good"], Server)


def test_an_entry_that_is_switched_off_may_have_the_name_of_another(load):
    off = {"name": "x", "command": "b", "enabled": False}
    assert load({"servers": [{"name": "x", "command": "a"}, off]})["x"].command == "a"


@pytest.mark.parametrize("config, words", [
    ({"mcpServers": {"bad": {"command": "npx", "args": 3}, "good": {"command": "npx"}}}, '"args"'),
    ({"mcpServers": {"bad": "npx", "good": {"command": "npx"}}}, '"url" or a "command"'),
    ({"servers": {"bad": {}, "good": {"command": "npx"}}}, '"url" or a "command"'),
    ({"servers": {"bad": {"type": "http", "url": "a.b"}, "good": {"command": "npx"}}},
     "whole address"),
    ({"mcp_servers": {"bad": {"transport": "httpstream"}, "good": {"config": {"command": "npx"}}}},
     '"url" or a "command"'),
    ({"mcp_servers": {"bad": {"config": 3}, "good": {"config": {"command": "npx"}}}},
     '"url" or a "command"'),
])
def test_mistakes_in_the_shapes_of_others(load, config, words):
    servers = load(config)
    assert words in str(servers["bad"]) and "mcp_servers.json" in str(servers["bad"])
    assert isinstance(servers["good"], Server)


@pytest.mark.parametrize("file, words", [
    ("", "line 1"),
    ('{"servers": [\n  {"name": "x"},\n]}', "line [23]"),
    ('{"servers": [\n  {"name": "x"\n   "url": "https://a.b"}]}', "line 3"),
    ("{'servers': []}", "line 1"),
    ("[]", "must look like"),
    ("3", "must look like"),
    ("null", "must look like"),
    ("{}", "must look like"),
    ('{"servers": 3}', "must look like"),
    ('{"x": {"command": "npx"}}', "must look like"),
    ('{"mcpServers": []}', "must look like"),
    ('{"mcp_servers": null}', "must look like"),
    ("[" * 100_000, "can't be read"),
    ('{"a": ' * 100_000, "can't be read"),
], ids=lambda value: value[:50])
def test_a_mistake_in_the_file_itself_ends_the_program(load, tmp_path, file, words):
    with pytest.raises(Problem, match=words) as caught:
        load(file)
    assert str(tmp_path / "mcp_servers.json") in str(caught.value)


@pytest.mark.parametrize("file, line, hint", [
    ('{\n  // mine\n  "servers": []}', 2, "no comments"),
    ('// mine\n{"servers": []}', 1, "no comments"),
    ('{"servers": [] /* mine */}', 1, "no comments"),
    ('{"servers": []}\n// mine', 2, "no comments"),
    ('{"servers": [], // mine\n}', 1, "no comments"),
    ('{"servers": [\n  # mine\n]}', 2, "no comments"),
    ('{"servers": [{"name": "x",}]}', 1, "Remove the comma"),
    ('{"servers": [{"name": "x"},\n]}', "[12]", "Remove the comma"),
    ('{"servers": [{"name": "x"}],\n\n}\n', "[123]", "Remove the comma"),
    ('{"servers": [{"args": ["a", ]}]}', 1, "Remove the comma"),
    ('{"servers": [{"args": ["a",, "b"]}]}', 1, "Remove the comma"),
    (r'{"servers": [{"command": "C:\Program Files\node.exe"}]}', 1, "backslash twice"),
    (r'{"servers": [{"command": "C:\users\me"}]}', 1, "backslash twice"),
    (r'{"servers": [{"command": "C:\node\node.exe"}]}', 1, "backslash twice"),  # a line end
    (r'{"servers": [{"args": ["d:\\data\temp"]}]}', 1, "backslash twice"),  # a tab
    ('{"servers": [\n{"cwd": "C:/a\\b"}, \n{"cwd": "C:\\\\a\\b"}]}', 3, "backslash twice"),
    (r'{"servers": [{"args": ["\\server\share"]}]}', 1, "backslash twice"),
    (r'{"servers": [{"args": ["--dir=C:\data"]}]}', 1, "backslash twice"),
    ("{'servers': []}", 1, "double quote"),
    ('{"servers": [{"name": \'x\'}]}', 1, "double quote"),
    ("{“servers”: []}", 1, "double quote"),
    ("{servers: []}", 1, "double quote"),
    ('{"servers": [{"name": "x, "url": "y"}]}', 1, "double quote"),
    ('{"servers": [{"name": "x\n}]}', 1, "double quote"),
    ('{"servers": [{"name": "x', 1, "double quote"),
    ('{"servers": [{"name": "x"\n "url": "y"}]}', 2, "missing"),
    ('{"servers": [{"name": "x"}', 1, "bracket"),
    ('{"servers": []}}', 1, "bracket .* too many"),
    ("", 1, "missing"), ("\n  \n", "[13]", "missing"), ("\ufeff", 1, "missing"),
], ids=lambda value: str(value)[:50])
def test_a_mistake_in_json_gets_the_hint_that_fits(load, file, line, hint):
    with pytest.raises(Problem, match=f"not valid JSON: .* at line {line}\\.\n.*{hint}"):
        load(file)


@pytest.mark.parametrize("path", [r"C:\\tools\\new", "C:/tools/new", r"C:\/tools", "Q: a?\\nA: b",
                                  r"C:\\Ren\u00e9", r"\\\\server\\new", "http://x/y"])
def test_a_path_that_is_written_well_stays_as_it_is(load, path):
    assert load(f'{{"servers": [{{"name": "x", "command": "y", "args": ["{path}"]}}]}}')[
        "x"].args == [json.loads(f'"{path}"')]


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_file_that_is_not_utf_8(tmp_path, encoding):
    path = tmp_path / "mcp_servers.json"
    path.write_bytes('{"servers": [{"name": "café", "command": "x"}]}'.encode(encoding))
    with pytest.raises(Problem, match="mcp_servers.json is not UTF-8 text.\nSave it as UTF-8"):
        load_servers(path)


@pytest.mark.parametrize("name", ["there-is-none.json", "."])
def test_a_file_that_cannot_be_opened(tmp_path, name):
    with pytest.raises(Problem, match="can't be read"):
        load_servers(tmp_path / name)


def test_settings_that_are_nested_deeply_cost_their_entry(load):
    value: object = "deep"
    for _ in range(700):
        value = [value]
    deep = {"name": "deep", "url": "https://a.b", "oauth": {"a": value}}
    servers = load({"servers": [deep, GOOD]})
    assert isinstance(servers["deep"], Problem) and isinstance(servers["good"], Server)


@pytest.mark.parametrize("entry", [
    {"name": "off", "enabled": False, "url": "https://a.b", "headers": {"A": "${NO_SUCH_KEY}"}},
    {"name": "off", "enabled": False, "nonsense": 3, "url": 5},
    {"name": "off", "enabled": False},
])
def test_what_is_not_enabled_is_neither_filled_in_nor_checked(load, entry):
    assert list(load({"servers": [entry, GOOD]})) == ["good"]


def test_what_is_disabled_in_the_file_of_another_program(load):
    assert load({"mcpServers": {"off": {"disabled": True, "args": "${NO_SUCH_KEY}"}}}) == {}


def test_no_secret_is_in_a_message_about_a_mistake(load, monkeypatch):
    monkeypatch.setenv("TOKEN", "s3cret")
    problem = load({"servers": [{"name": "x", "url": "example.com?token=${TOKEN}"}]})["x"]
    assert isinstance(problem, Problem) and "s3cret" not in str(problem)


# ── Where things are ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("cwd, folder", [
    (None, "."), ("", "."), ("work", "work"), ("../beside", "../beside")])
def test_the_folder_of_a_program_is_relative_to_the_file(load, tmp_path, cwd, folder):
    entry = {**GOOD, **({} if cwd is None else {"cwd": cwd})}
    server = load({"servers": [entry]})["good"]
    assert os.path.samefile(Path(server.cwd).parent, (tmp_path / folder).parent)
    assert Path(server.cwd) == tmp_path / folder


def test_the_folder_of_a_program_may_be_absolute_or_at_home(load, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    servers = load({"servers": [{"name": "a", "command": "x", "cwd": str(tmp_path / "abs")},
                                {"name": "b", "command": "x", "cwd": "~/work"}]})
    assert servers["a"].cwd == str(tmp_path / "abs")
    assert servers["b"].cwd == str(tmp_path / "home" / "work")


def test_a_program_may_be_at_home(load, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    server = load({"mcpServers": {"x": {"command": "~/bin/x", "args": ["~/notes"]}}})["x"]
    assert Path(server.command) == tmp_path / "bin" / "x"
    assert server.args == ["~/notes"], "these are the program's own business"


def test_the_home_of_somebody_who_is_not_there(load):
    servers = load({"servers": [{"name": "x", "command": "y", "cwd": "~nobody-of-this-name/work"},
                                GOOD]})
    assert isinstance(servers["good"], Server)


def test_a_relative_path_to_the_file_gives_an_absolute_folder(tmp_path, monkeypatch):
    (tmp_path / "mcp_servers.json").write_text(json.dumps({"servers": [GOOD]}))
    monkeypatch.chdir(tmp_path)
    server = load_servers(Path("mcp_servers.json"))["good"]
    assert Path(server.cwd).is_absolute() and os.path.samefile(server.cwd, tmp_path)


def test_a_settings_file_is_in_the_current_folder_or_else_beside_chat_py(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find("env.example") == ROOT / "env.example"
    (tmp_path / "env.example").write_text("")
    assert find("env.example").resolve() == (tmp_path / "env.example").resolve()


# ── .env ─────────────────────────────────────────────────────────────────────────────────


def read_env_in(folder, content):
    """What read_env() makes of a file .env with that in it: a process that has ended."""
    (folder / ".env").write_bytes(content)
    return subprocess.run(
        [sys.executable, "-c", "import os; from chapters.settings import read_env; read_env()\n"
         "print(os.environ['FIRST'], os.environ['SECOND'])"], cwd=folder, timeout=PATIENCE,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)


@pytest.mark.parametrize("content", [
    b"FIRST=1\nSECOND=2\n", b"\xef\xbb\xbfFIRST=1\nSECOND=2\n", b"\xef\xbb\xbfFIRST=1\r\nSECOND=2",
    b"\xef\xbb\xbf\nexport FIRST='1'\nSECOND=2"])
def test_a_dot_env_with_and_without_a_byte_order_mark(tmp_path, content):
    assert read_env_in(tmp_path, content).stdout == "1 2\n"


@pytest.mark.parametrize("content", ["FIRST=1".encode("utf-16"), b"FIRST=caf\xe9"])
def test_a_dot_env_that_is_not_utf_8(tmp_path, content):
    assert "Save it as UTF-8" in read_env_in(tmp_path, content).stderr


# ── The example ──────────────────────────────────────────────────────────────────────────


def test_the_example_loads_as_it_stands():
    servers = load_servers(ROOT / "mcp_servers.example.json")
    assert list(servers) == ["toy"] and isinstance(servers["toy"], Server)


def test_the_entries_of_the_example_that_are_off_can_be_switched_on(load, monkeypatch):
    monkeypatch.setenv("GITHUB_TOKEN", "t")
    entries = json.loads((ROOT / "mcp_servers.example.json").read_text("utf-8"))["servers"]
    servers = load({"servers": [{**entry, "enabled": True} for entry in entries]})
    assert len(servers) == len(entries) > 1
    assert all(isinstance(server, Server) for server in servers.values())


def test_the_first_server_of_the_example_starts_from_any_folder(connect, tmp_path, monkeypatch):
    server = load_servers(ROOT / "mcp_servers.example.json")["toy"]
    monkeypatch.chdir(tmp_path)
    connection = connect(server)
    assert [tool["name"] for tool in list_tools(connection)] == [
        "add", "weather", "slow_count", "fail", "picture"]
    assert connection.ask("tools/call", {"name": "add", "arguments": {"a": 2, "b": 40}})[
        "content"] == [{"type": "text", "text": "2 + 40 = 42"}]


def test_a_file_that_is_no_json_is_the_last_that_the_program_says(tmp_path):
    (tmp_path / "mcp_servers.json").write_text('{"servers": [\n}')
    process = subprocess.run(
        [sys.executable, ROOT / "chat.py", "hello"], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "OPENAI_API_KEY": "none"}, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    assert process.returncode == 1 and process.stdout == ""
    assert "mcp_servers.json" in process.stderr and "line 2" in process.stderr
    assert "Traceback" not in process.stderr
