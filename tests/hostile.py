"""Whole files as attackers have made them, or would: known attacks on model loaders, rebuilt, and their kin.

``FILES`` are of every format and must be refused; ``HARMLESS`` name code where this library never looks, and load.
Each is a function that makes the bytes. Attacks on one reader alone are in that reader's tests.
"""

from __future__ import annotations

import base64
import functools
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from checkpoints import (
    BODY,
    DATA,
    LEGACY,
    Call,
    Name,
    Stored,
    archive,
    dumps,
    encode,
    legacy,
    rnn,
    safetensors,
    storage,
    tensor,
)
from hostile_pickles import SHARED

GOLDEN = Path(__file__).parent / "golden"
TOUCH = "touch hacked"
REDUCE = b"cos\nsystem\n(X\x0c\x00\x00\x00touch hackedtR."


# Keras archives.


def object_of(class_name: str, module: str | None = "keras.layers", registered: str | None = None, **config) -> dict:
    return {"module": module, "class_name": class_name, "config": config, "registered_name": registered}


def network(*layers: dict) -> dict:
    return object_of("Sequential", "keras", name="net", layers=list(layers))


@functools.cache
def weights() -> bytes:
    """The HDF5 file of a sound Keras 3 archive."""
    with zipfile.ZipFile(GOLDEN / "keras" / "k3_sequential.keras") as file:
        return file.read("model.weights.h5")


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method, compresslevel=9) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


def keras(config: object, method: int = zipfile.ZIP_STORED, h5: bytes | None = None, **members: bytes) -> bytes:
    text = config if isinstance(config, bytes) else json.dumps(config, separators=(",", ":")).encode()
    own = {"config.json": text, "model.weights.h5": weights() if h5 is None else h5}
    return zipped(own | {"metadata.json": b'{"keras_version": "3.9.0"}'} | members, method)


def layer(item: dict) -> bytes:
    return keras(network(object_of("InputLayer", batch_shape=[None, None, 3]), item, object_of("Dense", units=2)))


def dense(**options) -> bytes:
    return layer(object_of("Dense", units=2, **options))


