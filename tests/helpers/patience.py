"""How long a test waits for what must happen. How fast a computer is, is not tested."""

import time
from collections.abc import Callable
from typing import Any

# Seconds after which something hangs. No test needs them: what must come early is seen by what
# has, or hasn't, happened before it.
PATIENCE = 120


def eventually(condition: Callable[[], Any]) -> Any:
    """Wait for something that happens elsewhere; return what the condition has become."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)
    return value
