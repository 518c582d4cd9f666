"""The program of the disposable process that parses one HDF5 file; see :mod:`lstm_fast.importers._hdf5`.

Run as a script, never imported: stdin is the file, stdout takes the result, argv[1] is a JSON object of limits. It
shares no code with the package, so that its start costs little more than importing h5py.

Result: 8 bytes of length (little-endian), a JSON header of that length, then the arrays' bytes in the header's order.
Exit status 0: done; 3: refused, and the header is ``{"kind": ..., "message": ...}``; anything else: it went wrong.
"""

import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path


def refuse(kind, message):
    """Replace whatever has been written by a refusal, and end."""
    head = json.dumps({"kind": kind, "message": message}).encode()
    os.ftruncate(1, 0)
    os.lseek(1, 0, os.SEEK_SET)
    os.write(1, len(head).to_bytes(8, "little") + head)
    os._exit(3)


REQUEST = json.loads(sys.argv[1])
sys.path[:] += REQUEST["paths"]
try:
    import h5py
except ImportError as error:
    refuse("unsupported", f"reading HDF5 needs h5py, which cannot be imported: {error}")
try:
    import resource
except ImportError:  # not a POSIX system: the parent's clock is the only guard
    resource = None

#: Attributes of the file or of its model_weights group that say what the model is.
DESCRIPTIONS = ("model_config", "keras_version", "backend")
#: Groups of the Keras 3 layout that hold weights; the others hold the optimizer and metrics.
MODERN = ("layers", "_layer_checkpoint_dependencies", "vars")
MAX_DEFLATE_RATIO = 1032
#: H5LT_FILE_IMAGE_DONT_COPY | H5LT_FILE_IMAGE_DONT_RELEASE: the file's bytes stay where Python has them.
IN_PLACE = 6


