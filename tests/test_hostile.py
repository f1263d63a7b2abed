"""chat.py among servers that mean it ill, or don't know better (hostile_server.py).

Whatever one server does: it comes to an end, the other servers' tools still work, a person reads
one clear thing about it, and nothing of it is left behind.
"""

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import hostile_server
import pytest
from folder import configure, is_running, needs_terminal, posix_only
from hostile_server import HTTP, IN_LISTS_ONLY, MESSAGES, PROGRAMS, STILL_WORK, WRONG, HostileHttp
from little_server import LittleServer, text
from patience import PATIENCE
from scripted_model import ScriptedModel, says, wants
from terminal import CTRL_C, Terminal, environment, programs
from test_safety import COLOURS, OURS, hidden_codes

from chapters.screen import Screen
from chat import LLM, Chat, Server, Text, list_tools

GOOD = {"add": {"answer": lambda arguments: text("42")}}

# Of these we look at what they say, so they have the time to, on a slow computer too.
LOUD = ("says_its_", "refuses_in_a_thousand_lines", "dies_with_long_last_words")


# ── Each of them beside a good server ────────────────────────────────────────────────────

@dataclass
class Case:
    """A chat with a hostile server, or several of a kind, and a good one."""

    names: list[str]
    only: str = ""  # the one method that goes wrong; "": all
    over: str = "http"

    def __str__(self) -> str:
        name = self.names[0] if len(self.names) == 1 else "says_all_that_is_wrong"
        return f"{name}-{self.only or 'always'}-{self.over}"


# These take their time and their memory, so they get a process of their own, below.
HEAVY = {"sends_a_body_of_empty_lists", "sends_a_long_text_with_an_emoji", "turns_large_pages",
         "sends_a_body_of_nested_lists", "sends_a_body_of_nested_lists_and_half_a_letter",
         "turns_pages_of_nested_lists", "turns_pages_of_small_objects",
         "asks_for_ever_and_never_listens", "sends_a_list_of_small_texts",
         "repeats_the_end_of_its_text_as_data"}
ALL_WRONG = [f"says_{name}" for name in WRONG]
CASES = [
    *(Case([name], only) for name in HTTP if name not in HEAVY for only in ("", "tools/call")),
    *(Case([name], only, over) for name in MESSAGES if name not in {*HEAVY, *ALL_WRONG}
      for over in ("http", "stdio")
      for only in (["tools/list"] if name in IN_LISTS_ONLY else ["", "tools/call"])),
    *(Case([name], "", "stdio") for name in PROGRAMS if name not in HEAVY),
    *(Case(ALL_WRONG, method) for method in hostile_server.ANSWERS),
    *(Case(ALL_WRONG, method, "stdio") for method in list(hostile_server.ANSWERS)[:4]),
]


@dataclass
class Outcome:
    shown: str                # what a person reads until the model's last word
    problems: dict[str, str]  # by server: what it has in place of tools
    told: dict[str, str]      # by server: what the model was told when it called a tool there
    tools: list[dict]         # as the model got them
    threads: list[str]        # that keep a program from ending
    left: list[int]           # the processes that are still there


def try_out(case: Case, hostile: HostileHttp, folder: Path) -> Outcome:
    """Meet the servers, and have the model call one tool of each."""
    end = time.monotonic() + PATIENCE
    servers: dict = {}
    for name in case.names:
        given = {"url": hostile.url(name, case.only)} if case.over == "http" else \
            program(folder / name, name, case.only)
        seconds = 30 if name in {*STILL_WORK, *ALL_WRONG} or name.startswith(LOUD) else 0.5
        servers[name] = Server(**{"name": name[:20], **given, "timeout": seconds})
    screen = Screen(True)
    screen.aside, screen.live = io.StringIO(), False
    with LittleServer(GOOD) as good, ScriptedModel() as model:
        servers["good"] = Server("good", url=good.url)
        with Chat(model.llm, servers) as chat:
            screen.show(until(end, chat.meet_servers()))
            names = {name: full_name for full_name, tool in reversed(chat.tools.items())
                     for name in servers if chat.connections[name] is tool.connection}
            model.script = [wants(*(word for one in names.values() for word in (one, {}))),
                            says("Ok.")]
            screen.show(until(end, chat.ask("Go")))
    told = [one["content"] for one in model.was_sent[1]["messages"] if one["role"] == "tool"]
    return Outcome(
        screen.aside.getvalue(), {name: str(one) for name, one in servers.items()
                                  if not isinstance(one, Server)},
        dict(zip(names, told, strict=True)), model.was_sent[0]["tools"],
        [one.name for one in threading.enumerate() if not one.daemon
         and one is not threading.main_thread() and not one.name.startswith("case")],
        still_running(folder))


def program(folder: Path, name: str, only: str = "") -> dict:
    """The entry of a program, in a folder of its own."""
    folder.mkdir(parents=True)
    return {"command": "python", "args": [hostile_server.__file__, name, only], "cwd": str(folder)}


