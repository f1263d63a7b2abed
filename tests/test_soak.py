"""A chat of a hundred questions leaves nothing behind. (soak.py asks more, and prints a table.)"""

import os
import subprocess
import sys

import pytest
from patience import PATIENCE
from soak import TOLERANCE, grown
from terminal import ROOT


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="only Linux has /proc")
def test_a_hundred_questions_leave_nothing_behind():
    done = subprocess.run([sys.executable, "tests/soak.py", "100"], cwd=ROOT, timeout=PATIENCE,
                          capture_output=True, text=True)
    assert "Nothing has grown." in done.stdout, done.stdout + done.stderr
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", TOLERANCE)
def test_what_grows_is_noticed(name):
    flat = dict.fromkeys(TOLERANCE, 10.0)
    assert grown([flat] * 20) == []
    assert grown([{**flat, name: 10.0 + number} for number in range(20)]) == [name]
