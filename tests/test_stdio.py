"""stdio: servers that are programs on this computer."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from patience import PATIENCE, eventually
from scripted_server import HANDSHAKE, new

from chapters.jobs import in_background
from chapters.outside import Failure
from chapters.stdio import PASSED_ON
from chapters.versions import NEWEST
from chat import Server, list_tools

CALL = {"name": "count", "arguments": {}}
DONE = new({"content": [{"type": "text", "text": "done"}]})
MEET = {"server/discover": new({"supportedVersions": [NEWEST]})}


# ── Lines ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.line(46)
def test_what_a_program_prints_besides_is_skipped(stdio_server, connect):
    program = stdio_server(f"""
        os.write(1, b"\\xef\\xbb\\xbfWelcome to my server!\\r\\n\\r\\n\\n   \\n[INFO] {{}}\\n")
        os.write(1, b"\\xff\\xfe\\n")
        for message in incoming():
            os.write(1, b"working...\\n[\\n")
            line = json.dumps({{"jsonrpc": "2.0", "id": message["id"],
                                "result": {MEET["server/discover"]}}})
            os.write(1, b"\\xef\\xbb\\xbf" + line.encode() + b"\\r\\n")
    """)
    assert connect(program.entry()).ask("tools/list") == MEET["server/discover"]


@pytest.mark.parametrize("result", ['"\\xff"', '{"celsius": NaN}', '{"celsius": 1e999}', "{"])
def test_an_answer_that_cannot_be_read_is_waited_for_no_longer(stdio_server, connect, result):
    program = stdio_server(f"""
        for message in incoming():
            if message["method"] == "server/discover":
                answer(message, {MEET["server/discover"]})
            else:
                # A line that is no message is skipped, and so is what isn't an answer.
                os.write(1, b'This is fine: {{"id": NaN}}\\n{{"jsonrpc": "2.0", "method": NaN}}\\n')
                found = b'{{"jsonrpc": "2.0", "id": %d, "result": {result}}}\\n'
                os.write(1, found % message["id"])
    """)
    with pytest.raises(Failure, match="its answer can't be read: ") as caught:
        connect(program.entry()).ask("tools/call", CALL)
    assert caught.value.kind == "broken"


def test_an_id_may_come_back_as_a_number_with_a_point(stdio_server, connect):
    # (To some languages, all numbers are the same kind.)
    program = stdio_server(f"""
        for message in incoming():
            if "id" in message:
                message["id"] = float(message["id"])
                answer(message, {MEET["server/discover"]})
    """)
    connection = connect(program.entry())
    for _ in range(2):
        assert connection.ask("tools/list") == MEET["server/discover"]
    assert program.methods == ["server/discover", "tools/list", "tools/list"]


def test_a_complaint_about_a_notification_is_no_answer(stdio_server, connect):
    # Home-made servers often answer whatever they don't know.
    program = stdio_server(f"""
        for message in incoming():
            if message["method"] == "tools/list":
                answer(message, {new({"tools": [{"name": "add"}]})})
            elif message["method"] == "initialize":
                answer(message, {{"protocolVersion": "2025-06-18", "capabilities": {{}}}})
            else:
                message.setdefault("id", None)
                time.sleep(0.02 if message["id"] is None else 0)
                refuse(message, -32601)
    """)
    for _ in range(3):
        assert [one["name"] for one in list_tools(connect(program.entry()))] == ["add"]


def test_a_word_with_json_in_it_is_only_a_word(stdio_server, connect):
    program = stdio_server(f"""
        for message in incoming():
            os.write(1, b'[debug] sending {{"jsonrpc": "2.0", "id": 2, "result": {{}}}} now\\n')
            answer(message, {MEET["server/discover"]})
    """)
    assert connect(program.entry()).ask("tools/list") == MEET["server/discover"]


@pytest.mark.line(46, 50)
def test_more_than_8_mb_in_one_line_is_too_much(stdio_server, connect):
    program = stdio_server(f"""
        for message in incoming():
            if message["method"] == "server/discover":
                answer(message, {MEET["server/discover"]})
            else:
                for _ in range(10):
                    os.write(1, b"x" * 2**20)
    """)
    connection = connect(program.entry())
    with pytest.raises(Failure, match="8 MB"):
        connection.ask("tools/call", CALL)
    eventually(lambda: connection.transport.process.poll() is not None)


def test_6_mb_in_one_line_are_not(stdio_server, connect):
    program = stdio_server(f"""
        for message in incoming():
            answer(message, {{**{MEET["server/discover"]}, "text": "x" * (6 * 2**20)}})
    """)
    assert len(connect(program.entry()).ask("tools/call", CALL)["text"]) == 6 * 2**20


@pytest.mark.line(46)
def test_a_flood_of_complaints_does_not_stop_a_program(stdio_server, connect):
    program = stdio_server(f"""
        for message in incoming():
            for _ in range(64):
                os.write(2, b"oh no! " * 10_000)
            os.write(2, b"\\n" * 70_000)
            answer(message, {MEET["server/discover"]})
    """)
    assert connect(program.entry()).ask("tools/list") == MEET["server/discover"]


def test_a_program_that_does_not_read_does_not_stop_us(stdio_server, connect):
    program = stdio_server(f"""
        answer(json.loads(sys.stdin.readline()), {MEET["server/discover"]})
        time.sleep(60)
    """)
    connection = connect(program.entry())
    connection.ask("server/discover")
    connection.server.timeout = 0.5
    with pytest.raises(Failure) as caught:  # far more than a pipe holds
        connection.ask("tools/call", {"name": "x", "arguments": {"text": "x" * 2**22}})
    assert caught.value.kind == "timeout"
    connection.transport.process.kill()


# ── The beginning ────────────────────────────────────────────────────────────────────────


@pytest.mark.line(47)
def test_a_program_gets_only_some_of_our_environment(stdio_server, connect, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "s3cret")
    monkeypatch.setenv("SOME_TOKEN", "s3cret")
    program = stdio_server(f"""
        for message in incoming():
            answer(message, {{**{MEET["server/discover"]}, "env": dict(os.environ)}})
    """)
    env = connect(program.entry(env={"KEY": "k", "LANG": "eo"})).ask("tools/list")["env"]
    assert env["KEY"] == "k" and env["LANG"] == "eo" and env["PATH"] == os.environ["PATH"]
    set_by_python_itself = {"LC_CTYPE", "__CF_USER_TEXT_ENCODING"}
    assert set(env) - PASSED_ON - set_by_python_itself == {"KEY"}


def test_python_is_this_python(stdio_server, connect, monkeypatch):
    monkeypatch.setenv("PATH", "")
    program = stdio_server(f"""
        for message in incoming():
            answer(message, {{**{MEET["server/discover"]}, "it": [sys.executable, os.getcwd()]}})
    """)
    it = connect(program.entry()).ask("tools/list")["it"]
    assert it[0] == sys.executable and os.path.samefile(it[1], program.folder)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no #! line")
def test_a_program_may_lie_beside_the_configuration(stdio_server, connect, tmp_path, monkeypatch):
    program = stdio_server(MEET | {"tools/list": new({"tools": []})})
    script = program.folder / "program.py"
    script.write_text(f"#!{sys.executable}\n" + script.read_text("utf-8"), "utf-8")
    script.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    for command in "./program.py", str(script):
        assert connect(program.entry(command=command, args=[])).ask("tools/list")["tools"] == []


@pytest.mark.parametrize("entry, words", [
    ({"command": "no-such-program"}, "no-such-program"),
    ({"command": "./no-such-program"}, "no-such-program"),
    ({"command": "~\0"}, "~"),
    ({"command": "python", "cwd": "no-such-folder"}, "python"),
    ({"command": "python", "args": ["a\0b"]}, "python"),
    ({"command": "python", "env": {"A=B": "C", "D": "\0"}}, "python"),
], ids=str)
def test_a_program_that_cannot_be_started(connect, tmp_path, entry, words):
    entry = {"cwd": str(tmp_path), **entry}
    with pytest.raises(Failure, match=words) as caught:
        connect(Server("lost", **entry)).ask("tools/list")
    assert caught.value.kind == "unreachable"


@pytest.mark.skipif(os.name == "nt", reason="on Windows, a file is a program by its name")
def test_a_file_that_is_no_program(connect, tmp_path):
    (tmp_path / "program").write_text("This is no program.")
    (tmp_path / "program").chmod(0o755)
    with pytest.raises(Failure, match="program"):
        connect(Server("lost", command="./program", cwd=str(tmp_path))).ask("tools/list")


# ── The end ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("body", [
    "sys.exit('Please set MY_KEY first.')",
    "os.close(1); time.sleep(0.1); sys.exit('Please set MY_KEY first.')"])
def test_the_last_words_of_a_program_that_dies_at_once(stdio_server, connect, body):
    program = stdio_server(body)
    for _ in range(3):
        with pytest.raises(Failure, match="MY_KEY first") as caught:
            connect(program.entry()).ask("tools/call", CALL)
        assert caught.value.kind == "broken"


def test_a_program_that_has_died_is_started_again_for_the_next_call(stdio_server, connect):
    program = stdio_server(f"""
        for message in incoming():
            if message["method"] == "tools/call" and message["params"]["name"] == "die":
                sys.exit("Goodbye.")
            answer(message, {{**{MEET["server/discover"]}, "pid": os.getpid()}})
    """)
    connection = connect(program.entry())
    first = connection.ask("tools/list")["pid"]
    with pytest.raises(Failure, match="ended.*Goodbye"):
        connection.ask("tools/call", {"name": "die", "arguments": {}})
    second = connection.ask("tools/call", CALL)["pid"]
    assert first != second
    os.kill(second, signal.SIGTERM)
    connection.transport.process.wait()
    eventually(lambda: not connection.transport.alive)
    assert connection.ask("tools/call", CALL)["pid"] not in (first, second)
    assert len(program.saw("tools/call")) == 3, "none was sent twice"


def test_an_old_program_that_has_died_is_greeted_again(stdio_server, connect):
    program = stdio_server("""
        for message in incoming():
            if message["method"] == "initialize":
                answer(message, {"protocolVersion": "2025-06-18", "capabilities": {}})
            elif message["method"] == "tools/call":
                answer(message, {"content": []})
                break
            elif "id" in message:
                refuse(message, -32601)
    """)
    connection = connect(program.entry())
    for _ in range(2):
        connection.ask("tools/call", CALL)
        eventually(lambda: not connection.transport.alive)
    assert program.methods == ["server/discover", "initialize", "notifications/initialized",
                               "tools/call", "initialize", "notifications/initialized",
                               "tools/call"]


def test_a_program_that_ends_with_its_hello_is_started_again(stdio_server, connect):
    program = stdio_server(f"""
        script = {{"initialize": {HANDSHAKE}, "tools/call": {DONE}}}
        serve(script if log.tell() else script | {{"notifications/initialized": "exit"}})
    """)
    connection = connect(program.entry())
    with pytest.raises(Failure, match="ended"):
        connection.ask("tools/call", CALL)
    assert connection.ask("tools/call", CALL) == DONE


def test_everybody_who_waits_hears_that_a_program_has_died(stdio_server, connect):
    program = stdio_server(f"""
        count = 0
        for message in incoming():
            if message["method"] == "server/discover":
                answer(message, {MEET["server/discover"]})
            else:
                count += 1
            if count == 4:
                sys.exit("All at once is too much.")
    """)
    connection = connect(program.entry(timeout=60))
    failures: list = []

    def call():
        try:
            connection.ask("tools/call", CALL)
        except Failure as failure:
            failures.append(failure)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert [failure.kind for failure in failures] == ["broken"] * 4


@pytest.mark.line(46)
def test_a_program_ends_when_its_input_does(toy_stdio):
    toy_stdio.ask("tools/list")
    toy_stdio.close()
    assert toy_stdio.transport.process.returncode == 0  # who must be asked twice ends with another


def test_closing_what_was_never_opened(connect):
    connect(Server("x", command="no-such-program")).close()
    connect(Server("x", url="http://127.0.0.1:9")).close()


def test_a_program_that_starts_while_we_close_is_ended(stdio_server, connect):
    class Arguments(list):
        def __iter__(self):  # they are looked at just before it starts
            closing.append(in_background(connection.close))
            return super().__iter__()

    closing: list = []
    program = stdio_server({"server/discover": "silence"})
    connection = connect(program.entry(args=Arguments(["program.py"])))
    with pytest.raises(Failure, match="stopped"):
        connection.ask("tools/list")
    closing[0].join(PATIENCE)
    assert connection.transport.process.poll() is not None


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    # Who has ended, but nobody has asked how, is no longer running.
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return bool(state.stdout.strip()) and not state.stdout.startswith("Z")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no groups of processes")
@pytest.mark.line(46)
def test_a_program_that_does_not_want_to_end_is_ended_and_its_children_too(stdio_server, connect):
    program = stdio_server(f"""
        import signal, subprocess
        stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
        child = subprocess.Popen([sys.executable, "-c", stubborn])
        signal.signal(signal.SIGTERM, lambda *details: log.write('{{"method": "SIGTERM"}}\\n'))
        for message in incoming():
            answer(message, {{**{MEET["server/discover"]}, "pids": [os.getpid(), child.pid]}})
        log.write('{{"method": "the end of the input"}}\\n')
        while True:
            time.sleep(600)
    """)
    connection = connect(program.entry())
    pids = connection.ask("tools/list")["pids"]
    assert all(map(is_running, pids))
    connection.close()
    assert program.methods[-2:] == ["the end of the input", "SIGTERM"]
    assert connection.transport.process.returncode == -signal.SIGKILL
    eventually(lambda: not any(map(is_running, pids)))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no groups of processes")
@pytest.mark.line(46)
def test_a_program_that_ends_leaves_no_children_behind(stdio_server, connect):
    program = stdio_server(f"""
        import subprocess
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        for message in incoming():
            answer(message, {{**{MEET["server/discover"]}, "pid": child.pid}})
    """)
    connection = connect(program.entry())
    pid = connection.ask("tools/list")["pid"]
    connection.close()
    eventually(lambda: not is_running(pid))


def test_a_child_that_keeps_the_output_open_does_not_keep_us(stdio_server, connect):
    # A program dies, but what it has started still holds the pipe.
    program = stdio_server(f"""
        import subprocess
        for message in incoming():
            if message["method"] == "tools/call":
                subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
                sys.exit(1)
            answer(message, {MEET["server/discover"]})
    """)
    connection = connect(program.entry(timeout=1))
    with pytest.raises(Failure):
        connection.ask("tools/call", CALL)
    connection.close()