def until(end: float, events: Iterator) -> Iterator:
    for event in events:
        if not isinstance(event, Text):  # (Screen prints those elsewhere)
            yield event
        assert time.monotonic() < end, "it doesn't end"


def still_running(folder: Path) -> list[int]:
    """The processes of ours that live on. (Each has written its number into a file. One that
    has been killed may need a moment to be gone.)"""
    numbers = " ".join(file.read_text() for file in folder.rglob("running")).split()
    end = time.monotonic() + PATIENCE
    while left := [int(number) for number in numbers if is_running(int(number))]:
        if time.monotonic() > end:
            break
    return left


@pytest.fixture(scope="module")
def outcomes(request, tmp_path_factory) -> Iterator[dict]:
    """By case: what has become of it. Mostly they wait, so they all do at the same time. (And all
    before the next test: pytest writes into the environment, where others may be reading.)"""
    cases = [item.callspec.params["case"] for item in request.session.items
             if getattr(item, "originalname", "") == "test_a_hostile_server_costs_only_itself"]
    with HostileHttp() as hostile, ThreadPoolExecutor(6, "case") as pool:
        found = {str(case): pool.submit(try_out, case, hostile, tmp_path_factory.mktemp("case"))
                 for case in cases}
        wait(found.values())
        yield found


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_hostile_server_costs_only_itself(case, outcomes):
    outcome = outcomes[str(case)].result()
    assert outcome.told.get("good") == "42"
    for name in STILL_WORK & set(case.names):
        assert name in outcome.told and not outcome.told[name].startswith("Error")
    assert all(is_for_a_model(tool["function"]) for tool in outcome.tools)
    says_one_clear_thing(outcome.shown, case.names)
    assert (outcome.left, outcome.threads) == ([], [])


def is_for_a_model(function: dict) -> bool:
    """Whether OpenAI would take this. If not, it refuses all the others too."""
    json.dumps(function, ensure_ascii=False).encode()  # whole letters
    schema = function["parameters"]
    return bool(re.fullmatch("[A-Za-z0-9_-]{1,64}", function["name"])) \
        and schema["type"] == "object" and isinstance(schema["properties"], dict)


def says_one_clear_thing(shown: str, names: list[str]) -> None:
    """What happened, and what to do: two lines, in words, about each server."""
    assert hidden_codes(shown, "$^") == []
    assert not re.search(r"Traceback|\w+Error\b|<class|<_io| at 0x|\bNone\b", shown)
    paragraphs = re.split("\n(?! {4})", shown)
    for name in names:
        [about] = [one for one in paragraphs if one.startswith(f"  - {name}: ")]
        assert about.count("\n") <= 1
    assert len(paragraphs) < 12 + 3 * len(names)  # with the calls, and an empty line here or there
    assert max(map(len, shown.split("\n"))) < 300


@pytest.mark.parametrize("beginning, count", [("go" * 40, 300), ("", 1500)],
                         ids=["alike", "each in its own way"])
def test_many_tools_take_no_longer_for_each_than_a_few(beginning, count):
    def seconds(count):
        names = [f"{number:07}" if not beginning else f"{beginning}{number}"
                 for number in range(count)]
        with LittleServer({name: {} for name in names}) as server, \
                Chat(LLM("none", "no-key"), {"s": Server("s", url=server.url)}) as chat:
            begin = time.thread_time()
            assert len(list_tools(chat.connections["s"])) == len(names)
            chat.choose_tools()
            return time.thread_time() - begin

    few, many = (min(seconds(number) for _ in range(4)) for number in (count, 8 * count))
    assert many < 24 * max(few, 0.001)  # (of our own work, at its best) 8 would do; squared, 64


# ── The whole program among them ─────────────────────────────────────────────────────────

# A process of its own that starts chat.py, and says how much memory that had at most. (Ours
# can't: after a fork, what we have ourselves is counted for our child as well.)
MEASURE = """import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:])
status, used = os.wait4(process.pid, 0)[1:]
megabytes = used.ru_maxrss / 2 ** (20 if sys.platform == "darwin" else 10)
print(f"\\n{megabytes:.0f} MB, status {os.waitstatus_to_exitcode(status)}", file=sys.stderr)"""


