#!/bin/sh
# Usage: tools/prerequisites.sh [PYTHON]
#
# Checks what the build needs from the system. Where something is missing, the first line printed says what to
# install, and the exit status is 1. Only the Python headers can be had without root: where they are missing, their
# Debian package is unpacked into build/headers, which the Makefile puts on the compiler's search path.
set -u

python=${1:-python3}
headers=$PWD/build/headers
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT

install() {
    echo "Something is missing. Please install it, then try again: sudo apt install $*"
    exit 1
}

# Whether the C text on standard input compiles with the options given.
compiles() {
    # shellcheck disable=SC2086  # a compiler's name may carry options
    $cc -x c -c -o "$scratch/out.o" "$@" - >/dev/null 2>&1
}

has_python_headers() {
    include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    echo '#include <Python.h>' | compiles -I"$include" -I"$headers/${include##*/}" -I"$headers"
}

# Neither the download nor, where the system has no package lists, fetching lists of one's own takes root.
fetch_python_headers() (
    package=libpython$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-dev
    echo "Python.h is missing: unpacking $package into build/headers"
    mkdir -p "$headers" "$scratch/lists" && cd "$scratch" || exit 1
    if ! apt-get download "$package"; then
        set -- -o Dir::State::Lists="$scratch/lists" -o Dir::Cache="$scratch" -o Debug::NoLocking=1
        apt-get "$@" update && apt-get "$@" download "$package" || exit 1
    fi >/dev/null 2>&1
    dpkg-deb -x "$package"_*.deb . && cp -R usr/include/. "$headers"
)

command -v "$python" >/dev/null || install python3 python3-venv gcc
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
    echo "Python 3.10 or newer is needed, and $python is $("$python" -V 2>&1): make PYTHON=/path/to/a/newer/python3"
    exit 1
}

missing=
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
cc=${CC:-$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("CC"))')}
if ! command -v "${cc%% *}" >/dev/null; then
    missing="$missing gcc"
elif ! echo '#include <math.h>' | compiles; then
    missing="$missing libc6-dev"
fi
# shellcheck disable=SC2086  # one word each
[ -z "$missing" ] || install $missing

has_python_headers || { fetch_python_headers && has_python_headers; } || install python3-dev
