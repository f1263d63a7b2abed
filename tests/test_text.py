"""The text is the product, so it is tested like the rest: maps, tables, examples, transcripts."""

import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from patience import PATIENCE

import chat
import demo
import oauth_handler
from demo.pretend_model import serve_model

HERE = Path(__file__).resolve().parent.parent
README = (HERE / "README.md").read_text(encoding="utf-8")
SOURCE = (HERE / "chat.py").read_text(encoding="utf-8")
WRITTEN_BY_US = sorted({path for pattern in (
    "*.py", "*.md", "*.json", "*.toml", "*.example", "*/*.py", "tests/*/*.py", "tests/*/*.cjs",
    "tests/*/*.json", ".ci/run") for path in HERE.glob(pattern)})


def table_under(title: str) -> list[list[str]]:
    """The rows of the README's first table under a title, each a list of cells."""
    section = README.partition(title + "\n")[2]
    rows = re.findall(r"^\|(.+)\|$", section.partition("\n#")[0], re.MULTILINE)
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)] for row in rows[2:]]


def test_the_map_in_the_docstring_is_the_order_of_the_file():
    on_the_map = re.findall(r"^    Part (\d+) +(.+?)  ", chat.__doc__, re.MULTILINE)
    in_the_file = re.findall(r"^# ── Part (\d+): (.+?)(?: of the chat)? ─", SOURCE, re.MULTILINE)
    assert on_the_map == in_the_file


def test_the_main_road_is_what_is_not_to_be_skipped():
    parts = re.split(r"^# ── Part (\d+)", SOURCE, flags=re.MULTILINE)
    heads = {int(number): text.partition("\n\n")[0].replace("\n#", "")
             for number, text in zip(parts[1::2], parts[2::2], strict=True)}
    on_the_road = {number for number, head in heads.items() if "first reading" not in head}
    assert on_the_road == {1, 2, 6, 7, 10}
    assert "Parts 1, 2, 6, 7 and 10" in chat.__doc__ and "Parts 1, 2, 6, 7 and 10" in README


def test_the_readmes_table_of_settings_has_the_fields_of_a_server():
    named = [cell.strip("`") for cell, *_ in table_under("### Your servers: `mcp_servers.json`")]
    assert named == [field.name for field in fields(chat.Server)]


def test_the_readme_and_the_example_have_the_same_settings_in_env():
    in_readme = {cell.strip("`") for cell, *_ in table_under("### Everything else: `.env`")}
    example = (HERE / "env.example").read_text(encoding="utf-8")
    assert in_readme == set(re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE)) - {"GITHUB_TOKEN"}
    programs = SOURCE + (HERE / "chat-lmstudio.py").read_text(encoding="utf-8")
    assert in_readme == set(re.findall(r'(?:getenv|number_from_env)\("([A-Z_]+)"', programs)) - {
        "NO_COLOR", "TERM"}


def test_the_readme_lists_the_commands_with_their_own_words():
    listed = {cells[0].strip("`").partition(" ")[0]: cells[1] for cells in re.findall(
        r"^\| `(/.+?)` \| (.+?) \|$", README, re.MULTILINE)}
    assert listed == {name: command.__doc__.partition(":")[0]
                      for name, command in chat.COMMANDS.items()}


def test_the_readme_lists_the_options_of_the_command_line():
    shown = subprocess.run([sys.executable, HERE / "chat.py", "-h"], capture_output=True,
                           text=True)
    options = set(re.findall(r"(--[a-z-]+)", shown.stdout)) - {"--help"}
    section = README.partition("## Using it")[2].partition("## Use it")[0]
    assert options == set(re.findall(r"`(--[a-z-]+)(?: [A-Z]+)?`", section))


def test_the_readme_lists_the_events():
    kinds = [kind.__name__ for kind in chat.Event.__subclasses__() if kind is not chat.Found]
    assert all(f"`{kind}`" in README for kind in kinds)


def test_every_message_in_the_troubleshooting_is_one_that_the_programs_print():
    programs = "".join((HERE / name).read_text(encoding="utf-8") for name in
                       ("chat.py", "chat-lmstudio.py", "oauth_handler.py"))
    section = README.partition("## Troubleshooting")[2].partition("\n## ")[0]
    for title in re.findall(r'^\*\*(".+")\*\*', section, re.MULTILINE):
        for message in re.findall(r'"(.+?)"', title):
            pieces = {"401 Unauthorized": "({status})",
                      "no answer for 60 seconds": "no answer for {",
                      "port 8080 is already in use": "is already in use"}
            assert pieces.get(message, message) in programs, message


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\]\(((?!http)[^)#]+)\)", README))))
def test_every_file_that_the_readme_links_to_exists(name):
    assert (HERE / name).exists()


def test_the_example_configuration_loads_as_it_stands():
    servers = chat.load_servers(HERE / "mcp_servers.example.json")
    assert list(servers) == ["toy"]
    assert isinstance(servers["toy"], chat.Server)


def test_the_readmes_code_runs(tmp_path):
    [code] = re.findall(r"```python\n(.+?)```", README, re.DOTALL)
    example = (HERE / "mcp_servers.example.json").read_text(encoding="utf-8")
    (tmp_path / "mcp_servers.json").write_text(
        example.replace("demo/", f"{HERE.as_posix()}/demo/"), encoding="utf-8")
    code = code.replace("How was my night?", "What is 17 + 25?")
    with serve_model(pause=0) as url:
        ran = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
            timeout=PATIENCE, env={**os.environ, "OPENAI_BASE_URL": url,
                                   "MODEL": "pretend-model", "PYTHONPATH": str(HERE)})
    assert (ran.stdout, ran.stderr) == ('The tool add says: 17 + 25 = 42.', "")


def test_the_demo_suggests_what_its_model_understands():
    assert demo.WELCOME.count("?") == 2 and "Count slowly" in demo.WELCOME
    assert "pretend" in demo.WELCOME and "real" in demo.WELCOME


def test_the_lm_studio_file_can_be_imported_without_starting_anything():
    spec = importlib.util.spec_from_file_location("chat_lmstudio", HERE / "chat-lmstudio.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.run is chat.run


@pytest.mark.parametrize("path", WRITTEN_BY_US, ids=lambda path: path.relative_to(HERE).as_posix())
def test_no_file_tells_of_the_computer_that_it_was_written_on(path):
    text = path.read_text(encoding="utf-8")
    assert path == Path(__file__).resolve() or not re.search(r"/work/|/root/|/home/[a-z]+/", text)


def test_the_readmes_table_of_sign_in_settings_is_complete():
    section = README.partition('Settings inside `"oauth": {...}`')[2].partition("\n### ")[0]
    assert set(re.findall(r"^\| `([a-z_]+)`", section, re.MULTILINE)) == set(oauth_handler.OPTIONS)
