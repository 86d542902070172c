"""Which shards are a part's, and how a part is written."""

import pytest
from hypothesis import given, strategies as st

from k710.part import Part


@given(of=st.integers(1, 50), number=st.integers(0, 1_000_000))
def test_each_shard_is_exactly_one_parts(of: int, number: int) -> None:
    assert [Part(n, of).has(number) for n in range(1, of + 1)].count(True) == 1


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "1/0", "-1/4", "1/16/2", "a/b", "²/3"])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no part"):
        Part.parse(text)


def test_a_part_is_read_as_it_is_written() -> None:
    assert Part.parse("3/16") == Part(3, 16)
    assert str(Part(3, 16)) == "3/16"
    assert Part(3, 16).name == "003_of_016"
