"""Builds the extension ``lstm_fast._engine``: the C core, one instruction set per unit, under a Cython bridge.

``LSTM_FAST_BLAS=auto|system|none`` chooses the BLAS backend: ``auto`` vendors the library of the scipy-openblas32
wheel where that is installed, ``system`` takes the system's OpenBLAS, ``none`` builds without one.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from ctypes.util import find_library
from dataclasses import dataclass, field
from importlib import metadata, util
from pathlib import Path

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import OptionError
from setuptools.modified import newer_group

X86_64 = sysconfig.get_platform().endswith(("x86_64", "amd64"))
CSRC = Path("csrc")

#: Flags by instruction set. A unit's is the last word of its file name (``kernels_avx2.c``, ``kernels_avx2_f64.c``).
#: Where the compiler or the machine cannot, the units are left out and ``LF_HAVE_<ISA>`` is not defined.
ISA_FLAGS = {"avx2": ["-march=x86-64-v3"], "avx512": ["-march=x86-64-v4"]}
#: Every other unit: the binary must start on any machine of its kind, whatever -march the builder's CFLAGS ask for.
BASELINE = ["-march=x86-64"] if X86_64 else []

#: Of the kernels: loops begin with a line of the cache, however large the units are that the linker puts before them.
ALIGNMENT = ["-falign-functions=64", "-falign-loops=64"]

NO_SYMBOLS = ["-g0"]  # Python's own -g would make the library twelve times as large; the builder's CFLAGS may ask again
WARNINGS = ["-Wall", "-Wextra"]  # for the core; generated code has its own ideas
#: What the promised bits rest on, so it comes after the builder's CFLAGS; -O3 comes before, for a sanitizer says -O1.
SEMANTICS = ["-std=c11", "-pthread", "-fvisibility=hidden", "-fno-fast-math", "-fno-math-errno", "-ffp-contract=off"]


@dataclass
class Blas:
    """What it takes to use one BLAS library, which the engine opens when it is first wanted; empty: none."""

    define_macros: list = field(default_factory=list)
    runtime_library_dirs: list = field(default_factory=list)
    library: Path | None = None  # to be vendored into lstm_fast/_libs


def find_blas(choice: str) -> Blas:
    if choice not in ("auto", "system", "none"):
        raise OptionError(f"LSTM_FAST_BLAS: expected auto, system or none, got {choice!r}")
    wheel = util.find_spec("scipy_openblas32") if choice == "auto" else None
    if choice == "none" or (choice == "auto" and wheel is None):
        return Blas()
    if wheel:
        library = Path(wheel.origin).parent / "lib" / "libscipy_openblas.so"
        version = f"OpenBLAS {metadata.version('scipy-openblas32')}"
        return Blas(blas_macros(version, "scipy_", library.name), ["$ORIGIN/_libs"], library)
    soname = find_library("openblas")
    if soname is None:
        raise OptionError("LSTM_FAST_BLAS=system: no OpenBLAS found; install it (sudo apt install libopenblas0)")
    return Blas(blas_macros("system OpenBLAS", "", soname))


def blas_macros(name: str, prefix: str, library: str) -> list:
    strings = {"LF_BLAS_NAME": name, "LF_CBLAS_PREFIX": prefix, "LF_BLAS_LIBRARY": library}
    return [("LF_HAVE_BLAS", "1"), *((macro, f'"{value}"') for macro, value in strings.items())]


def flags_by_unit(bridge: str, isas: list[str]) -> dict[str, list[str]]:
    """Compiler flags of the generated bridge and of every unit of the core that can be built, by source path."""
    user = shlex.split(os.environ.get("CFLAGS", ""))
    units = {bridge: ["-O3", *NO_SYMBOLS, *user, *SEMANTICS, *BASELINE]}
    for source in sorted(CSRC.glob("*.c")):
        isa = source.stem.removesuffix("_f64").rpartition("_")[2]
        if isa not in ISA_FLAGS or isa in isas:
            alignment = ALIGNMENT if source.stem.startswith("kernels_") else []
            tuned = ["-O3", *alignment, *NO_SYMBOLS, *WARNINGS]
            units[str(source)] = [*tuned, *user, *SEMANTICS, *ISA_FLAGS.get(isa, BASELINE)]
    return units


class BuildEngine(build_ext):
    """Compiles each C unit with its own flags, and only where it is out of date; vendors the BLAS library."""

    def finalize_options(self):
        # An editable install would compile in a folder that it throws away, and so compile everything each time.
        self.build_temp = self.build_temp or f"build/temp.{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
        super().finalize_options()

    def build_extension(self, ext):
        blas = find_blas(os.environ.get("LSTM_FAST_BLAS", "auto"))
        isas = [isa for isa, flags in ISA_FLAGS.items() if X86_64 and self.accepts(flags)]
        ext.define_macros += blas.define_macros + [(f"LF_HAVE_{isa.upper()}", "1") for isa in isas]
        ext.runtime_library_dirs += blas.runtime_library_dirs
        units = flags_by_unit(ext.sources[0], isas)

        # A changed flag or set of units must rebuild as a changed header does, so they are a file among the headers.
        settings = Path(self.build_temp, "settings.txt")
        tools = [self.compiler.compiler_so, self.compiler.linker_so]
        text = "\n".join(map(str, [*tools, ext.define_macros, ext.include_dirs, *units.items()]))
        if not settings.exists() or settings.read_text() != text:
            settings.parent.mkdir(parents=True, exist_ok=True)
            settings.write_text(text)
        ext.depends.append(str(settings))

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            ext.extra_objects = list(pool.map(lambda unit: self.compile_unit(ext, *unit), units.items()))
        ext.depends += ext.extra_objects
        ext.sources = []
        super().build_extension(ext)  # links
        vendor(blas.library, Path(self.get_ext_fullpath(ext.name)).parent)

    def compile_unit(self, ext, source, flags):
        """Compile one unit if it or what it depends on is newer than its object; return the object's path."""
        [target] = self.compiler.object_filenames([source], output_dir=self.build_temp)
        if self.force or newer_group([source, *ext.depends], target):
            self.compiler.compile(
                [source],
                output_dir=self.build_temp,
                macros=ext.define_macros,
                include_dirs=ext.include_dirs,
                debug=self.debug,
                extra_postargs=flags,
            )
        return target

    def accepts(self, flags):
        """Whether the compiler knows ``flags``."""
        command = [*self.compiler.compiler_so, *flags, "-x", "c", "-c", os.devnull, "-o", os.devnull]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def copy_extensions_to_source(self):
        super().copy_extensions_to_source()
        built = sorted((Path(self.build_lib) / "lstm_fast" / "_libs").glob("*"))
        vendor(built[0] if built else None, Path("lstm_fast"))


def vendor(library, package):
    """Make ``library`` the only file of ``package/_libs``, or remove that folder."""
    shutil.rmtree(package / "_libs", ignore_errors=True)
    if library:
        (package / "_libs").mkdir()
        shutil.copy2(library, package / "_libs")


engine = Extension(
    "lstm_fast._engine",
    ["lstm_fast/_engine.pyx"],
    include_dirs=[str(CSRC), np.get_include()],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
    libraries=["m", "pthread", "dl"],
    depends=[str(path) for path in (*sorted(CSRC.glob("*.h")), *sorted(Path("lstm_fast").glob("*.pxi")))],
)
setup(ext_modules=cythonize([engine], build_dir="build"), cmdclass={"build_ext": BuildEngine})
