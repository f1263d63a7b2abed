"""Strategies for Hypothesis: what may come from outside."""

import itertools
import json

from hypothesis import strategies as st

ANYTHING = st.none() | st.booleans() | st.integers() | st.floats(
    allow_nan=False, allow_infinity=False) | st.text()


def json_of(keys: str, leaves: st.SearchStrategy = ANYTHING) -> st.SearchStrategy:
    """Any JSON; these are the likely keys of its objects."""
    return st.recursive(ANYTHING | leaves, lambda inner: st.lists(inner, max_size=3)
                        | st.dictionaries(st.sampled_from(keys.split()) | st.text(max_size=3),
                                          inner, max_size=4), max_leaves=10)


MESSAGES = json_of("jsonrpc id method result error").map(json.dumps).map(str.encode)
PLACES = st.integers(0, 2**16)


def cut(whole, places: list[int]) -> list:
    """The pieces of some bytes, or of a text."""
    edges = [0, *sorted(place % (len(whole) + 1) for place in places), len(whole)]
    return [whole[start:end] for start, end in itertools.pairwise(edges)]