def run_whole(folder: Path, servers: dict[str, tuple[str, str, str]]) -> tuple[str, float]:
    """Run chat.py with a good server and with these: {"s1": (name, only, over)}. The model calls
    those that should misbehave in a call. Returns what it has shown, and its peak in MB."""
    calls = ["good__add", {}]
    for server, (_, only, _) in servers.items():
        calls += [f"{server}__go", {}] if only == "tools/call" else []
    with HostileHttp() as hostile, LittleServer(GOOD) as good, \
            ScriptedModel(wants(*calls), says("Ok.")) as model:
        (folder / ".env").write_text(f"OPENAI_BASE_URL={model.base_url}\n")
        configure(folder, **{
            server: {"timeout": 30 if name in STILL_WORK or over == "http" and name in HEAVY else
                     3 if name in HEAVY else 1,
                     **({"url": hostile.url(name, only)} if over == "http"
                        else program(folder / server, name, only)),
                     **({"tools": ["go_1"]} if name.startswith("turns_") else {})}
            for server, (name, only, over) in servers.items()}, good=good)
        with subprocess.Popen(
                [sys.executable, "-c", MEASURE, sys.executable, programs() / "chat.py", "Go"],
                cwd=folder, env=environment(folder, {}), stdin=subprocess.DEVNULL, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process:
            try:
                answer, shown = process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        assert len(good.calls) == 1
    shown, megabytes, status = re.fullmatch(
        r"(?s)(.*)\n(\d+) MB, status (-?\d+)\n", shown).groups()  # type: ignore[union-attr]
    assert (answer, status) == ("Ok.\n", "0")
    assert "Traceback" not in shown
    assert still_running(folder) == []
    return shown, float(megabytes)


SOME = ["closes_in_the_body", "answers_one_byte_a_second", "answers_with_html", "sends_nul_bytes",
        "redirects_to_itself", "wants_a_token_for_ever", "forgets_each_session", "never_answers",
        "nests_100_000_levels", "is_busy_for_nonsense", "wants_more_input_for_ever",
        "says_odd_blocks"]


@posix_only
def test_the_whole_program_among_many_of_them(tmp_path):
    servers = {f"h{number}": (name, only, "http") for number, name in enumerate(SOME)
               for only in ["tools/call" if number % 2 else ""]}
    servers |= {f"p{number}": (name, "", "stdio") for number, name in enumerate(
        ["dies_at_once", "prints_a_banner", "ignores_the_end_of_its_input_and_sigterm",
         "leaves_a_child_that_keeps_the_pipes_open", "asks_the_person_for_ever"])}
    shown, megabytes = run_whole(tmp_path, servers)
    says_one_clear_thing(shown, list(servers))
    assert megabytes < 200


@posix_only
@pytest.mark.parametrize("names", [
    "sends_a_body_of_500_mb-http sends_a_gzip_bomb_in_a_gzip_bomb-http",
    "sends_a_line_of_100_mb-http sends_a_gzip_bomb-http",
    "redirects_with_a_body_of_500_mb-http sends_an_event_of_empty_lines-http",
    "prints_a_line_of_100_mb-stdio floods_standard_error-stdio notifies_for_ever-http",
    "notifies_for_ever-stdio sends_comments_for_ever-http nests_100_000_levels-stdio",
    "sends_a_long_text_with_an_emoji-http", "turns_large_pages-http",
    "asks_for_ever_and_never_listens-stdio"])
def test_the_whole_program_stays_below_200_mb(tmp_path, names):
    assert peak(tmp_path, names) < 200


@posix_only
@pytest.mark.parametrize("names", [
    "sends_a_body_of_empty_lists-http", "sends_a_list_of_small_texts-http",
    "sends_a_body_of_nested_lists-http", "sends_a_body_of_nested_lists_and_half_a_letter-http",
    "turns_pages_of_nested_lists-http", "turns_pages_of_small_objects-http",
    "repeats_the_end_of_its_text_as_data-http"])
def test_the_whole_program_stays_below_512_mb_in_the_worst_case(tmp_path, names):
    assert peak(tmp_path, names) < 512


def peak(folder: Path, names: str) -> float:
    """The MB that chat.py needs among these, at most."""
    pairs = [pair.split("-") for pair in names.split()]
    servers = {f"s{number}": (name, "tools/call" if over == "http" and name not in IN_LISTS_ONLY
                              else "", over) for number, (name, over) in enumerate(pairs)}
    return run_whole(folder, servers)[1]


@needs_terminal
def test_in_a_terminal_strange_names_and_loud_refusals_do_nothing(tmp_path):
    with HostileHttp() as hostile, LittleServer(GOOD) as good, \
            ScriptedModel(wants("odd__", {}, "loud__go", {}, "good__add", {}), says("Ok."),
                          wants("long__go", {}), says("Still here.")) as model:
        (tmp_path / ".env").write_text(f"OPENAI_BASE_URL={model.base_url}\n")
        configure(tmp_path, odd={"url": hostile.url("has_tools_with_strange_names")}, good=good,
                  loud={"url": hostile.url("refuses_in_a_thousand_lines", "tools/call")},
                  long={"url": hostile.url("makes_progress_for_ever", "tools/call")})
        with Terminal("chat.py", cwd=tmp_path) as terminal:
            terminal.wait_for("You: ")
            terminal.ask("/tools")
            assert "Ok." in terminal.ask("Go")
            terminal.type("Go on\n")
            terminal.wait_for("nearly there")
            terminal.press_until(CTRL_C, "Stopped")
            terminal.wait_for("You: ")
            terminal.type("quit\n")
            assert terminal.exit_status() == 0
        assert len(good.calls) == 1
    assert "Traceback" not in terminal.text
    assert hidden_codes(terminal.raw, OURS + COLOURS) == []