class RefusalError(Exception):
    """What is wrong with the file: kind is "format", "unsupported" or "limit:<name of the limit>"."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


def main():
    data = sys.stdin.buffer.read()
    warm_up()
    if resource is not None:
        confine(REQUEST["memory"], REQUEST["seconds"], REQUEST["output"])
    with h5py.File(h5py.h5f.open_file_image(data, IN_PLACE), "r") as file:
        header, datasets = describe(file)
        head = json.dumps(header).encode()
        limit("header_bytes", len(head), "description of the HDF5 file in bytes")
        out = sys.stdout.buffer
        out.write(len(head).to_bytes(8, "little") + head)
        for entry, dataset in zip(header["datasets"], datasets, strict=True):
            out.write(dataset.astype(entry["dtype"])[()])
        out.flush()


def warm_up():
    """Read one of each kind of thing, so that Python imports now what it would import on first use."""
    with h5py.File("warm-up", "w", driver="core", backing_store=False) as file:
        file.attrs["text"] = "a"
        file.attrs["texts"] = [b"a"]
        file.create_dataset("array", data=[1.0], chunks=(1,), compression="gzip", shuffle=True, fletcher32=True)
        strings(file, "text")
        strings(file, "texts")
        check_storage("array", file["array"])
        hard_link(file, "array", "").astype("<f4")[()].tobytes()


def confine(memory, seconds, output):
    """From here on: no more memory, processor time or output than stated, and no file or socket can be opened."""
    try:
        memory += int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()
    except OSError:
        memory = resource.RLIM_INFINITY  # no way to tell how much is in use already; the clock still guards
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # a parent that ignores it would have it ignored here
    signal.setitimer(signal.ITIMER_PROF, seconds)  # SIGPROF ends the process; the limit below is coarse, but for good
    seconds += int(time.process_time()) + 1
    for name, value, hard in (
        ("AS", memory, memory),
        ("CPU", seconds, seconds + 1),
        ("FSIZE", output, output),
        ("NOFILE", 0, 0),
        ("CORE", 0, 0),
    ):
        kind = getattr(resource, f"RLIMIT_{name}")
        allowed = resource.getrlimit(kind)[1]
        try:
            resource.setrlimit(kind, (lower(value, allowed), lower(hard, allowed)))
        except (ValueError, OSError):  # macOS does not take every limit
            continue


def lower(value, allowed):
    """The tighter of two limits; RLIM_INFINITY is -1 to Python."""
    infinite = resource.RLIM_INFINITY
    return allowed if value == infinite else value if allowed == infinite else min(value, allowed)


def limit(name, value, what):
    if value > REQUEST["limits"][name]:
        raise RefusalError(f"limit:{name}", f"{what}: expected at most {REQUEST['limits'][name]}, got {value}")


def describe(file):
    """The JSON header and, in its order, the datasets whose values follow it."""
    header = {"attributes": {}, "layers": None, "datasets": [], "others": {}}
    root = hard_link(file, "model_weights", "") if "model_weights" in file else file
    for group in (root, file):
        for name in DESCRIPTIONS:
            value = strings(group, name)
            if value:
                header["attributes"][name] = "".join(value)
    if strings(root, "layer_names") is not None:
        header["layers"] = legacy_layers(root)
        found = [(path, dataset) for _, weights in header["layers"] for path, dataset in weights]
        header["layers"] = [[name, [path for path, _ in weights]] for name, weights in header["layers"]]
    elif any(name in file for name in MODERN):
        seen = itertools.count(1)
        found = [item for name in MODERN if name in file for item in walk(file, name, "", 1, seen)]
    else:
        raise RefusalError("format", f"expected a Keras file, found an HDF5 file holding {list(file)[:5]!a}")
    limit("entries", len(found), "datasets of the HDF5 file")
    total, datasets = 0, []
    for path, dataset in found:
        if dataset.dtype.kind != "f" or dataset.dtype.itemsize not in (4, 8):
            header["others"][path] = str(dataset.dtype)
            continue
        total += check_storage(path, dataset)
        limit("unfolded", total, f"bytes of arrays up to {path!r}")
        header["datasets"].append(
            {"path": path, "dtype": f"<f{dataset.dtype.itemsize}", "shape": [int(n) for n in dataset.shape]}
        )
        datasets.append(dataset)
    return header, datasets


def legacy_layers(root):
    """[(layer name, [(path, dataset)])] in the order of the layer_names and weight_names attributes."""
    names = strings(root, "layer_names")
    if "top_level_model_weights" in root:
        names = [*names, "top_level_model_weights"]
    limit("entries", len(names), "layers of the HDF5 file")
    layers, count = [], 0
    for name in names:
        group = descend(root, name)
        weights = []
        for weight in strings(group, "weight_names") or ():
            count += 1
            limit("entries", count, "weights of the HDF5 file")
            weights.append((f"{name}/{weight}", descend(group, weight, f"{name}/")))
        layers.append((name, weights))
    if any(not is_dataset(dataset) for _, weights in layers for _, dataset in weights):
        raise RefusalError("format", "a weight listed in weight_names is a group, expected a dataset")
    return layers


def descend(group, path, where=""):
    """Follow a path of one or more names, each a hard link."""
    for part in [part for part in path.split("/") if part]:
        if is_dataset(group) or part not in group:
            raise RefusalError(
                "format", f"{where + path!r} is listed, but not in the file; it is damaged or incomplete"
            )
        group = hard_link(group, part, where)
    return group


def walk(group, name, where, depth, seen):
    """Every dataset at or below ``group[name]`` with its path; ``seen`` counts objects, against links in a circle."""
    limit("nesting", depth, f"depth of groups at {where + name!r}")
    limit("entries", next(seen), "objects of the HDF5 file")
    item = hard_link(group, name, where)
    path = where + name
    if is_dataset(item):
        return [(path, item)]
    return [found for child in item for found in walk(item, child, path + "/", depth + 1, seen)]


def hard_link(group, name, where):
    path = text(where + name)
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise RefusalError(
            "unsupported",
            f"{path!r} is a link to another place (an external or soft link), which Keras never writes and lstm_fast"
            " never follows; copy the data into the file",
        )
    item = group[name]
    if not isinstance(item, h5py.Group | h5py.Dataset):
        raise RefusalError("format", f"{path!r}: expected a group or a dataset, got a {type(item).__name__}")
    return item


def is_dataset(item):
    return hasattr(item, "shape")


def check_storage(path, dataset):
    """Bytes of the dataset, once it is sure that the file holds them all itself."""
    plist = dataset.id.get_create_plist()
    layout = plist.get_layout()
    if layout not in (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED) or plist.get_external_count():
        raise RefusalError(
            "unsupported", f"{path!r} takes its values from other files (external or virtual); copy them into this one"
        )
    known = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
    filters = [plist.get_filter(index) for index in range(plist.get_nfilters())]
    for code, _, _, name in filters:
        if code not in known:
            raise RefusalError("unsupported", f"{path!r} is stored with the filter {code} {name!r}; write it with gzip")
    if dataset.shape is None:
        raise RefusalError("format", f"{path!r} has no values (a null dataspace)")
    size = dataset.dtype.itemsize
    for extent in dataset.shape:
        size *= int(extent)
    stored = dataset.id.get_storage_size()
    deflated = any(code == h5py.h5z.FILTER_DEFLATE for code, *_ in filters)
    if size > stored * (MAX_DEFLATE_RATIO if deflated else 1):
        raise RefusalError(
            "format", f"{path!r} declares {size} bytes, but the file stores {stored} for it; it is damaged"
        )
    if layout == h5py.h5d.CHUNKED and size:
        expected = 1
        for extent, chunk in zip(dataset.shape, dataset.chunks, strict=True):
            expected *= -(-int(extent) // chunk)
        if dataset.id.get_num_chunks() != expected:
            raise RefusalError("format", f"{path!r} lacks some of its {expected} chunks; the file is incomplete")
        size_of_chunk = dataset.dtype.itemsize
        for extent in dataset.chunks:
            size_of_chunk *= extent
        limit("unfolded", size_of_chunk, f"bytes of one chunk of {path!r}")
    return size


def strings(item, name):
    """The text attribute ``name`` as a list; its pieces name0, name1, ... where it was split; None where absent."""
    if name in item.attrs:
        return text_attribute(item, name)
    pieces, characters, found = 0, 0, None
    while f"{name}{pieces}" in item.attrs:
        limit("entries", pieces, f"pieces of the attribute {name!r}")
        piece = text_attribute(item, f"{name}{pieces}")
        characters += sum(map(len, piece))
        limit("header_bytes", characters, f"characters of the attribute {name!r}")
        found = [] if found is None else found
        found.extend(piece)
        pieces += 1
    return found


def text_attribute(item, name):
    attribute = item.attrs.get_id(name)
    if attribute.shape == (0,):
        return []
    if h5py.check_string_dtype(attribute.dtype) is None or attribute.shape is None or len(attribute.shape) > 1:
        raise RefusalError(
            "format", f"attribute {name!r}: expected text, got dtype {attribute.dtype} and shape {attribute.shape}"
        )
    limit("header_bytes", attribute.get_storage_size(), f"bytes of the attribute {name!r}")
    value = item.attrs[name]
    values = [text(v) for v in ([value] if attribute.shape == () else value)]
    limit("header_bytes", sum(map(len, values)), f"characters of the attribute {name!r}")
    return values


def text(value):
    try:
        return value.decode() if isinstance(value, bytes) else str(value).encode().decode()
    except UnicodeError:
        raise RefusalError("format", f"{value!r:.100} is not UTF-8; the file is damaged") from None


if __name__ == "__main__":
    try:
        main()
    except RefusalError as refusal:
        refuse(refusal.kind, str(refusal))
    except MemoryError:
        refuse("format", "it asks for more memory than its size can justify; it is damaged")
    except Exception as error:
        refuse("format", f"the HDF5 library cannot read it ({type(error).__name__}: {ascii(str(error))[1:-1]:.300})")
