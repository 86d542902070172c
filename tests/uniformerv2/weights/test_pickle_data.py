"""A pickle is data: what Python reads is read, and what it would call is called by nobody."""

import argparse
import collections
import io
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from k710.errors import WeightsError
from support.hostile_archives import Evil
from uniformerv2.weights import pickle_data
from uniformerv2.weights.pickle_data import READ_FAULTS, Global, Made, as_dict, read_pickle

HERE = Path("a.pth")
KEYS = st.one_of(st.text(), st.integers(), st.booleans(), st.none(), st.binary())
VALUES = st.recursive(
    KEYS | st.floats(allow_nan=False),
    lambda each: st.lists(each) | st.dictionaries(KEYS, each) | st.tuples(each, each),
    max_leaves=20,
)


def read(data: bytes) -> Any:
    return read_pickle(io.BytesIO(data), HERE)


@given(value=VALUES, protocol=st.integers(0, 5))
def test_plain_data_is_what_was_written(value: Any, protocol: int) -> None:
    assert is_same(read(pickle.dumps(value, protocol)), value)


def is_same(found: Any, value: Any) -> bool:
    """Bytes are a call of a codec in the protocols that have none."""
    if isinstance(value, bytes) and isinstance(found, Made):
        return str(found.what) in ("_codecs.encode", "builtins.bytes", "__builtin__.bytes")
    if isinstance(value, list | tuple):
        return type(found) is type(value) and all(map(is_same, found, value))
    if isinstance(value, dict):
        own = {key: each for key, each in value.items() if not isinstance(key, bytes)}
        return len(found) == len(value) and all(is_same(found[k], own[k]) for k in own)
    return bool(found == value and type(found) is type(value))


@pytest.mark.parametrize("protocol", range(6))
def test_objects_are_what_they_would_be_made_of(protocol: int) -> None:
    dicts = collections.OrderedDict(a=1), collections.defaultdict(list, b=2)
    given = [*dicts, argparse.Namespace(lr=0.1), {3}, Evil(Path("x"))]
    ordered, default, told, several, evil = read(pickle.dumps(given, protocol))
    assert (as_dict(ordered), as_dict(default)) == ({"a": 1}, {"b": 2})
    assert as_dict(told) is None and "lr" in told.state and evil.args is not None
    assert isinstance(several, list | Made)
    assert Global("collections", "OrderedDict") == ordered.what


def test_nothing_is_called(tmp_path: Path) -> None:
    for protocol in range(6):
        data = pickle.dumps([Evil(tmp_path / "was here")], protocol)
        (found,) = read(data)
        assert isinstance(found, Made) and not (tmp_path / "was here").exists()
    pickle.loads(data)
    assert (tmp_path / "was here").exists(), "or else this would prove nothing"


@pytest.mark.parametrize("called", [os.system, eval, exec, open, __import__])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_who_asks_for_programs_is_refused(called: Any, protocol: int) -> None:
    class Asks:
        def __reduce__(self) -> Any:
            return (called, ("true",))

    with pytest.raises(WeightsError, match="which no checkpoint needs: it attacks whoever"):
        read(pickle.dumps(Asks(), protocol))


class Whole:
    """A tuple of tuples, 60 deep: whoever hashes it has 2**60 parts to look at."""

    def __reduce__(self) -> Any:
        deep: Any = ()
        for _ in range(60):
            deep = (deep, deep)
        return (dict, ([],), None, None, iter([(deep, 1)]))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x02",
        b"\x80\x02]",
        b"\x80\x02t.",
        b"\x80\x02K\x01K\x02s.",
        b"\x80\x02X\xff\xff\xff\xffa.",
        b"\x80\x04\x8d" + b"\xff" * 8 + b".",
        b"\x80\x05\x96" + b"\x7f" * 8 + b".",
        b"\x80\x02\x82\x01.",
        b"\x80\x05\x97.",
        b"I" + b"9" * 5000 + b"\n.",
        b"ccollections\n.",
        b"\x80\x04K\x01K\x02\x93.",
        b"\x80\x02r\xff\xff\xff\xff.",
        b"(" * 9 + b"0" * 20 + b".",
    ],
)
def test_what_is_no_pickle_is_an_error_that_is_foreseen(data: bytes) -> None:
    with pytest.raises(READ_FAULTS):
        read(data)


def test_pickles_that_would_take_for_ever_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="neither text nor number"):
        read(pickle.dumps(Whole()))
    deep = b"(" * 200_000 + b"l" * 200_000
    assert isinstance(read(b"\x80\x02" + deep + b"."), list)
    monkeypatch.setattr(pickle_data, "_MOST_OPCODES", 100)
    with pytest.raises(WeightsError, match="more than 100 things beside its tensors"):
        read(b"\x80\x02" + b"]" * 101 + b".")


@given(data=st.binary(max_size=60), start=st.sampled_from([b"", b"\x80\x02", b"\x80\x04(]}"]))
def test_any_bytes_are_read_or_an_error_that_is_foreseen(data: bytes, start: bytes) -> None:
    try:
        read(start + data + b".")
    except (WeightsError, *READ_FAULTS):
        pass
