"""The inert pickle reader: it describes, and never imports, calls or builds by name."""

from __future__ import annotations

import argparse
import collections
import contextlib
import pickle
import pickletools
import struct
import time

import numpy as np
import pytest

from lstm_fast.errors import ModelFormatError, ModelLimitError, UnsupportedModelError
from lstm_fast.importers import _pickle
from lstm_fast.importers._pickle import Global, Record
from lstm_fast.limits import Limits


def read(data: bytes, limits: Limits | None = None, known=None):
    value, end = _pickle.load(data, 0, limits or Limits(), known or {}, lambda pid: ("persistent", pid))
    assert end <= len(data)
    return value


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 0, 255, 65535, -1, 2**31, -(2**31), 2**70, -(2**70), 0.5, float("inf"),
        "", "text \u00fc", "x" * 300, [], [1], [1, 2], (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), {}, {"a": 1},
        {"a": 1, 2: [3, (4, {"b": None})], 1.5: True, None: "n"},
    ],
    ids=repr,
)  # fmt: skip
def test_plain_values(value, protocol):
    assert read(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_bytes(protocol):
    for value in (b"", b"abc", bytes(300)):
        assert read(pickle.dumps(value, protocol)) == value
    if protocol == 5:
        assert read(pickle.dumps(bytearray(b"abc"), protocol)) == b"abc"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_objects_become_records(protocol):
    found = read(pickle.dumps(argparse.Namespace(a=1, b=[2]), protocol))
    assert isinstance(found, Record)
    assert found.name == "argparse.Namespace"
    assert found.state == {"a": 1, "b": [2]}
    found = read(pickle.dumps(collections.defaultdict(list, {1: 2}), protocol))
    assert found.entries == {1: 2}
    assert found.args == (Global(f"{'__builtin__' if protocol == 2 else 'builtins'}.list"),)
    found = read(pickle.dumps(collections.deque([1, 2]), protocol))
    assert found.elements == [1, 2]
    assert isinstance(read(pickle.dumps(np.float64(3), protocol)), Record)
    assert read(pickle.dumps(print, protocol)).name.endswith("print")


@pytest.mark.parametrize("protocol", [4, 5])
def test_sets_become_lists(protocol):
    assert sorted(read(pickle.dumps({1, 2, 3}, protocol))) == [1, 2, 3]
    assert sorted(read(pickle.dumps(frozenset({1, 2}), protocol))) == [1, 2]


def test_known_globals_call_their_own_function():
    data = pickle.dumps(collections.OrderedDict(a=1), 2)
    assert read(data, known={"collections.OrderedDict": lambda args: {}}) == {"a": 1}


def test_shared_and_recursive_values():
    shared = [1]
    value = read(pickle.dumps((shared, shared), 2))
    assert value[0] is value[1]
    loop: list = []
    loop.append(loop)
    value = read(pickle.dumps(loop, 2))
    assert value[0] is value
    recursive = ([],)
    recursive[0].append(recursive)
    value = read(pickle.dumps(recursive, 2))
    assert value[0][0] is value


def test_keys_that_cannot_be_hashed_are_kept_by_identity():
    data = b"\x80\x02}(]K\x02)K\x03u."  # {[]: 2, (): 3}
    assert list(read(data).values()) == [2, 3]


def test_records_as_keys_and_attributes_of_plain_data():
    class_key = b"\x80\x02}cos\nsystem\nK\x01s."
    assert list(read(class_key).values()) == [1]
    with_state = b"\x80\x02}}X\x01\x00\x00\x00aK\x01sb."
    assert read(with_state) == {}


def test_offset_and_end():
    data = b"junk" + pickle.dumps(1, 2) + pickle.dumps("two", 2)
    value, end = _pickle.load(data, 4, Limits(), {}, lambda pid: pid)
    assert value == 1
    assert _pickle.load(data, end, Limits(), {}, lambda pid: pid) == ("two", len(data))


OUTSIDE = {"I1\n", "L1L\n", "S'a'\n", "F1.0\n", "g0\n", "Pid\n", "Va\n"}


@pytest.mark.parametrize("text", sorted(OUTSIDE))
def test_text_opcodes_are_outside_the_set(text):
    with pytest.raises(UnsupportedModelError, match="outside the set"):
        read(text.encode() + b".")


@pytest.mark.parametrize("stack", [b"", b"N", b"(NN", b"}", b"]NN", b"cos\nsystem\n)"])
@pytest.mark.parametrize("operand", [b"", b"\x01" * 40, b"a\nb\n" * 20])
def test_every_opcode_of_python_is_taken_or_refused(stack, operand):
    for opcode in pickletools.opcodes:
        with contextlib.suppress(ModelFormatError):
            read(stack + opcode.code.encode("latin-1") + operand + b".")


MALFORMED = {
    "nothing": b"",
    "cut in an opcode": b"\x80",
    "no stop": b"N",
    "stop on nothing": b".",
    "pop on nothing": b"0.",
    "mark missing": b"t.",
    "value under a mark": b"N(Nt0a.",
    "mark under the stop": b"N(.",
    "append to a number": b"K\x01K\x02a.",
    "set in a list": b"]K\x01K\x02s.",
    "odd pairs": b"}(K\x01u.",
    "unknown memo": b"h\x07.",
    "unknown long memo": b"j\x07\x00\x00\x00.",
    "memo of nothing": b"q\x00.",
    "string past the end": b"X\xff\xff\xff\xffabc",
    "bytes past the end": b"\x8e" + b"\xff" * 8 + b"abc",
    "negative long": b"\x8b\xff\xff\xff\xffabc",
    "frame past the end": b"\x80\x04\x95" + b"\xff" * 8 + b"N.",
    "global without end": b"cos" + b"x" * 3000,
    "name that is no text": b"K\x01K\x02\x93.",
    "call of a number": b"K\x01)R.",
    "call without a tuple": b"cos\nsystem\nK\x01R.",
    "class that is a list": b"])\x81.",
    "state for a number": b"K\x01}b.",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(name):
    with pytest.raises(ModelFormatError):
        read(MALFORMED[name])


HOSTILE = {
    "os.system": b"cos\nsystem\n(X\x04\x00\x00\x00exittR.",
    "stack global": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04exit\x85R.",
    "eval": b"c__builtin__\neval\n(X\x06\x00\x00\x001/0   tR.",
    "newobj": b"\x80\x02csubprocess\nPopen\n)\x81}b.",
    "getattr chain": b"cbuiltins\ngetattr\n(cbuiltins\n__import__\nX\x08\x00\x00\x00__self__tR.",
    "global of a missing module": b"cno_such_module\nanything\n)R.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_code_stays_a_description(name):
    assert isinstance(read(HOSTILE[name]), Record)


def elapsed(data: bytes, error: type[Exception] | None) -> float:
    start = time.process_time()
    if error:
        with pytest.raises(error):
            read(data)
    else:
        read(data)
    return time.process_time() - start


BOMBS = {
    "nested marks": (b"(" * 10**6, ModelLimitError),
    "nested tuples": (b")" + b"\x85" * 10**6 + b".", ModelLimitError),
    "tuples of themselves": (b")" + b"2\x86" * 50_000 + b".", None),
    "lists of themselves by memo": (b"]q\x00" + b"(h\x00h\x00e" * 10_000 + b".", None),
    "nested dicts": (b"}" * 10**6, ModelLimitError),
    "memo": (b"N" + b"".join(b"r" + struct.pack("<L", i) for i in range(200_000)), ModelLimitError),
    "huge memo index": (b"Nr\xff\xff\xff\xff0j\xff\xff\xff\xff.", None),
    "huge integer": (b"\x8b" + struct.pack("<L", 10**6) + b"\x7f" * 10**6 + b".", UnsupportedModelError),
    "numbers that collide": (
        b"}(" + b"".join(b"\x8a\x0b" + (k * (2**61 - 1)).to_bytes(11, "little") + b"N" for k in range(60_000)) + b"u.",
        None,
    ),
    "tuples as keys": (b"}(" + b"K\x01K\x02\x86N" * 90_000 + b"u.", None),
    "many numbers": (b"K\x01" * 500_000 + b".", None),
    "deep key": (b"}(" + b")" + b"2\x86" * 40_000 + b"Nu.", None),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_cost_no_more_than_their_size(name):
    data, error = BOMBS[name]
    assert elapsed(data, error) < 2