def one_dense(h5: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    return keras(network(object_of("Dense", units=2)), method, h5)


def function_of(module: str, name: str) -> dict:
    return {"module": module, "class_name": "function", "config": name, "registered_name": "function"}


def nested(depth: int, name: str = "m") -> bytes:
    item = object_of("LSTM", units=2)
    for _ in range(depth):
        item = object_of("Sequential", "keras", name=name, layers=[item])
    return keras(item)


def chained(length: int, method: int = zipfile.ZIP_STORED) -> bytes:
    calls = [[[["i" if index == 0 else str(index - 1), 0, 0]]] for index in range(length)]
    layers = [{"class_name": "Dropout", "config": {}, "name": str(i), "inbound_nodes": c} for i, c in enumerate(calls)]
    layers.insert(0, {"class_name": "InputLayer", "config": {}, "name": "i", "inbound_nodes": []})
    ends = {"input_layers": [["i", 0, 0]], "output_layers": [[str(length - 1), 0, 0]]}
    return keras({"class_name": "Functional", "config": {"layers": layers, **ends}}, method)


def cells(count: int) -> bytes:
    return layer(object_of("RNN", cell=object_of("StackedRNNCells", cells=[object_of("LSTMCell", units=1)] * count)))


CODE = base64.b64encode(b"\xe3\x00\x00\x00" + b"\x00" * 40).decode()
SHELL = object_of("Popen", "subprocess", args=TOUCH)

KERAS: dict[str, Callable[[], bytes]] = {
    "lambda with bytecode (CVE-2024-3660)": lambda: layer(object_of("Lambda", function=[CODE, None, None])),
    "lambda as an object": lambda: layer(object_of("Lambda", function=object_of("__lambda__", "builtins", code=CODE))),
    "a function of any module (CVE-2025-1550)": lambda: layer(function_of("os", "system")),
    "a class of any module": lambda: layer(SHELL),
    "Keras' own get_file (CVE-2025-8747)": lambda: layer(
        object_of("Lambda", function=function_of("keras.utils", "get_file"), arguments={"origin": "http://localhost:1"})
    ),
    "a switch for safety (CVE-2025-9906)": lambda: layer(function_of("keras.config", "enable_unsafe_deserialization")),
    "a vocabulary's path (CVE-2025-12058)": lambda: layer(object_of("StringLookup", vocabulary="/etc/passwd")),
    "a text vectorization's path": lambda: layer(object_of("TextVectorization", vocabulary="/etc/passwd")),
    "a pickled torch module": lambda: layer(
        object_of("TorchModuleWrapper", module=base64.b64encode(REDUCE).decode()),
    ),
    "a TensorFlow graph": lambda: layer(object_of("TFSMLayer", filepath="/etc", call_endpoint="serve")),
    "a class by its registered name": lambda: layer(object_of("Dense", None, "mine>Dense", units=2)),
    "a class of a script called Dense": lambda: layer(object_of("Dense", None, "Dense", units=2)),
    "a module that starts like Keras": lambda: layer(object_of("Dense", "keras_evil.layers", units=2)),
    "an activation of any module": lambda: dense(activation=function_of("os", "system")),
    "an activation class of any module": lambda: dense(activation=SHELL),
    "a dtype policy of any module": lambda: dense(dtype=SHELL),
    "a cell of any module": lambda: layer(object_of("RNN", cell=SHELL)),
    "a wrapped layer of any module": lambda: layer(object_of("TimeDistributed", layer=SHELL)),
    "a class name that is an object": lambda: layer({"class_name": {"class_name": "Dense"}, "config": {}}),
    "a class name that is a path": lambda: layer(object_of("../../Dense", units=2)),
    "units beyond memory": lambda: layer(object_of("LSTM", units=2**31 - 1)),
    "units beyond 64 bits": lambda: layer(object_of("LSTM", units=2**70)),
    "models in models": lambda: nested(40),
    "names that grow by nesting": lambda: nested(12, name="x" * 30_000),
    "a chain of 10,000 layers": lambda: chained(10_000),
    "a compressed chain of 200,000 layers": lambda: chained(200_000, zipfile.ZIP_DEFLATED),
    "a chain as long as may be": lambda: chained(4095),
    "a stack of 9,000 cells": lambda: cells(9000),
    "empty arrays": lambda: keras(b'{"a":[' + b"[]," * 300_000 + b"[]]}"),
    "small objects": lambda: keras(b'{"a":[' + b'{"a":0},' * 120_000 + b"0]}"),
    "long numbers": lambda: keras(b'{"a":[' + (b"9" * 4200 + b",") * 230 + b"0]}"),
    "empty arrays, compressed": lambda: keras(b'{"a":[' + b"[]," * 5_000_000 + b"[]]}", zipfile.ZIP_DEFLATED),
    "small objects, compressed": lambda: keras(b'{"a":[' + b'{"a":0},' * 2_000_000 + b"0]}", zipfile.ZIP_DEFLATED),
    "an archive for a configuration": lambda: keras(zipped({"config.json": b"{}"})),
    "a pickle for a configuration": lambda: keras(pickle.dumps({"class_name": "Sequential"})),
    "a pickle for weights": lambda: one_dense(REDUCE),
    "zeros for weights, compressed": lambda: one_dense(bytes(23 << 20), zipfile.ZIP_DEFLATED),
    "zeros behind the weights, compressed": lambda: one_dense(weights() + bytes(23 << 20), zipfile.ZIP_DEFLATED),
    "metadata of another kind": lambda: keras(network(), **{"metadata.json": b"[]"}),
}


def code_where_nothing_looks() -> bytes:
    """A sound archive whose initializers, optimizer, builds and assets name code."""
    with zipfile.ZipFile(GOLDEN / "keras" / "k3_sequential.keras") as file:
        config, metadata = json.loads(file.read("config.json")), file.read("metadata.json")
    config |= {"compile_config": {"optimizer": SHELL, "loss": function_of("os", "system")}, "build_config": SHELL}
    for item in config["config"]["layers"]:
        item["build_config"] = SHELL
        if "kernel_initializer" in item["config"]:
            item["config"]["kernel_initializer"] = SHELL
    assets = {"assets/../../hacked": b"x", "/hacked": b"x", "assets/evil.py": b"import os"}
    return keras(config, **{"metadata.json": metadata}, **assets)


# Keras HDF5 files.


def hdf5(fill: Callable) -> bytes:
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        fill(file)
    return buffer.getvalue()


def h5_model(config: dict) -> bytes:
    def fill(file) -> None:
        file.attrs["model_config"], file.attrs["keras_version"] = json.dumps(config), "2.15.0"
        file.attrs["layer_names"] = []

    return hdf5(fill)


def h5_link() -> bytes:
    import h5py

    def fill(file) -> None:
        file.create_group("layers/dense/vars")["0"] = h5py.ExternalLink("/etc/passwd", "/")

    return one_dense(hdf5(fill))


def h5_zeros(rows: int, columns: int, chunk: int, method: int = zipfile.ZIP_STORED, behind: int = 0) -> bytes:
    """An array of zeros of which the file stores at most the one chunk that there is."""

    def fill(file) -> None:
        options = {"chunks": (chunk, 1), "compression": "gzip", "compression_opts": 9}
        data = file.create_dataset("layers/dense/vars/0", (rows, columns), "f4", **options)
        if chunk == rows:
            data[:] = 0

    return one_dense(hdf5(fill) + bytes(behind), method)


def h5_shared_text(attribute: str, count: int) -> bytes:
    """``count`` texts that are all one long text of the file."""
    import h5py

    def fill(file) -> None:
        texts = np.array(["y" * 900_000, *["z"] * (count - 1)], dtype=object)
        file.attrs.create(attribute, texts, dtype=h5py.string_dtype())
        file.create_group("layers")

    data = bytearray(hdf5(fill))
    at = data.index(struct.pack("<L", 900_000))
    while data[at + 16 : at + 20] != struct.pack("<L", 1):  # a reference is length, address, index: 16 bytes
        at = data.index(struct.pack("<L", 900_000), at + 1)
    data[at : at + 16 * count] = data[at : at + 16] * count
    return bytes(data)


def h5_long_names() -> bytes:
    def fill(file) -> None:
        group = file.create_group("layers")
        for _ in range(15):
            group = group.create_group("x" * 60_000)

    return hdf5(fill)


def h5_pieces() -> bytes:
    def fill(file) -> None:
        for index in range(2000):
            file.attrs[f"layer_names{index}"] = [b"a" * 100] * 3

    return hdf5(fill)


HDF5: dict[str, Callable[[], bytes]] = {
    "a lambda in .h5 (CVE-2025-9905)": lambda: h5_model(
        {"class_name": "Sequential", "config": {"layers": [object_of("Lambda", None, function=[CODE, None, None])]}}
    ),
    "a link to host files (CVE-2026-1669)": h5_link,
    "a shape beyond memory (CVE-2026-0897)": lambda: h5_zeros(1 << 20, 1 << 20, 64),
    "zeros in one chunk": lambda: h5_zeros(6_000_000, 1, 6_000_000),
    "zeros in one chunk beyond the limit": lambda: h5_zeros(12_000_000, 1, 12_000_000),
    "zeros in zeros": lambda: h5_zeros(6_000_000, 1, 6_000_000, zipfile.ZIP_DEFLATED, behind=23 << 20),
    "a thousand names that are one text": lambda: h5_shared_text("layer_names", 1000),
    "twenty names that are one text": lambda: h5_shared_text("layer_names", 20),
    "long names of groups": h5_long_names,
    "names in 2,000 pieces": h5_pieces,
    "a magic number and zeros": lambda: b"\x89HDF\r\n\x1a\n" + bytes(10**6),
}


# PyTorch checkpoints.


def torch(root: object, **records: bytes) -> bytes:
    return archive(root, DATA, **records)


def program(opcodes: bytes) -> bytes:
    return torch(b"\x80\x02" + opcodes + b".")


def compressed(opcodes: bytes) -> bytes:
    return zipped({"net/data.pkl": b"\x80\x02" + opcodes + b"."}, zipfile.ZIP_DEFLATED)


def called(name: str, *args: object) -> bytes:
    """A checkpoint one of whose weights is what a call gives."""
    return torch(rnn(Call(name, args)))


def matrices(count: int, prefix: str = "") -> dict:
    return {f"{prefix}{i}.weight": tensor(storage("0", 12), (4, 3)) for i in range(count)}


COMMAND = encode(TOUCH)
SYSTEM = Call("os system", (TOUCH,))

TORCH: dict[str, Callable[[], bytes]] = {
    "os.system": lambda: program(b"cos\nsystem\n" + COMMAND + b"\x85R"),
    "os.system by INST": lambda: program(b"(" + COMMAND + b"ios\nsystem\n"),
    "os.system by OBJ": lambda: program(b"(cos\nsystem\n" + COMMAND + b"o"),
    "os.system by extension codes": lambda: program(b"\x82\x01)R"),
    "os.system by NEWOBJ_EX": lambda: program(b"cos\nsystem\n" + COMMAND + b"\x85}\x92"),
    "a class by BUILD": lambda: program(b"csubprocess\nPopen\n)\x81}X\4\0\0\0args" + COMMAND + b"sb"),
    "eval for weights": lambda: called("builtins eval", "__import__('os').system('touch hacked')"),
    "bytes that are a pickle": lambda: called("torch.storage _load_from_bytes", REDUCE.decode("latin-1")),
    "an array of objects": lambda: called("numpy.core.multiarray _reconstruct", Name("numpy ndarray"), (0,), "b"),
    "shared memory by name": lambda: called("torch.multiprocessing.reductions rebuild_storage_filename", "/x", "/y"),
    "shared memory by descriptor": lambda: called("torch.multiprocessing.reductions rebuild_storage_fd", 0, 1, 2),
    "a wrapper subclass": lambda: called("torch._utils _rebuild_wrapper_subclass", Name("os system"), TOUCH),
    "a tensor of a device": lambda: called("torch._utils _rebuild_device_tensor_from_numpy", TOUCH),
    "a quantized tensor": lambda: called("torch._utils _rebuild_qtensor", storage("0", 12), 0, (4, 3), (3, 1)),
    "a storage that is a path": lambda: torch(rnn(tensor(storage("../../../../etc/passwd", 12), (4, 3)))),
    "a class with its source": lambda: torch(Stored(("module", SYSTEM, "x.py", "import os"))),
    "a state that is a class": lambda: torch({"w": Call("collections Counter", (), {"__class__": Name("os system")})}),
    "TorchScript with code": lambda: torch(Call("__torch__.Net", (), {}), **{"code/__torch__.py": b"import os"}),
    "os.system before the magic number": lambda: dumps(SYSTEM),
    "os.system as the protocol": lambda: legacy(rnn(), ["0", "1"], BODY, [LEGACY[0], SYSTEM, {}]),
    "os.system as the checkpoint": lambda: legacy(SYSTEM, [], b""),
    "a tar archive (CVE-2025-32434)": lambda: b"sys_info".ljust(257, b"\0") + b"ustar\0" + REDUCE,
    "a pickle before an archive": lambda: dumps({"a": 1}) + torch(rnn()),
    "16 million opcodes, compressed": lambda: compressed(b"}" + b"NNs" * 5_300_000),
    "8 million numbers, compressed": lambda: compressed(b"K\1" * 8_000_000),
    "as many opcodes as may be, compressed": lambda: compressed(b"}" + b"NNs" * 340_000),
    "a million opcodes": lambda: torch(b"\x80\x02}" + b"NNs" * 320_000 + b"."),
    "4,000 tensors": lambda: torch(matrices(4000)),
    "prefixes to strip": lambda: torch(matrices(900, "module." * 130)),
}


# safetensors and the native file.


def described(text: str) -> bytes:
    return safetensors({"__metadata__": {"lstm_fast.format": "1", "lstm_fast.sha256": "", "lstm_fast.model": text}})


def text_entries(start: bytes) -> bytes:
    return safetensors(b'{"__metadata__":{' + start + b",".join(b'"%d":"a"' % i for i in range(60_000)) + b"}}")


EMPTY = {"dtype": "F32", "shape": [0, 0], "data_offsets": [0, 0]}

SAFETENSORS: dict[str, Callable[[], bytes]] = {
    "14,000 empty tensors": lambda: safetensors({f"{i}.weight": EMPTY for i in range(14_000)}),
    "metadata of 60,000 entries": lambda: text_entries(b""),
    "an archive behind safetensors": lambda: safetensors({}) + torch(rnn()),
    "native metadata of 60,000 entries": lambda: text_entries(b'"lstm_fast.format":"1",'),
    "a native description of empty arrays": lambda: described("[" + "[]," * 300_000 + "[]]"),
    "a native version of many digits": lambda: safetensors({"__metadata__": {"lstm_fast.format": "9" * 500_000}}),
}

FILES = KERAS | HDF5 | TORCH | SAFETENSORS | SHARED
HARMLESS = {"code where nothing looks": code_where_nothing_looks}
