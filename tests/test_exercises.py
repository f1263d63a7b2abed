"""docs/exercises.md: each exercise has a check, and each check says in words what is missing.

That an exercise can be done, no test can say: its solution is not in here, on purpose.
"""

import re
import subprocess
import sys
import xml.etree.ElementTree as xml

import pytest
from patience import PATIENCE
from terminal import ROOT

TEXT = (ROOT / "docs/exercises.md").read_text(encoding="utf-8")
NUMBERS = re.findall(r"^## (\d+)\.", TEXT, re.MULTILINE)


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, list[str]]:
    """By number: why its check isn't passed by the program as it is."""
    report = tmp_path_factory.mktemp("checks") / "report.xml"
    checks = [f"docs/check_{number}.py" for number in NUMBERS]
    subprocess.run([sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider",
                    f"--junitxml={report}", *checks], cwd=ROOT, timeout=3 * PATIENCE,
                   stdout=subprocess.DEVNULL)
    found: dict[str, list[str]] = {number: [] for number in NUMBERS}
    for case in xml.parse(report).iter("testcase"):
        found[case.attrib["classname"].rpartition("_")[2]] += [
            one.attrib["message"] for one in case if one.tag in ("failure", "error")]
    return found


def test_there_are_eight_and_each_has_all_its_parts():
    assert list("12345678") == NUMBERS
    for number, part in zip(NUMBERS, re.split(r"^## \d+\.", TEXT, flags=re.MULTILINE)[1:],
                            strict=True):
        for word in ("**You learn**", "**Build**", "**Start**", "**You should see**",
                     f"**Check**: `uv run pytest docs/check_{number}.py`"):
            assert word in part, f"exercise {number} has no {word}"
        assert (ROOT / f"docs/check_{number}.py").exists()


@pytest.mark.parametrize("number", NUMBERS)
def test_a_check_that_is_not_passed_yet_says_what_is_missing(results, number):
    assert results[number], f"check {number} is passed by a program without a solution"
    for message in results[number]:
        assert re.search(r"\byet\b|no command /usage|Calling f\b", message), message
