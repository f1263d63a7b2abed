"""The text is the product, so it is tested like the rest: maps, tables, examples, transcripts."""

import ast
import graphlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE

import chapters
import chat
import demo
from chapters import challenges
from chapters.commands import COMMANDS
from chapters.events import Event, Found
from chapters.versions import ABOUT_US
from demo.pretend_model import serve_model

HERE = Path(__file__).resolve().parent.parent
README = (HERE / "README.md").read_text(encoding="utf-8")
SOURCE = (HERE / "chat.py").read_text(encoding="utf-8")
SECOND = (HERE / "oauth_handler.py").read_text(encoding="utf-8")  # the second story
CHAPTERS = {path.stem: path.read_text(encoding="utf-8")  # by name: the text of each
            for path in sorted((HERE / "chapters").glob("*.py")) if path.stem != "__init__"}
SIGNING_IN = set(re.findall(r"^    (\w+) ", (chapters.__doc__ or "").partition("\nSigning in")[2]
                            .partition("\n\nThe")[0], re.MULTILINE))  # those of the second story
PROGRAMS = "".join([SOURCE, SECOND, *CHAPTERS.values(),
                    (HERE / "chat-lmstudio.py").read_text(encoding="utf-8")])
WRITTEN_BY_US = sorted({path for pattern in (
    "*.py", "*.md", "*.json", "*.toml", "*.example", "*/*.py", "*/*.md", "tests/*/*.py",
    "tests/*/*.cjs", "tests/*/*.json", ".ci/run", ".github/*/*.yml")
    for path in HERE.glob(pattern)})


def table_under(title: str) -> list[list[str]]:
    """The rows of the README's first table under a title, each a list of cells."""
    section = README.partition(title + "\n")[2]
    rows = re.findall(r"^\|(.+)\|$", section.partition("\n#")[0], re.MULTILINE)
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)] for row in rows[2:]]


# ── The story and its chapters ───────────────────────────────────────────────────────────

def docstring(name: str) -> str:
    return ast.get_docstring(ast.parse(CHAPTERS[name])) or ""


def question(name: str) -> str:
    """What a chapter asks; its first line is like "Forms: how does somebody fill in a form?"."""
    return docstring(name).partition("\n")[0].partition(": ")[2]


