"""Checkpoints of few bytes that refer back, over and over, to what is long or wide: each was slow or large once."""

from __future__ import annotations

import struct
from collections.abc import Callable

from checkpoints import DATA, archive, encode, rnn, safetensors, storage, tensor


def program(opcodes: bytes) -> bytes:
    return archive(b"\x80\x02" + opcodes + b".", DATA)


def put(index: int) -> bytes:
    """Remember the top of the stack, and drop it."""
    return b"q" + bytes([index]) + b"0"


def get(index: int) -> bytes:
    return b"h" + bytes([index])


def module(children: bytes, parameters: bytes = b"", name: bytes = b"container\nSequential") -> bytes:
    """A pickled module, from opcodes that push the items of its dictionaries."""
    state = encode("_modules") + b"}(" + children + b"u" + encode("_parameters") + b"}(" + parameters + b"u"
    return b"ctorch.nn.modules." + name + b"\n)\x81}(" + state + b"ub"


RELU = module(b"", name=b"activation\nReLU")


def long_global() -> bytes:
    return program(encode("m" * 400_000) + put(0) + encode("n") + put(1) + (get(0) + get(1) + b"\x93") * 90_000)


def pairs_again() -> bytes:
    pairs = b"](" + b"".join(b"(J" + struct.pack("<i", key) + b"Nt" for key in range(20_000)) + b"e\x85"
    return program(b"ccollections\nOrderedDict\n" + put(0) + pairs + put(1) + (get(0) + get(1) + b"R") * 1500)


def many_arguments() -> bytes:
    start = encode(storage("0", 12)) + encode(0) + encode((4, 3)) + encode((3, 1))
    args = b"(" + start + b"N" * 200_000 + b"t"
    return program(b"ctorch._utils\n_rebuild_tensor_v2\n" + put(0) + args + put(1) + (get(0) + get(1) + b"R0") * 90_000)


def many_arguments_inside() -> bytes:
    start = encode(storage("0", 12)) + encode(0) + encode((4, 3)) + encode((3, 1))
    own = b"(" + start + b"N" * 200_000 + b"t"
    args = b"(ctorch._utils\n_rebuild_tensor_v2\nctorch\nTensor\n" + own + b"}t"
    outer = b"ctorch._tensor\n_rebuild_from_type_v2\n"
    return program(outer + put(0) + args + put(1) + (get(0) + get(1) + b"R0") * 90_000)


def long_key() -> bytes:
    pid = encode(("storage", 0, "k" * 500_000, "cpu", 12)).replace(encode(0), b"ctorch\nFloatStorage\n", 1)
    return program(pid + put(0) + (get(0) + b"Q0") * 90_000 + b"N")


def modules_without_names() -> bytes:
    """Two keys that are no names, for the same child, sixty levels deep."""
    code = module(b"")
    for level in range(60):
        code += put(level) + module(b"N" + get(level) + b"C\x00" + get(level))
    return program(code)


def children_without_names() -> bytes:
    children = b"".join(b"C\x03" + key.to_bytes(3, "little") + get(0) for key in range(100_000))
    return program(RELU + put(0) + module(children))


def state_of_many() -> bytes:
    """80,000 modules in a list that share 4,000 children."""
    children = b"".join(encode(str(key)) + get(0) for key in range(4000))
    state = b"}(" + encode("_modules") + b"}(" + children + b"uu"
    one = get(2) + b")\x81" + get(1) + b"b"
    start = RELU + put(0) + state + put(1) + b"ctorch.nn.modules.container\nSequential\n" + put(2)
    return program(start + b"](" + one * 80_000 + b"e")


def parameters_of_many() -> bytes:
    """4,000 names for a module of 80,000 parameters."""
    parameters = b"".join(b"J" + struct.pack("<i", key) + b"N" for key in range(80_000))
    children = b"".join(encode(str(key)) + get(0) for key in range(4000))
    return program(module(b"", parameters) + put(0) + module(children))


def overlapping_headers() -> bytes:
    """A zip archive of 400 members, whose local headers share one long extra field."""
    count, shared, size = 400, 49_000, 39
    body = directory = b""
    for index in range(count):
        name, at = b"%05d" % index, index * size
        room = min(0xFFFF, count * size + shared - at - 35)
        body += struct.pack("<4s5H3L2H", b"PK\3\4", 20, *[0] * 7, 5, room) + name
        body += struct.pack("<2H", 9, count * size - at - size)
        directory += struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, *[0] * 7, 5, *[0] * 5, at) + name
    body += bytes(shared)
    return body + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), len(body), 0)


def halves_out_of_one() -> bytes:
    wide = tensor(storage("0", 4, "HalfStorage"), (1, 11 << 20), 0, (0, 0))
    return archive(rnn(wide, tensor(storage("1", 1, "DoubleStorage"), (1, 1))), {"0": bytes(8), "1": bytes(8)})


def names_that_print_alike() -> bytes:
    return safetensors({name: {"dtype": "F32", "shape": [0, 0], "data_offsets": [0, 0]} for name in ("b\n", "b\\n")})


SHARED: dict[str, Callable[[], bytes]] = {
    "a long name of a global, often": long_global,
    "pairs of an OrderedDict, often": pairs_again,
    "a tensor of many arguments, often": many_arguments,
    "a tensor of many arguments in a typed one, often": many_arguments_inside,
    "a long key of a storage, often": long_key,
    "modules without names": modules_without_names,
    "children without names": children_without_names,
    "many modules with one state": state_of_many,
    "many names for one module's parameters": parameters_of_many,
    "local headers that overlap": overlapping_headers,
    "halves out of one, as doubles": halves_out_of_one,
    "tensors whose names print alike": names_that_print_alike,
    "numbers in a list for a bias": lambda: archive(rnn() | {"bias_ih_l0": [1] * 4}, DATA),
}
