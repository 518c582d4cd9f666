"""The build and the shape of the package: exported symbols, who imports whom, what importing it loads."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from importlib import metadata, util
from pathlib import Path

import pytest

import lstm_fast

PACKAGE = Path(lstm_fast.__file__).parent
ROOT = Path(__file__).parent.parent
FRAMEWORKS = {"torch", "keras", "tensorflow", "jax", "onnx", "onnxruntime"}


def module_name(path: Path) -> str:
    """Dotted name relative to the package: ``importers.torch``, ``spec``; the package itself is empty."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(path: Path, *, at_load_only: bool = False) -> set[str]:
    """Modules that ``path`` imports: those of the package as ``.spec`` or ``.importers.torch``, others by full name."""
    package = list(path.relative_to(PACKAGE).parts[:-1])
    found = set()
    for node in _at_load(ast.parse(path.read_text())) if at_load_only else ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = "." + ".".join([*package[: len(package) + 1 - node.level], *([base] if base else [])])
            found.add(base)
            found |= {f"{base.rstrip('.')}.{alias.name}" for alias in node.names}
    return {re.sub(r"^lstm_fast\b\.?", ".", name) for name in found}


def _at_load(node: ast.AST):
    """Every node that runs when the module is loaded: all but the bodies of functions and type-checking blocks."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        yield child
        yield from _at_load(child)


def touches(found: set[str], *modules: str) -> set[str]:
    """Those of ``found`` that are one of ``modules`` or inside it."""
    return {name for name in found for module in modules if name == module or name.startswith(module + ".")}


def own(found: set[str]) -> set[str]:
    """Those of ``found`` that are of this package."""
    return {name for name in found if name.startswith(".")}


@pytest.mark.parametrize("name", MODULES)
def test_frameworks_are_never_imported_at_load(name):
    assert not touches(imports(MODULES[name], at_load_only=True), *FRAMEWORKS)


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("importers")])
def test_importers_know_nothing_of_the_engine(name):
    assert not touches(imports(MODULES[name]), "._engine", ".model", ".cli")


def test_the_engine_knows_nothing_of_importers():
    for name in ("_engine.pyx", "_lf.pxd"):
        text = (PACKAGE / name).read_text()
        assert not re.search(r"^\s*(from|c?import)\b.*importers", text, re.MULTILINE), name
    assert not touches(imports(MODULES["model"], at_load_only=True), ".importers")


def test_the_middle_stands_alone():
    assert own(imports(MODULES["errors"])) == set()
    assert own(imports(MODULES["activations"])) == set()
    assert own(imports(MODULES["spec"])) == touches(imports(MODULES["spec"]), ".activations", ".errors")
    judge = imports(MODULES["reference"])
    assert own(judge) == touches(judge, ".activations", ".errors", ".spec")


def test_the_core_knows_no_python():
    for path in (ROOT / "csrc").glob("*.[ch]"):
        assert not re.search(r'#\s*include\s*[<"](Python|numpy)', path.read_text()), path.name


def test_a_run_allocates_nothing():
    """What runs in a call names no allocator; the bridge hands it its memory."""
    planning = {"plan.c", "pack.c", "memory.c", "lf_memory.h", "blas.c"}  # of blas.c what opens the library
    for path in (ROOT / "csrc").glob("*.[ch]"):
        if path.name not in planning:
            assert not re.search(r"alloc(_zeroed)?\(|strdup\(", path.read_text()), path.name


def test_the_extension_exports_one_symbol():
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("no nm (binutils) here")
    extension = util.find_spec("lstm_fast._engine").origin
    listing = subprocess.run([nm, "-D", "--defined-only", extension], capture_output=True, text=True, check=True)
    assert [line.split()[-1] for line in listing.stdout.splitlines()] == ["PyInit__engine"]


def test_the_licence_is_that_of_the_pinned_blas():
    pin = re.search(r"scipy-openblas32==([\d.]+)", (ROOT / "pyproject.toml").read_text())[1]
    try:
        wheel = metadata.distribution("scipy-openblas32")
    except metadata.PackageNotFoundError:
        pytest.skip("no scipy-openblas32 here to compare with")
    if wheel.version != pin:
        pytest.skip(f"scipy-openblas32 {wheel.version} is here, {pin} is vendored")
    [licence] = [file for file in wheel.files if file.name == "LICENSE.txt"]
    assert (ROOT / "LICENSES" / "scipy-openblas32.txt").read_text() == licence.read_text()


#: What a service that loads a native file and runs it must not wait for.
HEAVY = {
    *FRAMEWORKS,
    "h5py",
    "multiprocessing",
    "tqdm",
    "argparse",
    "matplotlib",
    "importlib.metadata",
    "pathlib",
    "secrets",
    "lstm_fast.reference",
    "lstm_fast.importers._pickle",
}


def loaded_by(statements: str) -> set[str]:
    """Modules that ``statements`` load on top of NumPy's."""
    script = f"import sys, numpy; seen = set(sys.modules); {statements}; print(*sorted(set(sys.modules) - seen))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(run.stdout.split())


def test_importing_the_package_loads_little():
    assert not touches(loaded_by("import lstm_fast"), *HEAVY, "safetensors")


def test_running_a_native_file_loads_little(golden):
    path = str(golden / "lstmf" / "v1-text.lstmf")
    loaded = loaded_by(f"import lstm_fast; lstm_fast.load({path!r}).predict(numpy.zeros((1, 2), int))")
    assert "lstm_fast.fileformat" in loaded
    assert not touches(loaded, *HEAVY)


def test_the_version_is_the_changelogs_newest():
    newest = re.search(r"^## \[?(\d[^\s\]]*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == lstm_fast.__version__
