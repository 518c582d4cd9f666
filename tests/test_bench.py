"""The benchmark: its shapes, its adapters for the engines that are here, its arithmetic, and its command."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from bench import measure as measuring
from bench import scaling, suite
from bench.cells import FLOAT32, Cell
from bench.engines import OURS, OURS_BLAS, Engine, Run, every_engine
from bench.machine import THREAD_VARIABLES
from bench.measure import DisagreementError, measure
from bench.results import Result
from bench.run import Job
from bench.shapes import Shape, arrays_of, read_shapes
from bench.starts import measure_starts
from lstm_fast import reference
from lstm_fast.check import difference

ROOT = Path(__file__).resolve().parent.parent
ENGINES = {engine.name: engine for engine in every_engine() if engine.available()}

# shapes


def test_the_shapes_file_holds_what_it_should():
    shapes = read_shapes()
    assert len({str(shape) for shape in shapes}) == len(shapes) == 27
    assert Shape("lstm", 1, 100, 256, 256, directions=2) in shapes
    assert Shape("lstm", 32, 60, 1, 50, num_layers=2) in shapes
    assert Shape("lstm", 16, 100, 256, 256, proj_size=128) in shapes
    assert Shape("gru", 16, 100, 128, 128, shortest=20) in shapes


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("lstm 1 2 3", "line 2: expected kind B T I H layers directions, got 4 words"),
        ("lstm 1 2 3 x 1 1", "line 2: invalid literal"),
        ("cnn 1 2 3 4 1 1", "line 2: expected one of lstm, gru, rnn"),
        ("gru 1 0 3 4 1 1", "line 2: .* sizes from 1"),
        ("gru 1 2 3 4 1 3", "line 2: .* 1 or 2 directions"),
        ("lstm 1 2 3 4 1 1 peephole=1", "line 2: expected proj= or shortest= or state=, got peephole="),
        ("gru 1 2 3 4 1 1 proj=2", "line 2: expected proj= of an LSTM, from 1 and below H"),
        ("lstm 1 2 3 4 1 1 proj=4", "line 2: expected proj= of an LSTM, from 1 and below H"),
        ("lstm 3 2 3 4 1 1 shortest=3", "line 2: expected shortest= from 1 to T"),
        ("lstm 3 2 3 4 1 1 state=2", "line 2: expected state=1 or none"),
    ],
)
def test_a_line_that_is_no_shape_is_named(tmp_path, line, message):
    file = tmp_path / "shapes.txt"
    file.write_text(f"# kind B T\n{line}  # why\n")
    with pytest.raises(ValueError, match=message):
        read_shapes(file)


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        (Shape("gru", 2, 3, 4, 5, num_layers=2, directions=2), "gru B2 T3 I4 H5 x2 bi"),
        (Shape("lstm", 2, 3, 4, 5, 2, 2, proj_size=3), "lstm B2 T3 I4 H5 P3 x2 bi"),
        (Shape("lstm", 3, 5, 8, 8, shortest=1), "lstm B3 T1-5 H8"),
        (Shape("gru", 1, 1, 8, 8, state=1), "gru B1 T1 H8 state"),
    ],
)
def test_a_shape_tells_its_name_its_network_and_its_work(shape, name):
    assert str(shape) == name
    [stack] = shape.network().recurrent
    assert stack.num_directions == shape.directions
    assert (len(stack.layers), stack.input_size) == (shape.num_layers, shape.input_size)
    feed = shape.feed()
    assert feed.x.shape == (shape.batch, shape.time, shape.input_size)
    assert feed.lengths is shape.lengths
    assert [array.shape for array in feed.states] == ([(1, 1, 8)] if shape.state else [])

    def count(*names):
        return sum(value.size for _, cell in stack.cells() for name, value in cell.tensors() if name in names)

    assert shape.weights == count("weight_ih", "weight_hh", "weight_hr")
    steps = shape.batch * shape.time if shape.lengths is None else sum(shape.lengths)
    spared = 0 if shape.state else count("weight_hh") * shape.batch
    assert shape.flops == 2 * (shape.weights * steps - spared)


def test_lengths_fall_evenly():
    shape = Shape("lstm", 3, 5, 8, 8, shortest=1)
    assert shape.lengths.tolist() == [5, 3, 1]
    assert shape.rows_at.tolist() == [3, 2, 2, 1, 1]
    assert Shape("lstm", 3, 2, 8, 8).rows_at.tolist() == [3, 3]


# engines

STACKS = [
    Shape(kind, 3, 4, 5, 6, layers, ways) for kind in ("lstm", "gru", "rnn") for layers in (1, 2) for ways in (1, 2)
]
ONE_ROW = [Shape(kind, 1, 4, 5, 6, 2, 2) for kind in ("lstm", "gru", "rnn")]
SPECIAL = [Shape("lstm", 3, 5, 5, 6, 2, 2, proj_size=4), Shape("gru", 3, 5, 5, 6, 2, 2, shortest=2)]
SPECIAL += [Shape(kind, batch, 2, 5, 6, 2, 2, state=1) for kind in ("lstm", "gru", "rnn") for batch in (1, 3)]
SPECIAL += [Shape(kind, 3, 1, 5, 6, state=state) for kind in ("lstm", "gru", "rnn") for state in (0, 1)]
SPECIAL += [Shape("lstm", 3, 5, 5, 6, shortest=2, state=1), Shape("lstm", 3, 5, 5, 6, proj_size=4, state=1)]
SPECIAL += [Shape("lstm", 3, 5, 5, 6, shortest=2), Shape("lstm", 3, 5, 5, 6, proj_size=4, shortest=2)]


@pytest.mark.parametrize("shape", STACKS + ONE_ROW + SPECIAL, ids=str)
@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
def test_an_adapter_agrees_with_the_reference_or_says_that_it_cannot(name, shape):
    engine = ENGINES[name]
    if engine.cannot(shape):
        assert not name.startswith(OURS)
        return
    spec, feed = shape.network(), shape.feed()
    run = engine.prepare(spec, feed, threads=1)
    y, [final] = reference.forward(spec, feed.x, [feed.state] if shape.state else None, lengths=feed.lengths)
    expected = [y, *arrays_of(final)] if shape.state else [y]
    result = run.call()
    found = [run.output(result), *(run.states(result) if shape.state else ())]
    assert [array.shape for array in found] == [array.shape for array in expected]
    assert max(map(difference, found, expected)) <= (1e-6 if engine.precision == FLOAT32 else 0.1)


class Odd(Engine):
    """Answers zeros."""

    name = package = "odd"

    def prepare(self, spec, feed, threads):
        return Run(lambda: feed, lambda y: np.zeros((1, 2, 4)))


def test_what_was_measured_holds_for_all_that_were_timed():
    cell = measure(Shape("lstm", 1, 2, 3, 4), [ENGINES[OURS], ENGINES["numpy"]], threads=1, seconds=0)
    assert list(cell.timings) == [OURS, "numpy"]
    assert max(timing.difference for timing in cell.timings.values()) <= measuring.TOLERANCE
    assert all(timing.fastest <= timing.median and timing.calls >= 3 for timing in cell.timings.values())
    assert (cell.speeds, cell.unable) == (None, {})


def test_who_cannot_is_left_out():
    cell = measure(Shape("lstm", 2, 1, 3, 4, shortest=1), [ENGINES[OURS], ENGINES["numpy"]], threads=1, seconds=0)
    assert list(cell.timings) == [OURS]
    assert cell.unable == {"numpy": "no lengths in the loop"}
    assert len(cell.ours.distribution) > 20


def test_an_engine_that_computes_something_else_is_not_timed():
    with pytest.raises(DisagreementError, match=r"odd differs .* at lstm B1 T2 I3 H4, expected at most 1e-05"):
        measure(Shape("lstm", 1, 2, 3, 4), [Odd()], threads=1, seconds=0)


def test_a_lower_precision_may_differ(monkeypatch):
    monkeypatch.setattr(Odd, "precision", "int8", raising=False)
    cell = measure(Shape("lstm", 1, 2, 3, 4), [ENGINES[OURS], Odd()], threads=1, seconds=0)
    assert cell.timings["odd"].difference > 1e-3
    assert cell.best_peer is None
    with pytest.raises(DisagreementError, match="differs from the float64 reference by inf"):
        measure(Shape("lstm", 2, 2, 3, 4), [ENGINES[OURS], Odd()], threads=1, seconds=0)


# cold start


def test_a_fresh_process_is_measured(monkeypatch):
    monkeypatch.setattr("bench.starts.SHAPE", Shape("lstm", 1, 3, 4, 5))
    found = measure_starts([OURS, "numpy"], rounds=1)
    assert list(found) == ["numpy", OURS]
    assert all(start.milliseconds > 1 and start.mebibytes > 1 for start in found.values())
    more = found[OURS].milliseconds - found["numpy"].milliseconds
    assert found[OURS].more_milliseconds == pytest.approx(more, abs=0.2)
    assert found["numpy"].more_milliseconds == found["numpy"].more_mebibytes == 0


def test_the_first_round_of_starts_is_not_counted(monkeypatch):
    monkeypatch.setattr("bench.starts.SHAPE", Shape("lstm", 1, 3, 4, 5))
    monkeypatch.setattr("bench.starts.difference", lambda *_: 0)
    monkeypatch.setattr("bench.starts.np.load", lambda *_: None)
    begun: list[str] = []

    def start(engine, arguments, environment):
        assert {environment[name] for name in THREAD_VARIABLES} == {"1"}
        begun.append(engine)
        return (1000.0, 1000.0) if begun.count(engine) == 1 else (5.0 + (engine == OURS), 7.0)

    monkeypatch.setattr("bench.starts._start", start)
    found = measure_starts([OURS], rounds=3)
    assert begun == ["numpy", OURS] * 4
    ours = found[OURS]
    assert (ours.milliseconds, ours.mebibytes, ours.more_milliseconds, ours.more_mebibytes) == (6.0, 7.0, 1.0, 0.0)


def test_the_number_of_threads_is_fixed_for_every_library(monkeypatch):
    given = {}

    def run(command, *, env, **_):
        given.update(env)
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(suite.subprocess, "run", run)
    [job] = jobs(threads=[3], sections=["shapes"])
    assert suite._carried_out(job) is None
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
    assert [given[name] for name in names] == ["3"] * 4


def test_what_is_measured_is_kept_where_the_next_process_fails(monkeypatch, tmp_path, capsys):
    kept = Result.read(ROOT / "docs" / "benchmarks.json").runs[0]
    found = iter([kept, None])
    monkeypatch.setattr(suite, "_carried_out", lambda _: next(found))
    options = Namespace(shapes=None, match="", engines=["numpy"], sections=["shapes"], threads=[1, 2], check=False)
    options.seconds, options.json = 1.0, tmp_path / "new" / "out.json"
    assert suite.run(options) == 1
    assert Result.read(options.json).runs == [kept]


# the plan


def jobs(**options) -> list[Job]:
    given = {"shapes": None, "match": "", "engines": ["numpy"], "sections": None, "threads": None, "check": False}
    return suite.jobs(Namespace(**given | {"seconds": 1.0} | options))


def test_a_job_for_each_number_of_threads():
    alone, between, together = jobs(threads=[1, 4], match="gru")
    assert (alone.threads, between.threads, together.threads) == (1, 2, 4)
    assert (alone.start, between.start, together.start) == (True, False, False)
    assert [str(shape) for shape in alone.shapes] == ["gru B1 T100 H256", "gru B16 T100 H256", "gru B16 T20-100 H128"]
    assert (between.shapes, together.shapes) == ([], alone.shapes)
    assert list(between.curves) == ["threads"]
    assert list(together.curves) == [*scaling.CURVES, "threads"]
    assert alone.engines == [OURS, "numpy"]
    assert Job.from_json(alone.to_json()) == alone


def test_a_part_of_the_plan():
    [job] = jobs(threads=[1], sections=["shapes"])
    assert (job.curves, job.start, len(job.shapes)) == ({}, False, 27)
    [job] = jobs(threads=[1], sections=["start"])
    assert (job.curves, job.start, job.shapes) == ({}, True, [])
    [job] = jobs(threads=[2], sections=["scaling"])
    assert list(job.curves) == list(scaling.CURVES)


# the command


def bench(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "bench", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_the_command_prints_a_table_and_writes_json(tmp_path):
    shapes, out = tmp_path / "shapes.txt", tmp_path / "new" / "out.json"
    shapes.write_text("lstm 1 1 8 8 1 1\ngru 2 3 4 5 1 2\n")
    some = ("--match", "gru", "--engines", "numpy", "--threads", "1", "--sections", "shapes", "--seconds", "0.001")
    done = bench("--shapes", shapes, *some, "--json", out)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^gru B2 T3 I4 H5 bi +[\d.]+ +[\d.]+ +numpy ", done.stdout, re.MULTILINE)
    assert "OPENBLAS_NUM_THREADS=1" in done.stdout
    [run] = json.loads(out.read_text())["runs"]
    [found] = run["cells"]
    assert found["name"] == "gru B2 T3 I4 H5 bi"
    assert set(found["timings"]) == {OURS, "numpy"}
    assert found["ratio"] == pytest.approx(found["timings"]["numpy"]["median"] / found["timings"][OURS]["median"])
    [cell] = Result.read(out).runs[0].cells
    assert cell == Cell.from_json(found)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--engines", "abacus"), f"engine 'abacus': expected some of {OURS}, {OURS_BLAS}"),
        (("--match", "transformer"), "no shape with 'transformer' in its name"),
        (("--shapes", "nowhere.txt"), "--shapes: "),
        (("--sections", "verdict"), "--sections: expected some of shapes, scaling, start, got verdict"),
        (("--threads", "0"), "expected at least 1 thread, got 0"),
        (("--threads", "257"), "--threads: expected at most 256, got 257"),
        (("--seconds", "inf"), "--seconds: expected more than 0 and at most 3600"),
        (("--json", "out.html"), "--json: out.html would be overwritten by the report"),
        (("--json", "/proc/nowhere/out.json"), "--json: nothing can be written beside /proc/nowhere/out.json"),
        (("--check", "--threads", "2"), "--check chooses"),
    ],
)
def test_wrong_usage_is_told(arguments, message):
    done = bench(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
