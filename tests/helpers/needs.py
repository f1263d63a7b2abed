"""For tests that need a tool which a computer may lack."""

import os
import shutil
from typing import NoReturn

import pytest

# What uv and npx need of the environment, besides what every program gets.
TOOLS_OWN = {name: value for name, value in os.environ.items()
             if name.upper().startswith(("UV_", "NPM_", "XDG_", "SSL_", "PYENV_"))
             or name.lower().endswith("_proxy")}


def is_missing(why: str) -> NoReturn:
    """Skip the test, and say why. In CI, where everything is installed, that is a failure."""
    if os.getenv("CI"):
        pytest.fail(why)
    pytest.skip(why)


def program(name: str) -> str:
    """The path of a program."""
    path = shutil.which(name)
    if not path:
        is_missing(f"there is no {name} on this computer")
    return str(path)
