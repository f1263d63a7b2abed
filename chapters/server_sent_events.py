r"""Server-sent events: how does an answer arrive that isn't finished yet?

A server that needs a while doesn't keep us waiting for one large answer. It sends lines of text as
it goes, and an empty line ends each event:

    data: {"method": "notifications/progress", "params": {"progress": 1}}

    id: 5
    data: {"id": 7, "result": {...}}

A model streams its words in the same form, so this one reader serves both.
https://html.spec.whatwg.org/multipage/server-sent-events.html

Left out: what to do when the stream breaks off. For older servers that is older_servers.py.

Try it. The bytes come cut up anyhow, even in the middle of a character or of a line's end:

>>> list(read_events([b'id: 5\ndata: {"a":\r', b'\ndata: 1}\r\n\r\n']))
[{'id': '5', 'data': '{"a":\n1}'}]
"""

import codecs
import io
import itertools
from collections.abc import Iterable, Iterator

from chapters.outside import MAX_BYTES, TOO_LARGE, Failure


def read_events(chunks: Iterable[bytes]) -> Iterator[dict[str, str]]:
    """Yield each event, as soon as its last line has ended. Raises Failure for one without end."""
    event: dict[str, list[str]] = {}  # the values of each field, of the event that comes next
    line, size = "", 0  # what there is of the next line; bytes since the last event
    # A line may end with LF, CR LF or CR. (After a CR, this waits for what comes next.)
    decoder = io.IncrementalNewlineDecoder(
        codecs.getincrementaldecoder("utf-8-sig")("replace"), translate=True)
    for chunk in itertools.chain(chunks, [None]):  # None: that was all
        size += len(chunk or b"")
        start, *more = decoder.decode(chunk or b"", final=chunk is None).split("\n")
        line += start
        for start in more:  # here ends what is in `line`, and the next line begins
            name, _, value = line.partition(":")
            if name in ("data", "event", "id", "retry"):
                event.setdefault(name, []).append(value.removeprefix(" "))
            elif not line:  # an empty line ends the event
                if event:  # of its data, each line counts; of the other fields, the last value
                    yield {name: "\n".join(event[name] if name == "data" else event[name][-1:])
                           for name in event}
                event, size = {}, 0
            line = start
        if size > MAX_BYTES:
            raise Failure("broken", TOO_LARGE)
