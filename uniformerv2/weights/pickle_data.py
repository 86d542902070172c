"""A pickle read as data: what it would call is written down, and nothing is called.

Python's reader, and PyTorch's, look up what a pickle names and call it. This one looks up nothing:
a name is a `Global`, a call of it a `Made`, and who reads on decides which of them it knows. So a
file with objects of a trainer that isn't installed is read, and code of its author's choosing does
nothing.
"""

import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from k710.errors import WeightsError, shown

__all__ = ["READ_FAULTS", "Global", "Made", "as_dict", "describe", "read_pickle"]

# What a pickle of any bytes makes the reader raise.
READ_FAULTS = (ValueError, LookupError, TypeError, AttributeError, struct.error, OverflowError)
# Far above any checkpoint: each is some 100 bytes, and a microsecond.
_MOST_OPCODES = 5_000_000
_AS_THEY_ARE = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BYTEARRAY8"),
}
_PLAIN = (str, int, float, bytes, type(None))
# No checkpoint needs these. They do nothing here, but whoever opens the file elsewhere is warned.
_SYSTEM = {
    *("os", "posix", "nt", "subprocess", "sys", "socket", "runpy", "pty", "shutil", "importlib"),
    *("ctypes", "webbrowser", "code", "pdb", "timeit", "marshal", "commands", "_posixsubprocess"),
}
_BUILTINS = {"eval", "exec", "execfile", "compile", "__import__", "open", "file", "breakpoint"}


@dataclass(frozen=True, slots=True)
class Global:
    """The name of a class or function that a pickle asks for."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False)
class Made:
    """What a pickle would make by a call, and what it would then put into it."""

    what: object  # a Global, if the pickle is sound
    args: tuple[object, ...]
    state: object = None
    entries: dict[object, object] = field(default_factory=dict)  # if it is a kind of dict


def as_dict(value: object) -> dict[object, object] | None:
    """The entries of a dict, or of what is made as a kind of dict (OrderedDict); else None."""
    if isinstance(value, Made):
        return value.entries or ({} if str(value.what) == "collections.OrderedDict" else None)
    return value if isinstance(value, dict) else None


def describe(value: object) -> str:
    """What kind of thing a value is, safe to print."""
    made = isinstance(value, Made)
    while isinstance(value, Made):  # of a method of a class, the method
        value = value.what
    return shown(value) if made else type(value).__name__


def read_pickle(
    file: IO[bytes], path: Path, *, persistent: Callable[[object], object] = lambda found: found
) -> object:
    """Read the pickle that begins at the place of `file`; it is left after its end.

    Args:
        file: Anything with read, readline and tell.
        path: Where it comes from, for the errors.
        persistent: Makes the value of what lies outside of the pickle, out of its id.

    Returns:
        Dicts, lists (sets too), tuples, texts, bytes, numbers, and Global and Made for all else.

    Raises:
        WeightsError: It asks for what runs programs, or is far too long.
        READ_FAULTS: It is no pickle.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, object] = {}

    def since_mark() -> list[Any]:
        start = marks.pop()
        found = stack[start:]
        del stack[start:]
        return found

    for number, (opcode, found, _) in enumerate(pickletools.genops(file)):
        if number == _MOST_OPCODES:
            raise WeightsError(
                f"{shown(path)} holds more than {_MOST_OPCODES:,} things beside its tensors: no "
                "checkpoint does. Save the state_dict alone."
            )
        arg: Any = found
        name = opcode.name
        if name in _AS_THEY_ARE:
            stack.append(arg)
            continue
        match name:
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                memo[arg] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET" | "GET":
                stack.append(memo[arg])
            case "MARK":
                marks.append(len(stack))
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "EMPTY_LIST" | "EMPTY_SET":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                start = len(stack) - int(name[-1])
                stack[start:] = [tuple(stack[start:])]
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "LIST" | "FROZENSET":
                stack.append(since_mark())
            case "DICT":
                stack.append(_put({}, since_mark()))
            case "APPENDS" | "ADDITEMS" | "APPEND":
                added = [stack.pop()] if name == "APPEND" else since_mark()
                if not isinstance(stack[-1], Made):  # a kind of list: nobody asks what is in it
                    stack[-1].extend(added)
            case "SETITEMS" | "SETITEM":
                pairs = since_mark() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
                _put(stack[-1].entries if isinstance(stack[-1], Made) else stack[-1], pairs)
            case "GLOBAL":
                stack.append(_global(*arg.split(" ", 1), path=path))
            case "STACK_GLOBAL":
                stack.append(_global(stack.pop(-2), stack.pop(), path=path))
            case "REDUCE" | "NEWOBJ":
                stack.append(Made(stack.pop(-2), stack.pop()))
            case "NEWOBJ_EX":
                stack.append(Made(stack.pop(-3), stack.pop(-2), state=stack.pop()))
            case "OBJ":
                what, *args = since_mark()
                stack.append(Made(what, tuple(args)))
            case "INST":
                what = _global(*arg.split(" ", 1), path=path)
                stack.append(Made(what, tuple(since_mark())))
            case "BUILD":
                state = stack.pop()
                if isinstance(stack[-1], Made):
                    stack[-1].state = state
            case "BINPERSID":
                stack.append(persistent(stack.pop()))
            case "POP" if not marks or marks[-1] != len(stack):
                stack.pop()
            case "POP" | "POP_MARK":
                since_mark()
            case "DUP":
                stack.append(stack[-1])
            case "STOP":
                return stack.pop()
            case "PROTO" | "FRAME":
                pass
            case _:
                raise ValueError(f"its pickle has {name}, which no checkpoint has")
    raise ValueError("its pickle has no end")


def _put(entries: dict[object, object], flat: list[object]) -> dict[object, object]:
    """Put keys and values, in turn, into a dict.

    Of keys that are tuples only flat ones: to hash those of tuples of tuples may take for ever.
    """
    for key, value in zip(flat[::2], flat[1::2], strict=True):
        parts = key if isinstance(key, tuple) else () if isinstance(key, Global | Made) else (key,)
        if not all(isinstance(part, _PLAIN) for part in parts):
            raise ValueError("its pickle has a key of a dict that is neither text nor number")
        entries[key] = value
    return entries


def _global(module: object, name: object, *, path: Path) -> Global:
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueError("its pickle names a class by what is no text")
    root, is_builtin = module.partition(".")[0], module in ("builtins", "__builtin__", "io", "_io")
    if root in _SYSTEM or (is_builtin and name.partition(".")[0] in _BUILTINS):
        raise WeightsError(
            f"{shown(path)} asks for {shown(f'{module}.{name}')}, which no checkpoint needs: it "
            "attacks whoever unpickles it. k710 ran nothing of it, and takes nothing from it.\n"
            "Take the weights from another place."
        )
    return Global(module, name)
