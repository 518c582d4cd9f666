"""An inert pickle reader: it builds plain data and descriptions, and never imports, calls or constructs by name.

A pickle is a program for a stack machine. This machine has a closed set of opcodes; the few names a checkpoint needs
are looked up in a table the caller passes, every other name becomes an inert :class:`Record` of what the pickle asked
for. Each opcode costs time and memory in proportion to its bytes, so hostile input is linear as well: what it refers
back to is short where it is copied, and counts again where it may be looked at item by item.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import ModelFormatError, UnsupportedModelError
from ..limits import Limits

_HIGHEST_PROTOCOL = 5
_LONGEST_INTEGER = 255  # bytes; no size or identifier is near it
_LONGEST_NAME = 255  # characters of a global

#: Of a call that means something.
MOST_ARGUMENTS = 16


@dataclass(frozen=True)
class Global:
    """A class or function by its dotted name, as the pickle gives it."""

    name: str


@dataclass(eq=False, slots=True)
class Record:
    """An object that was not built: what it would have been made from."""

    name: str
    args: object = None
    state: object = None
    entries: dict = field(default_factory=dict)
    elements: list = field(default_factory=list)


class _Key:
    """A dictionary key compared by identity, for what cannot be hashed or could be made to collide."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


def load(
    data: bytes | memoryview,
    offset: int,
    limits: Limits,
    known: dict[str, Callable[[tuple], object]],
    persistent: Callable[[object], object],
) -> tuple[object, int]:
    """Read one pickle.

    Args:
        data, offset: where the pickle starts.
        limits: ``memo`` bounds containers and memo entries, ``nesting`` their depth.
        known: functions for calls of globals, by dotted name; each takes the argument tuple.
        persistent: turns a persistent id into an object.

    Returns:
        The object and the offset behind the pickle.

    Raises:
        ModelFormatError, UnsupportedModelError, ModelLimitError: on anything but a sound pickle.
    """
    machine = _Machine(data, offset, limits, known, persistent)
    return machine.run(), machine.at


