"""docs/servers.md: each of its entries can be pasted, and two of its servers answer chat.py.

The two are fetched (by uvx, and by npx) when they aren't there. A computer that can't do that skips
them and says why; with CI=true, that is a failure.
"""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from needs import TOOLS_OWN, is_missing, program
from scripted_model import ScriptedModel, says, wants
from terminal import ROOT, run

from chapters.stdio import PASSED_ON
from chat import Server, load_servers

TEXT = (ROOT / "docs" / "servers.md").read_text(encoding="utf-8")
# By name: the part that it is in, what is said about it, and its entry, as it stands there.
SECTIONS = {json.loads(entry)["name"]: (part.partition("\n")[0], text, entry)
            for part in TEXT.split("\n## ") for text in part.split("\n### ")[1:]
            for entry in re.findall(r"```json\n(.*?)```", text, re.DOTALL)}
SECRETS = {"GITHUB_TOKEN": "a-token", "WORKATO_URL": "https://example.com/mcp?token=a-token"}


def paste(folder: Path, *entries: str) -> Path:
    """A file with these entries, as they stand in the text."""
    path = folder / "mcp_servers.json"
    path.write_text('{"servers": [' + ",\n".join(entries) + "]}", encoding="utf-8")
    return path


def test_there_are_a_dozen_servers_and_every_block_is_the_entry_of_one():
    assert len(SECTIONS) == TEXT.count("```json") == TEXT.count("\n### ") >= 12


@pytest.mark.parametrize("name", SECTIONS)
def test_an_entry_can_be_pasted(name, tmp_path, monkeypatch):
    for key, value in SECRETS.items():
        monkeypatch.setenv(key, value)
    loaded = load_servers(paste(tmp_path, SECTIONS[name][2]))
    assert isinstance(loaded[name], Server), loaded[name]


def test_the_entries_go_into_one_file(tmp_path, monkeypatch):
    for key, value in SECRETS.items():
        monkeypatch.setenv(key, value)
    loaded = load_servers(paste(tmp_path, *(entry for _, _, entry in SECTIONS.values())))
    assert list(loaded) == list(SECTIONS)


@pytest.mark.parametrize("name", SECTIONS)
def test_a_server_comes_with_a_sign_in_a_question_and_a_source(name):
    part, text, entry = SECTIONS[name]
    assert re.search(r'^- \*\*Signs in:\*\* \w.+\n(?:  .+\n)*- \*\*Ask:\*\* ".+[.?]"', text, re.M)
    if part == "Without an account":  # the entry names the version that was seen
        [seen] = re.findall(r"^- \*\*Seen working:\*\* ([\d.]+\d), with MCP 20", text, re.M)
        assert f'@{seen}"' in entry
    else:
        assert part == "With an account" and "Seen working" not in text
        assert re.search(r"^- \*\*Documentation:\*\* <https://\S+>$", text, re.M)
    for secret in re.findall(r"\$\{([A-Z_]+)\}", entry):
        assert f"`{secret}=" in text, "where does it go?"


def bring(entry: dict) -> None:
    """Have the program of an entry downloaded, unless it is here."""
    package = next(word for word in entry["args"] if not word.startswith("-"))
    words = [package, "--help"] if entry["command"] == "uvx" else \
        ["--yes", "--prefer-offline", "--package", package, "node", "-p", "1"]
    tried = subprocess.run([program(entry["command"]), *words], capture_output=True, text=True,
                           stdin=subprocess.DEVNULL, timeout=300)
    if tried.returncode:
        is_missing(f"{entry['command']} can't get {package}: {tried.stderr.strip()[-200:]}")


@pytest.mark.parametrize("name, tool, arguments, words", [
    ("time", "convert_time", {"source_timezone": "Asia/Tokyo", "time": "12:00",
                              "target_timezone": "America/Lima"}, "T22:00:00-05:00"),
    ("files", "read_text_file", {"path": "notes.txt"}, "Ana likes tea."),
])
def test_a_server_of_the_list_answers(tmp_path, name, tool, arguments, words):
    entry = json.loads(SECTIONS[name][2])
    bring(entry)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "notes.txt").write_text("Ana likes tea.", encoding="utf-8")
    paste(tmp_path, json.dumps({"env": TOOLS_OWN, **entry}))
    ours = {key: os.environ[key] for key in PASSED_ON & set(os.environ)}
    with ScriptedModel(wants(f"{name}__{tool}", arguments), says("Done.")) as model:
        done = run("chat.py", "Go", cwd=tmp_path, **ours, OPENAI_BASE_URL=model.base_url)
    assert (done.returncode, done.stdout) == (0, "Done.\n"), done.stderr
    assert words in model.was_sent[1]["messages"][-1]["content"]
