"""Reads the plain data of a pickle without executing it.

Only the opcodes that build numbers, texts and containers are followed. Objects of classes become empty
dictionaries, and their entries are kept if the pickle sets them as those of a dictionary.
"""

from __future__ import annotations

import pickletools
import struct
from typing import Any

MAX_PICKLE_BYTES = 1 << 26
_NUMBERS = ("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT")
_TEXTS = (
    "UNICODE",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINUNICODE8",
    "STRING",
    "BINSTRING",
    "SHORT_BINSTRING",
)
_VALUES = frozenset({*_NUMBERS, *_TEXTS, "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"})
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Any] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}
_FROM_MARK: dict[str, Any] = {"TUPLE": tuple, "LIST": list, "FROZENSET": frozenset}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
# Opcodes that make an object of a class, and the number of operands that they take from the stack.
_OBJECTS = {"GLOBAL": 0, "STACK_GLOBAL": 2, "REDUCE": 2, "NEWOBJ": 2, "NEWOBJ_EX": 3, "BINPERSID": 1}
_OBJECTS |= {"PERSID": 0, "EXT1": 0, "EXT2": 0, "EXT4": 0, "NEXT_BUFFER": 0}


class _Mark:
    """The mark on the stack that starts a list of operands."""


class _Machine:
    """Stack and memo of a pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def execute(self, name: str, argument: Any) -> None:
        """Follow one opcode."""
        stack = self.stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _FROM_MARK:
            stack.append(_FROM_MARK[name](self._pop_to_mark()))
        elif name in _TUPLES:
            stack.append(tuple(self._pop(_TUPLES[name])))
        elif name in _OBJECTS:
            self._pop(_OBJECTS[name])
            stack.append({})
        elif not self._execute_memo(name, argument):
            self._execute_container(name)

    def _execute_memo(self, name: str, argument: Any) -> bool:
        if name in {"PUT", "BINPUT", "LONG_BINPUT"}:
            self.memo[argument] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in {"GET", "BINGET", "LONG_BINGET"}:
            self.stack.append(self.memo[argument])
        else:
            return False
        return True

    def _execute_container(self, name: str) -> None:
        if name == "MARK":
            self.stack.append(_Mark)
        elif name in {"POP", "BUILD"}:
            self._pop(1)
        elif name == "POP_MARK":
            self._pop_to_mark()
        elif name == "DUP":
            self.stack.append(self.stack[-1])
        elif name == "DICT":
            items = self._pop_to_mark()
            self.stack.append(dict(zip(items[::2], items[1::2], strict=True)))
        elif name in {"OBJ", "INST"}:
            self._pop_to_mark()
            self.stack.append({})
        elif name in {"SETITEM", "SETITEMS"}:
            items = self._pop(2) if name == "SETITEM" else self._pop_to_mark()
            self.stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif name in {"APPEND", "APPENDS", "ADDITEMS"}:
            items = self._pop(1) if name == "APPEND" else self._pop_to_mark()
            if isinstance(self.stack[-1], list):
                self.stack[-1].extend(items)
        elif name not in {"PROTO", "FRAME", "STOP", "READONLY_BUFFER"}:
            raise ValueError(f"opcode {name} is not known")

    def _pop(self, count: int) -> list[Any]:
        if count > len(self.stack):
            raise ValueError("the stack is empty")
        values = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return values

    def _pop_to_mark(self) -> list[Any]:
        start = len(self.stack) - 1 - self.stack[::-1].index(_Mark)
        values = self.stack[start + 1 :]
        del self.stack[start:]
        return values


def read_plain_pickle(data: bytes) -> Any:
    """Return numbers, texts, lists and dictionaries of a pickle. No object is created and nothing is called.

    Raises:
        ValueError: If the data is not a complete pickle, or is larger than `MAX_PICKLE_BYTES`.

    """
    if len(data) > MAX_PICKLE_BYTES:
        raise ValueError(f"{len(data):,} bytes; at most {MAX_PICKLE_BYTES:,} are read")
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(data):
            machine.execute(opcode.name, argument)
        return machine.stack[-1]
    except (IndexError, KeyError, TypeError, AttributeError, OverflowError, struct.error) as error:
        raise ValueError(f"not a pickle of plain data: {error}") from None
