"""Files made from good ones, by changing bytes and by changing values; and files of nothing but chance."""

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

PIECES = (
    *(b"\0", b"\r", b"\n", b'"', b"\\", b"\\ud800", b"\\u0000", b"\xed\xa0\x80", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3"),
    *(b"{", b"}", b"[", b"]" * 50, b"[" * 2000, b'{"a":' * 2000, b"null", b"NaN", b"-Infinity", b"1e999", b"9" * 5000),
    *(b"&a ", b"*a", b"<<: ", b"!!int ", b"!!bool ", b"!!binary ", b"!!timestamp ", b"---\n", b"? ", b": ", b"- "),
    *(b"</script>", b"$x$", "\u202e".encode(), "\u2028".encode(), b"\x1b[2J", b"true", b"0x", b"1:1:1", b"'", b","),
)
"""what means something to a reader"""


def files(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    strategies = [st.binary(max_size=200), st.sampled_from(seeds).flatmap(changed_bytes)]
    if values := [value for seed in seeds if (value := _values(seed)) is not None]:
        strategies += [st.sampled_from(values).flatmap(changed_values)] * 2
    return st.one_of(strategies)


@st.composite
def changed_bytes(draw: st.DrawFn, seed: bytes) -> bytes:
    """A few pieces put into the seed, in the place of up to a few of its bytes."""
    content = seed
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        length = draw(st.integers(0, 12))
        piece = draw(st.sampled_from(PIECES) | st.binary(max_size=8))
        content = content[:start] + piece + content[start + length :]
    return content


ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**63, 10**400, -1])
    | st.floats()
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def changed_values(draw: st.DrawFn, lines: list[Any]) -> bytes:
    """JSON lines of which one or two values are others, or are missing."""
    copy = json.loads(json.dumps(lines))
    for _ in range(draw(st.integers(1, 2))):
        parent, key = draw(st.sampled_from(_places(copy)))
        if isinstance(parent, dict) and draw(st.integers(0, 3)) == 0:
            parent.pop(key, None)
        elif isinstance(parent, dict) or key < len(parent):
            parent[key] = draw(ANY)
    return "".join(json.dumps(line) + "\n" for line in copy).encode()


def _values(seed: bytes) -> list[Any] | None:
    """The JSON values of a file's lines, where they are that."""
    try:
        return [json.loads(seed)]
    except ValueError:
        pass
    try:
        return [json.loads(line) for line in seed.splitlines()]
    except ValueError:
        return None


def _places(node: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every value within a container."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [place for key, value in pairs for place in [(node, key), *_places(value)]]
