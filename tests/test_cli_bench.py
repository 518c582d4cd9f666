"""lstm-fast bench: every combination of options timed at every size."""

from __future__ import annotations

import importlib.util
import re
import sys

import pytest
from commands import fails, run_json
from specs import dense, embedding, stack

from lstm_fast import config, timing
from lstm_fast.cli import main
from lstm_fast.fileformat import write_lstmf
from lstm_fast.spec import ModelSpec

BACKENDS = config()["backends"]


@pytest.fixture(autouse=True)
def _short_turns(monkeypatch, workplace):
    for name in ("LEAD_NS", "TURN_NS", "SPINNING_SECONDS"):
        monkeypatch.setattr(timing, name, 0)


def test_a_table_for_people(capsys):
    assert main(["bench", "model.lstmf", "--seconds", "0.001"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:5] == ["Batch", "Steps", "Backend", "ISA", "Threads"]
    assert {tuple(line.split()[:3]) for line in lines[2:]} == {
        ("1", steps, backend) for steps in ("1", "100") for backend in BACKENDS
    }
    assert {line.split()[-1] for line in lines[2:]} >= {"1.00"}


def test_every_combination_once_in_json(capsys):
    argv = ["--batch", "1,3", "--time", "2", "--num-threads", "1,2,2", "--seconds", "0.001", "--isa", "generic"]
    code, found = run_json(capsys, "bench", "model.lstmf", *argv)
    assert code == 0
    assert list(found) == ["command", "ok", "file", "dtype", "seconds", "rows"]
    assert [(row["batch"], row["backend"], row["num_threads"]) for row in found["rows"]] == [
        (batch, backend, threads) for batch in (1, 3) for backend in BACKENDS for threads in (1, 2)
    ]
    assert {row["batch"] for row in found["rows"]} == {1, 3}
    for row in found["rows"]:
        assert row["sequences_per_second"] == pytest.approx(1e6 * row["batch"] / row["median"])
    row = found["rows"][0]
    assert (row["isa"], row["time"], found["dtype"]) == ("generic", 2, "float32")
    assert row["fastest"] <= row["median"] <= row["p99"]
    assert row["per_step"] == pytest.approx(row["median"] / 2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "spec",
    [
        ModelSpec((embedding(), stack("gru", return_sequences=False))),
        ModelSpec((stack(inputs=2), dense()), batch_first=False),
    ],
)
def test_whatever_the_model_takes(capsys, spec, dtype):
    write_lstmf(spec, "other.lstmf")
    code, found = run_json(capsys, "bench", "other.lstmf", "--batch", "2", "--dtype", dtype, "--seconds", "0.001")
    assert (code, found["dtype"]) == (0, dtype)


def test_a_bar_on_a_terminal(capsys, monkeypatch):
    if importlib.util.find_spec("tqdm") is None:
        pytest.skip("no tqdm here")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert main(["bench", "model.lstmf", "--seconds", "0.001"]) == 0
    assert "0/2" in capsys.readouterr().err


def test_what_cannot_be_timed_is_refused(capsys):
    message = fails(capsys, "bench", "model.lstmf", "--batch", "1000000000", "--time", "1000")
    assert re.search(r"1000000000 sequences of 1000 steps: expected at most 134,217,728 numbers", message)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--batch", "0"), "expected a whole number above 0, got 0"),
        (("--time", "1,x"), "'1,x'"),
        (("--num-threads", "none"), "'none'"),
        (("--num-threads", "1,500"), "expected 1 .. 256 or auto, got 500"),
        (("--seconds", "0"), "expected a number above 0, got 0"),
        (("--backend", "packed,abacus"), "expected one of packed, blas, got 'abacus'"),
        (("--isa", "generic,sse9"), "got 'sse9'"),
    ],
)
def test_wrong_usage(capsys, argv, message):
    with pytest.raises(SystemExit) as left:
        main(["bench", "model.lstmf", *argv])
    assert left.value.code == 2
    assert message in capsys.readouterr().err
