"""Server-sent events: how an answer arrives that isn't finished yet."""

import json
import time

import pytest
from scripted_server import new, result

from chapters.outside import MAX_BYTES, Failure
from chapters.server_sent_events import read_events

CALL = {"name": "count", "arguments": {}}
DONE = new({"content": [{"type": "text", "text": "done"}]})
EVENTS = "\ufeff: hi\r\ndata: {\rdata:\t\"é\"\ndata\r\n\r\nid: 7\n\nevent: x\rdata: 😀 \r\rdata: no"
THREE = [{"data": '{\n\t"é"\n'}, {"id": "7"}, {"event": "x", "data": "😀 "}]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
@pytest.mark.line(4)
def test_an_event_stream_with_everything_in_it(size):
    stream = EVENTS.encode()
    assert list(read_events(stream[at:at + size] for at in range(0, len(stream), size))) == THREE


def test_an_event_is_there_as_soon_as_its_last_line_ends():
    # Not when the next chunk comes: that may be in a minute.
    for end in b"\n\n", b"\r\n\r\n":
        def chunks(end=end):
            yield b"data: 1" + end
            raise AssertionError("it wanted more")

        assert next(read_events(chunks())) == {"data": "1"}


def test_an_event_whose_type_is_empty_is_a_message(http_server, connect):
    def answer(message):
        yield b"event:\ndata: %s\n\n" % json.dumps(result(message, DONE)).encode()

    server = http_server({"tools/call": answer})
    assert connect(server.entry()).request("tools/call", CALL) == DONE


@pytest.mark.parametrize("chunk", [b"x" * 65536, b"data: " + b"x" * 65530 + b"\n",
                                   b"data: x\n" * 8192, b"data\n" * 13_000],
                         ids=["a line", "long lines", "short lines", "empty lines"])
def test_an_event_without_end_is_refused(chunk):
    def chunks():
        for _ in range(2 * MAX_BYTES // len(chunk)):
            yield chunk
        raise AssertionError("twice as much as the limit")

    with pytest.raises(Failure, match="more than 8 MB"):
        list(read_events(chunks()))


def test_a_stream_may_be_as_long_as_it_likes():
    # Only one event may not.
    parts = [b": " + b"x" * 40_000 + b"\n", b"data: x\n\n"] * 1000
    assert list(read_events(parts)) == [{"data": "x"}] * 1000


def test_a_long_event_takes_no_longer_per_byte_than_a_short_one():
    def seconds(kilobytes):
        begin = time.thread_time()
        assert len(list(read_events([b"data: "] + [b"x" * 1024] * kilobytes + [b"\n\n"]))) == 1
        return time.thread_time() - begin

    seconds(250)
    assert seconds(6000) < 80 * max(seconds(250), 0.005)  # 24 times would do; squared, it is 576
