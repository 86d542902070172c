"""Frozen dataclasses whose values are what their annotations say: configurations out of files."""

import reprlib
import sys
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

__all__ = ["Above0", "Checked", "Count", "From0", "Rate", "Share"]

_LARGEST = (1 << 31) - 1  # what is counted with fits into any integer
Count = Annotated[
    int, Meta(ge=1, le=_LARGEST, description=f"a whole number above 0, up to {_LARGEST:,}")
]
Share = Annotated[float, Meta(ge=0, le=1, description="a number from 0 to 1")]
Rate = Annotated[float, Meta(ge=0, lt=1, description="a number from 0 to below 1")]
From0 = Annotated[float, Meta(ge=0, le=sys.float_info.max, description="a finite number from 0 up")]
Above0 = Annotated[float, Meta(gt=0, le=sys.float_info.max, description="a finite number above 0")]


class Checked:
    """Base of frozen dataclasses whose annotations hold, as msgspec reads them.

    Lists become tuples, and whole numbers floats, where the annotation says so. ValueError names
    the field, its value and what is allowed.
    """

    __slots__ = ()

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, msgspec.convert(value, hint))
            except msgspec.ValidationError as error:
                raise ValueError(
                    f"{name} ({reprlib.repr(value)}) must be {_words(hint)}"
                ) from error


def _words(hint: Any) -> str:
    """What an annotation allows."""
    if isinstance(hint, type):
        return "none" if hint is NoneType else hint.__name__
    if get_origin(hint) is Annotated:
        return str(hint.__metadata__[0].description)
    is_union = get_origin(hint) in (Union, UnionType)
    return " or ".join(_words(each) if is_union else str(each) for each in get_args(hint))