def imports(source: str) -> list[str]:
    """The modules that a file imports, at its top or in a function, like "chapters.jobs"."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "a name is easier to follow when it is whole"
            found += [f"chapters.{one.name}" for one in node.names] \
                if node.module == "chapters" else [str(node.module)]
    return found


def test_the_map_in_the_docstring_is_the_order_of_the_file():
    on_the_map = re.findall(r"^    Part (\d+) +(.+?)  ", chat.__doc__, re.MULTILINE)
    in_the_file = re.findall(r"^# ── Part (\d+): (.+?)(?: of the chat)? ─", SOURCE, re.MULTILINE)
    assert on_the_map == in_the_file and len(on_the_map) > 3


@pytest.mark.parametrize("source", [SOURCE, SECOND], ids=["chat.py", "oauth_handler.py"])
def test_a_story_is_short_and_so_is_each_of_its_functions(source):
    assert source.count("\n") <= 700
    lengths = {node.name: node.end_lineno - node.lineno + 1 for node in ast.walk(ast.parse(source))
               if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    assert {name: length for name, length in lengths.items() if length > 40} == {}


def test_there_are_not_too_many_chapters_and_none_is_long():
    lengths = {name: text.count("\n") for name, text in CHAPTERS.items()}
    assert {name: length for name, length in lengths.items() if not 40 <= length <= 250} == {}
    assert len(lengths.keys() - SIGNING_IN) <= 25 and 1 < len(SIGNING_IN) < 5


def test_nobody_is_told_what_to_skip():
    stories = {"chat.py": SOURCE, "oauth_handler.py": SECOND, "README.md": README}
    for name, text in {**stories, **CHAPTERS}.items():
        for words in "skip this", "first reading":
            assert words not in text.lower(), name


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_opens_with_a_question_and_ends_with_something_to_try(name):
    text = docstring(name)
    title = text.partition("\n")[0]
    assert ": " in title and title.endswith("?")
    assert re.search(r"https://\S+\.\S+", text), "where is that specified?"
    assert re.search(r"\bLeft\s+out\b", text)
    before, _, examples = text.rpartition("\nTry it")
    assert before and re.search(r"^>>> ", examples, re.MULTILINE)
    lines = examples.partition("\n\n")[2].split("\n\n")
    assert all(part.startswith(">>> ") for part in lines), "these are its last lines"


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_imports_no_more_than_other_chapters(name):
    ours = {path.stem for path in HERE.glob("*.py")} | {"demo"}
    found = [one for one in imports(CHAPTERS[name]) if one.partition(".")[0] in ours]
    # Where somebody wants to sign in, the second story is needed; not before, and only there.
    at_the_top = [one for node in ast.parse(CHAPTERS[name]).body
                  for one in imports(ast.unparse(node))
                  if isinstance(node, (ast.Import, ast.ImportFrom, ast.If, ast.Try))]
    assert found == ["oauth_handler"] * len(found) and "oauth_handler" not in at_the_top
    assert len(found) <= (name == "command_line")


def test_the_chapters_do_not_go_round_in_circles():
    needs = {name: {one.split(".")[1] for one in imports(text) if one.startswith("chapters.")}
             for name, text in CHAPTERS.items()}
    assert all(others <= set(CHAPTERS) for others in needs.values())
    graphlib.TopologicalSorter(needs).prepare()  # or it raises, and shows the circle


def test_the_second_story_stands_alone_but_for_its_chapters_and_what_comes_from_outside():
    for text in [SECOND, *(CHAPTERS[name] for name in SIGNING_IN)]:
        ours = {one for one in imports(text) if re.match("(chat|chapters|demo)\\b", one)}
        assert ours <= {f"chapters.{name}" for name in {*SIGNING_IN, "outside"}}


def test_a_start_without_sign_in_does_not_load_the_second_story_nor_its_chapters():
    program = "import sys, chat; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=HERE, capture_output=True,
                            text=True).stdout.split()
    assert "chapters.outside" in loaded
    assert not {"oauth_handler", *(f"chapters.{name}" for name in SIGNING_IN)} & set(loaded)


def test_the_lists_of_chapters_have_each_of_them_with_its_question():
    asked = {name: question(name) for name in CHAPTERS}
    listed = re.findall(r"^    (\w+) +(\S.*\?)$", chapters.__doc__ or "", re.MULTILINE)
    assert dict(listed) == asked and len(listed) == len(asked)
    in_the_readme = re.findall(r"^\| \[`(\w+)\.py`\]\(chapters/(\w+)\.py\) \| (.+?) \|$", README,
                               re.MULTILINE)
    assert all(shown == linked for shown, linked, _ in in_the_readme)
    assert {name: words for name, _, words in in_the_readme} == asked
    assert len(in_the_readme) == len(asked)


# ── The README and what it speaks of ─────────────────────────────────────────────────────

def test_the_readmes_table_of_settings_has_the_fields_of_a_server():
    named = [cell.strip("`") for cell, *_ in table_under("### Your servers: `mcp_servers.json`")]
    assert named == list(chat.Server.__annotations__)


def test_the_readme_and_the_example_have_the_same_settings_in_env():
    in_readme = {cell.strip("`") for cell, *_ in table_under("### Everything else: `.env`")}
    example = (HERE / "env.example").read_text(encoding="utf-8")
    assert in_readme == set(re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE)) - {"GITHUB_TOKEN"}
    systems = {"NO_COLOR", "TERM", "BROWSER", "DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION",
               "SSH_TTY"}  # settings of the terminal and the computer
    assert in_readme == set(re.findall(r'(?:getenv|number_from_env)\("([A-Z_]+)"', PROGRAMS)
                            ) - systems


def test_the_readme_lists_the_commands_with_their_own_words():
    listed = {cells[0].strip("`").partition(" ")[0]: cells[1] for cells in re.findall(
        r"^\| `(/.+?)` \| (.+?) \|$", README, re.MULTILINE)}
    assert listed == {name: command.__doc__.partition(":")[0]
                      for name, command in COMMANDS.items()}


def test_the_readme_lists_the_options_of_the_command_line():
    shown = subprocess.run([sys.executable, HERE / "chat.py", "-h"], capture_output=True,
                           text=True)
    options = set(re.findall(r"(--[a-z-]+)", shown.stdout)) - {"--help"}
    section = README.partition("## Using it")[2].partition("## Use it")[0]
    assert options == set(re.findall(r"`(--[a-z-]+)(?: [A-Z]+)?`", section))


def test_the_readme_lists_the_events():
    kinds = [kind.__name__ for kind in Event.__subclasses__() if kind is not Found]
    assert all(f"`{kind}`" in README for kind in kinds)


def test_every_message_in_the_troubleshooting_is_one_that_the_programs_print():
    section = README.partition("## Troubleshooting")[2].partition("\n## ")[0]
    for title in re.findall(r'^\*\*(".+")\*\*', section, re.MULTILINE):
        for message in re.findall(r'"(.+?)"', title):
            pieces = {"401 Unauthorized": "({status})",
                      "no answer for 60 seconds": "no answer for {",
                      "port 8080 is already in use": "is already in use"}
            assert pieces.get(message, message) in PROGRAMS, message


@pytest.mark.parametrize("path", [*HERE.glob("*.md"), *HERE.glob("docs/*.md")],
                         ids=lambda path: path.name)
def test_every_file_that_a_text_links_to_exists(path):
    linked = set(re.findall(r"\]\(((?!http)[^)#]+)\)", path.read_text(encoding="utf-8")))
    assert {name for name in linked if not (path.parent / name).exists()} == set()


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
    assert set(re.findall(r"^\| `([a-z_]+)`", section, re.MULTILINE)) == set(challenges.OPTIONS)


# ── Habits ───────────────────────────────────────────────────────────────────────────────

def test_our_version_stands_in_one_place():
    ours = re.compile(r"(?<![\d.@])" + re.escape(ABOUT_US["version"]) + r"(?!\.?\d)")
    found = {path.relative_to(HERE).as_posix(): len(ours.findall(path.read_text(encoding="utf-8")))
             for path in WRITTEN_BY_US if path.name != "CHANGELOG.md"}
    assert {name: count for name, count in found.items() if count} == {"chapters/versions.py": 1}


def test_the_changelog_has_the_form_of_keep_a_changelog():
    text = (HERE / "CHANGELOG.md").read_text(encoding="utf-8")
    releases = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert releases[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", one) for one in releases[1:])
    assert not releases[1:] or releases[1].startswith(f"[{ABOUT_US['version']}]")
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= {
        "Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_every_file_that_contributing_names_exists():
    text = (HERE / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"(?<![\w/])(?:tests|chapters|\.ci|demo)/[\w/.]*\w/?", text)
    assert len(named) > 5 and [name for name in named if not (HERE / name).exists()] == []


def test_the_workflow_runs_what_the_readme_says_on_three_systems_and_two_pythons():
    text = (HERE / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    [command] = re.findall(r"^(uv run pytest) +#", README, re.MULTILINE)
    assert f"- run: {command}\n" in text and "- run: .ci/run\n" in text
    for system in "ubuntu", "macos", "windows":
        assert f"{system}-latest" in text
    [pythons] = re.findall(r'python: \["(.+)", "(.+)"\]', text)
    settings = (HERE / "pyproject.toml").read_text(encoding="utf-8")
    assert f'requires-python = ">={pythons[0]}"' in settings
    assert f"uv python install {' '.join(pythons)}\n" in text
    assert f"for version in {pythons[1]} " in (HERE / ".ci" / "run").read_text(encoding="utf-8")
    assert "permissions:\n  contents: read\n" in text and text.count("permissions:") == 1
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", one) for one in re.findall(r"uses: (.+)", text))
