"""For tests that need a tool which a computer may lack."""

import os
from typing import NoReturn

import pytest


def is_missing(why: str) -> NoReturn:
    """Skip the test, and say why. In CI, where everything is installed, that is a failure."""
    if os.getenv("CI"):
        pytest.fail(why)
    pytest.skip(why)