class _Machine:
    def __init__(self, data, offset, limits, known, persistent) -> None:
        self.size = len(data)
        self.data = memoryview(data)[: limits.header_bytes]
        self.at = offset
        self.limits = limits
        self.known = known
        self.persistent = persistent
        self.stack: list = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}
        self.objects = 0

    def run(self) -> object:
        data = self.data
        while True:
            if self.at >= len(data):
                self.take(1)
            code = data[self.at]
            self.at += 1
            if code == _STOP:
                return self.pop()
            action = _ACTIONS.get(code)
            if action is None:
                raise UnsupportedModelError(
                    f"pickle opcode {code:#04x} at byte {self.at - 1} is outside the set that checkpoints use; re-save"
                    " with torch.save(model.state_dict(), path)"
                )
            action(self)

    def take(self, size: int) -> memoryview:
        end = self.at + size
        if end > len(self.data):
            if end <= self.size:
                self.limits.check("header_bytes", end, "size in bytes of the pickles")
            raise ModelFormatError(
                f"pickle: expected {size} bytes at byte {self.at}, the file has {self.size - self.at} left;"
                " it is damaged or cut short"
            )
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def line(self) -> str:
        window = bytes(self.data[self.at : self.at + _LONGEST_NAME])
        end = window.find(b"\n")
        if end < 0:
            raise ModelFormatError(f"pickle: expected a name at byte {self.at}; the file is damaged")
        self.at += end + 1
        return window[:end].decode("utf-8", "backslashreplace")

    def fault(self, expected: str) -> ModelFormatError:
        return ModelFormatError(f"pickle: expected {expected} before byte {self.at}; the file is damaged")

    # The stack.

    def push(self, value: object) -> None:
        self.stack.append(value)

    def push_object(self, value: object) -> None:
        self.objects += 1
        self.limits.check("memo", self.objects, "containers and objects in the pickle")
        self.stack.append(value)

    def pop(self) -> object:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise self.fault("a value on the stack")
        return self.stack.pop()

    def top(self) -> object:
        value = self.pop()
        self.stack.append(value)
        return value

    def mark(self) -> None:
        self.marks.append(len(self.stack))
        self.limits.check("nesting", len(self.marks), "nested containers in the pickle")

    def pop_mark(self) -> list:
        if not self.marks:
            raise self.fault("a mark on the stack")
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def pop_tuple(self, size: int) -> tuple:
        return tuple([self.pop() for _ in range(size)][::-1])

    # Memo.

    def remember(self, index: int) -> None:
        self.memo[index] = self.top()
        self.limits.check("memo", len(self.memo), "memo entries of the pickle")

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise self.fault(f"memo entry {index}")
        self.push(self.memo[index])

    # Containers.

    def append(self, values: list) -> None:
        target = self.top()
        if isinstance(target, Record):
            target = target.elements
        if not isinstance(target, list):
            raise self.fault("a list to append to")
        target.extend(values)

    def dictionary(self) -> dict:
        target = self.top()
        if isinstance(target, Record):
            target = target.entries
        if not isinstance(target, dict):
            raise self.fault("a dictionary")
        return target

    def set_item(self) -> None:
        value, key = self.pop(), self.pop()
        self.dictionary()[_key(key)] = value

    def set_items(self, values: list) -> None:
        if len(values) % 2:
            raise self.fault("pairs of key and value")
        self.dictionary().update(zip(map(_key, values[::2]), values[1::2], strict=True))

    def new_dict(self) -> None:
        values = self.pop_mark()
        self.push_object({})
        self.set_items(values)

    # Names, calls and objects: described, never carried out.

    def name(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str) or len(module) + len(name) > _LONGEST_NAME:
            raise self.fault(f"the name of a global, at most {_LONGEST_NAME} characters,")
        self.push_object(Global(f"{module}.{name}"))

    def global_(self) -> None:
        self.name(self.line(), self.line())

    def reduce(self) -> None:
        function, args = self.pop_tuple(2)
        if not isinstance(function, Global) or not isinstance(args, tuple):
            raise self.fault("a global to call and its arguments")
        self.push_object(self.call(function.name, args) if function.name in self.known else Record(function.name, args))

    def new_object(self, operands: int) -> None:
        cls, *args = self.pop_tuple(operands)
        if not isinstance(cls, Global):
            raise self.fault("a class")
        plain = len(args) == 1 and isinstance(args[0], tuple)
        known = plain and cls.name in self.known
        self.push_object(self.call(cls.name, args[0]) if known else Record(cls.name, tuple(args)))

    def call(self, name: str, args: tuple) -> object:
        """What the call of a known global stands for, which may look at every item of a list among its arguments."""
        if len(args) > MOST_ARGUMENTS:
            raise self.fault(f"at most {MOST_ARGUMENTS} arguments for {name}")
        self.objects += sum(len(part) for part in args if isinstance(part, list))
        self.limits.check("memo", self.objects, "containers and objects in the pickle")
        return self.known[name](args)

    def build(self) -> None:
        """State for an object: kept for a record; on plain data it is an attribute such as ``_metadata``, not data."""
        state = self.pop()
        target = self.top()
        if isinstance(target, Record):
            target.state = state
        elif isinstance(target, list | tuple | str | bytes | int | float | None):
            raise self.fault("an object to give a state to")

    def persistent_id(self) -> None:
        self.push_object(self.persistent(self.pop()))

    # Numbers and framing.

    def integer(self, size: int) -> None:
        if size > _LONGEST_INTEGER:
            raise UnsupportedModelError(f"pickle: an integer of {size} bytes at byte {self.at} is no part of a model")
        self.push(int.from_bytes(self.take(size), "little", signed=True))

    def protocol(self) -> None:
        version = self.number(1)
        if not 2 <= version <= _HIGHEST_PROTOCOL:
            raise UnsupportedModelError(f"pickle protocol {version}; re-save with torch.save's default protocol")

    def frame(self) -> None:
        size = self.number(8)
        if size > self.size - self.at:
            raise ModelFormatError(f"pickle: a frame of {size} bytes at byte {self.at} runs past the end of the file")


