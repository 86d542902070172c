"""Words of errors: safe to print, whatever they quote."""

from hypothesis import given, strategies as st

from k710 import errors
from k710.errors import K710Error, printable, shown


def test_every_error_can_be_caught_as_one() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    kinds = [kind for kind in kinds if issubclass(kind, Exception)]
    assert len(kinds) > 5 and all(issubclass(kind, K710Error) for kind in kinds)


@given(st.text())
def test_nothing_that_is_quoted_acts_on_a_terminal(text: str) -> None:
    for safe in (shown(text), printable(text)):
        assert safe.isprintable()
    assert len(shown(text, limit=20)) <= 2 + 10 * 20


def test_what_can_be_printed_stays_as_it_is() -> None:
    assert printable("a caf\xe9, \u65e5\u672c") == "a caf\xe9, \u65e5\u672c"
    assert printable("a\x1b[31mb\n") == "a\\x1b[31mb\\n"
    assert shown("it") == "'it'"
    assert shown("x" * 100, limit=10) == "'xxxxxxx...'"


def test_what_has_no_text_is_shown_by_its_kind() -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    assert shown(nested) == "'<list>'"
    assert shown(10**5000) == "'<int>'"
