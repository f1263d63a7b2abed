"""Exercise 2: a command /usage."""

import json
import re

from chats import chat_with, type_in
from little_server import LittleServer, text
from scripted_model import delta, pieces, says, wants

from chapters.commands import COMMANDS
from chapters.jobs import finish


def counted(reply, sent: int, received: int):
    """The same reply, with one piece more before its end, as OpenAI sends it."""
    usage = {"choices": [], "usage": {"prompt_tokens": sent, "completion_tokens": received,
                                      "total_tokens": sent + received}}
    others = [json.loads(chunk.removeprefix(b"data: ")) for chunk in reply.chunks[:-1]]
    return pieces(*({**one, "usage": None} for one in others), usage)


def numbers_in_usage(chat, capsys) -> list[str]:
    """The numbers that /usage prints; 3,400 is 3400."""
    capsys.readouterr()
    type_in(chat, "/usage")
    return re.findall(r"\d+", re.sub(r"(?<=\d)[,._' ](?=\d{3}\b)", "", capsys.readouterr().out))


def test_there_is_a_command_and_help_knows_it(capsys):
    assert "/usage" in COMMANDS, "no command /usage yet"
    assert COMMANDS["/usage"].__doc__, "its docstring is its line in /help"


def test_the_service_is_asked_to_count():
    with chat_with(says("Hi.")) as (chat, model):
        finish(chat.ask("Hello"))
    assert model.was_sent[0].get("stream_options") == {"include_usage": True}, \
        'the request has no "stream_options": {"include_usage": true} yet'


def test_all_requests_of_all_turns_are_added_up(capsys):
    tools = {"add": {"answer": lambda arguments: text("42")}}
    script = (counted(wants("toy__add", {}), 1000, 20), counted(says("42."), 1100, 3),
              counted(says("You're welcome."), 1300, 4))
    with LittleServer(tools) as toy, chat_with(*script, toy=toy.url) as (chat, model):
        finish(chat.ask("What is 2 + 40?"))
        finish(chat.ask("Thanks"))
        said = numbers_in_usage(chat, capsys)
    assert {"3400", "27"} <= set(said), \
        f"3400 tokens were sent and 27 received, but the numbers in /usage are {said}"


def test_a_service_that_counts_nothing_does_no_harm(capsys):
    with chat_with(pieces(delta(content="Hi."), delta("stop"))) as (chat, model):
        finish(chat.ask("Hello"))
        said = numbers_in_usage(chat, capsys)
    assert set(said) == {"0"}, f"this chat was told no numbers, but those in /usage are {said}"