def _key(key: object) -> object:
    """Hash only what is cheap to hash and whose hash a file cannot steer; everything else by identity."""
    if key is None or isinstance(key, str | bytes | bool | float):
        return key
    if isinstance(key, int) and key.bit_length() <= 64:
        return key
    return _Key(key)


def _text(piece: memoryview) -> str:
    return str(piece, "utf-8", "backslashreplace")


def _latin(piece: memoryview) -> str:
    return str(piece, "latin-1")


def _sized(width: int, convert: Callable[[memoryview], object]) -> Callable[[_Machine], None]:
    return lambda m: m.push(convert(m.take(m.number(width))))


_STOP = ord(".")

# Opcodes by Python's pickletools documentation. Sets become lists: nothing needs their hashing.
_ACTIONS: dict[int, Callable[[_Machine], None]] = {
    0x80: _Machine.protocol,
    0x95: _Machine.frame,
    ord("("): _Machine.mark,
    ord("0"): lambda m: m.pop_mark() if m.marks and m.marks[-1] == len(m.stack) else m.pop(),
    ord("1"): _Machine.pop_mark,
    ord("2"): lambda m: m.push(m.top()),
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("J"): lambda m: m.integer(4),
    ord("K"): lambda m: m.push(m.number(1)),
    ord("M"): lambda m: m.push(m.number(2)),
    0x8A: lambda m: m.integer(m.number(1)),
    0x8B: lambda m: m.integer(m.number(4)),
    ord("G"): lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
    ord("X"): _sized(4, _text),
    0x8C: _sized(1, _text),
    0x8D: _sized(8, _text),
    ord("T"): _sized(4, _latin),
    ord("U"): _sized(1, _latin),
    ord("B"): _sized(4, bytes),
    ord("C"): _sized(1, bytes),
    0x8E: _sized(8, bytes),
    0x96: _sized(8, bytes),
    ord("]"): lambda m: m.push_object([]),
    0x8F: lambda m: m.push_object([]),
    ord("l"): lambda m: m.push_object(m.pop_mark()),
    0x91: lambda m: m.push_object(m.pop_mark()),
    ord("a"): lambda m: m.append([m.pop()]),
    ord("e"): lambda m: m.append(m.pop_mark()),
    0x90: lambda m: m.append(m.pop_mark()),
    ord("}"): lambda m: m.push_object({}),
    ord("d"): _Machine.new_dict,
    ord("s"): _Machine.set_item,
    ord("u"): lambda m: m.set_items(m.pop_mark()),
    ord(")"): lambda m: m.push(()),
    ord("t"): lambda m: m.push_object(tuple(m.pop_mark())),
    0x85: lambda m: m.push_object(m.pop_tuple(1)),
    0x86: lambda m: m.push_object(m.pop_tuple(2)),
    0x87: lambda m: m.push_object(m.pop_tuple(3)),
    ord("q"): lambda m: m.remember(m.number(1)),
    ord("r"): lambda m: m.remember(m.number(4)),
    0x94: lambda m: m.remember(len(m.memo)),
    ord("h"): lambda m: m.recall(m.number(1)),
    ord("j"): lambda m: m.recall(m.number(4)),
    ord("c"): _Machine.global_,
    0x93: lambda m: m.name(*m.pop_tuple(2)),
    ord("R"): _Machine.reduce,
    0x81: lambda m: m.new_object(2),
    0x92: lambda m: m.new_object(3),
    ord("b"): _Machine.build,
    ord("Q"): _Machine.persistent_id,
}
