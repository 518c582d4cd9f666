"""Writing a file: the old one survives everything."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from specs import every_spec

from lstm_fast.fileformat import lstmf_bytes, write_lstmf

SPECS = every_spec()


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "model.lstmf"
    write_lstmf(SPECS["tiny"], path)
    return path


@pytest.mark.parametrize("failing", ["write", "fsync", "read back", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_the_old_file_survives_a_failure(old, monkeypatch, failing, error):
    before = old.read_bytes()

    def fail(*args, **kwargs):
        raise error

    if failing == "write":
        monkeypatch.setattr("lstm_fast._atomic._write_through", lambda path, data: (path.write_bytes(data[:9]), fail()))
    elif failing == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    elif failing == "read back":
        monkeypatch.setattr("lstm_fast._atomic._compare", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(type(error)):
        write_lstmf(SPECS["text"], old)
    assert old.read_bytes() == before
    assert list(old.parent.iterdir()) == [old]


def test_what_the_disk_garbled_is_not_kept(old, monkeypatch):
    before = old.read_bytes()
    genuine = os.fsync

    def garble(descriptor):
        genuine(descriptor)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.pwrite(descriptor, b"?", 40)

    monkeypatch.setattr(os, "fsync", garble)
    with pytest.raises(OSError, match="what was read back differs"):
        write_lstmf(SPECS["text"], old)
    assert old.read_bytes() == before
    assert list(old.parent.iterdir()) == [old]


def test_file_and_directory_are_flushed_around_the_rename(tmp_path, monkeypatch):
    events = []
    genuine_sync, genuine_replace = os.fsync, Path.replace

    def sync(descriptor):
        events.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        genuine_sync(descriptor)

    def replace(self, target):
        events.append("rename")
        return genuine_replace(self, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", replace)
    write_lstmf(SPECS["tiny"], tmp_path / "m.lstmf")
    assert events == ["file", "rename", "directory"]


def test_a_full_disk_is_reported_and_the_old_file_stays(old):
    """A real limit on the size of files, in a process of its own."""
    code = """
import resource, signal, sys
sys.path[:0] = sys.argv[2:]
from specs import every_spec
from lstm_fast.fileformat import write_lstmf
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_lstmf(every_spec()["text"], sys.argv[1])
except OSError as error:
    print(error.errno)
"""
    before = old.read_bytes()
    root = Path(__file__).parent
    command = [sys.executable, "-c", code, str(old), str(root), str(root.parent)]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    assert int(found.stdout) == errno.EFBIG
    assert old.read_bytes() == before
    assert list(old.parent.iterdir()) == [old]


def test_permissions_are_the_umasks(tmp_path):
    before = os.umask(0o027)
    try:
        write_lstmf(SPECS["tiny"], tmp_path / "m.lstmf")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "m.lstmf").stat().st_mode) == 0o640


def test_overwriting_is_a_choice(old):
    before = old.read_bytes()
    with pytest.raises(FileExistsError):
        write_lstmf(SPECS["text"], old, overwrite=False)
    assert old.read_bytes() == before
    write_lstmf(SPECS["text"], old)
    assert old.read_bytes() == lstmf_bytes(SPECS["text"])


def test_a_link_is_followed(old):
    link = old.with_name("latest.lstmf")
    link.symlink_to(old.name)
    write_lstmf(SPECS["text"], link)
    assert link.is_symlink()
    assert old.read_bytes() == lstmf_bytes(SPECS["text"])


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_lstmf(every_spec()["tiny"], tmp_path / "nowhere" / "out")
    assert caught.value.filename == str(tmp_path / "nowhere")


def test_only_regular_files_are_replaced(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(OSError, match="regular file"):
        write_lstmf(SPECS["tiny"], fifo)
    with pytest.raises(IsADirectoryError):
        write_lstmf(SPECS["tiny"], tmp_path)
    with pytest.raises(FileNotFoundError):
        write_lstmf(SPECS["tiny"], tmp_path / "none" / "m.lstmf")
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert list(tmp_path.iterdir()) == [fifo]
