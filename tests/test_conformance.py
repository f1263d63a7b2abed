"""The official MCP conformance suite (see conformance/run.py)."""

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

from conformance import run
from needs import is_missing


def test_the_scenarios_of_the_official_suite():
    if not (shutil.which("npm") and shutil.which("curl")):
        is_missing("npm and curl are needed, to install and to run the official suite")
    try:
        run.install()
    except subprocess.CalledProcessError:
        is_missing("the official suite can't be installed; is this computer offline?")

    wanted = run.scenarios()
    with ThreadPoolExecutor(2) as pool:
        answers = dict(zip(wanted, pool.map(lambda one: run.run(*one), wanted), strict=True))

    # Each has 30 seconds, and other tests run at the same time: who was late may try again alone.
    again = {one: run.run(*one) for one, answer in answers.items() if answer}
    assert {one: (answers[one], answer) for one, answer in again.items() if answer} == {}
    auth = [name for name, _ in answers if name.startswith("auth/")]
    assert len(auth) == 46 and len(answers) == 59 + 2  # two are extensions that we have, too
