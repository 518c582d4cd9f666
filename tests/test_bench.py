"""The benchmark: its shapes, its adapters for the engines that are here, its arithmetic, and its command."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import cells, machine, report
from bench.cells import Cell, DisagreementError, geometric_mean, measure
from bench.engines import OURS, OURS_BLAS, Engine, Run, every_engine
from bench.peaks import Peaks
from bench.shapes import Shape, read_shapes
from bench.timing import Times, time_in_turn
from lstm_fast import reference
from lstm_fast.check import difference

ROOT = Path(__file__).resolve().parent.parent
ENGINES = {engine.name: engine for engine in every_engine() if engine.available()}

# shapes


def test_the_shapes_file_holds_what_it_should():
    shapes = read_shapes()
    assert len({str(shape) for shape in shapes}) == len(shapes) == 20
    assert Shape("lstm", 1, 100, 256, 256, directions=2) in shapes
    assert Shape("lstm", 32, 60, 1, 50, num_layers=2) in shapes


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("lstm 1 2 3", "line 2: expected kind B T I H layers directions, got 4 words"),
        ("lstm 1 2 3 x 1 1", "line 2: invalid literal"),
        ("cnn 1 2 3 4 1 1", "line 2: expected one of lstm, gru, rnn"),
        ("gru 1 0 3 4 1 1", "line 2: .* sizes from 1"),
        ("gru 1 2 3 4 1 3", "line 2: .* 1 or 2 directions"),
    ],
)
def test_a_line_that_is_no_shape_is_named(tmp_path, line, message):
    file = tmp_path / "shapes.txt"
    file.write_text(f"# kind B T\n{line}  # why\n")
    with pytest.raises(ValueError, match=message):
        read_shapes(file)


def test_a_shape_tells_its_name_its_network_and_its_work():
    shape = Shape("gru", 2, 3, 4, 5, num_layers=2, directions=2)
    assert str(shape) == "gru B2 T3 I4 H5 x2 bi"
    assert str(Shape("lstm", 1, 1, 8, 8)) == "lstm B1 T1 H8"
    [stack] = shape.network().recurrent
    assert [[cell.weight_ih.shape for cell in layer] for layer in stack.layers] == [[(15, 4)] * 2, [(15, 10)] * 2]
    assert shape.input().shape == (2, 3, 4)
    weights = sum(cell.weight_ih.size + cell.weight_hh.size for layer in stack.layers for cell in layer)
    assert shape.flops == 2 * 2 * 3 * weights


# engines


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("name", ENGINES)
def test_an_adapter_agrees_with_the_reference(name, kind, num_layers, directions):
    shape = Shape(kind, 3, 4, 5, 6, num_layers, directions)
    spec, x = shape.network(), shape.input()
    run = ENGINES[name].prepare(spec, x, threads=1)
    assert difference(run.output(run.call()), reference.forward(spec, x)[0]) <= 1e-6


def test_what_was_measured_holds_for_all_that_were_timed():
    cell = measure(Shape("lstm", 1, 2, 3, 4), [ENGINES[OURS], ENGINES["numpy"]], threads=1, seconds=0)
    assert list(cell.times) == list(cell.differences) == [OURS, "numpy"]
    assert max(cell.differences.values()) <= cells.TOLERANCE


def test_an_engine_that_computes_something_else_is_not_timed():
    class Wrong(Engine):
        name = package = "wrong"

        def prepare(self, spec, x, threads):
            return Run(lambda: x, lambda y: np.zeros((1, 2, 4)))

    with pytest.raises(DisagreementError, match=r"wrong differs .* at lstm B1 T2 I3 H4, expected at most 1e-05"):
        measure(Shape("lstm", 1, 2, 3, 4), [Wrong()], threads=1, seconds=0)


# timing


def test_a_disturbed_round_has_one_vote():
    times = Times([[1.0, 2.0, 3.0], [9.0] * 99, [4.0]])
    assert (times.medians, times.median, times.fastest) == ([2.0, 9.0, 4.0], 4.0, 1.0)


@pytest.mark.parametrize(("count", "rank"), [(1, 1), (50, 50), (100, 99), (150, 149), (1000, 990)])
def test_the_percentile_is_the_nearest_rank(count, rank):
    assert Times([[float(value) for value in range(count, 0, -1)]]).p99 == rank


def test_engines_take_turns():
    turns = []
    times = time_in_turn({name: lambda name=name: turns.append(name) for name in "abc"}, seconds=0)
    order = re.sub(r"(.)\1+", r"\1", "".join(turns))
    assert {len(value.rounds) for value in times.values()} == {3}
    assert len(order) <= 9
    assert {order.count(name) for name in "abc"} <= {2, 3}  # one round may end with what the next begins with


# reports


def cell(batch=1, time=1, floor=None, **medians) -> Cell:
    medians = {name.replace("_", "-"): value for name, value in medians.items()}
    times = {name: Times([[float(value)]]) for name, value in medians.items()}
    return Cell(Shape("lstm", batch, time, 8, 8), times, dict.fromkeys(times, 1e-7), floor)


def test_ratios_are_to_the_best_of_the_others():
    one = cell(ours=2, ours_blas=1, torch=8, numpy=3, floor=1e-6)
    assert (one.best_peer, one.ratio, one.ratio_to("torch"), one.roofline) == ("numpy", 1.5, 4, 0.5)
    assert one.gflops == pytest.approx(one.shape.flops / 2e-6 / 1e9)
    alone = cell(ours=2, ours_blas=1)
    assert (alone.best_peer, alone.ratio, alone.roofline) == (None, None, None)
    assert geometric_mean([alone]) is None
    assert geometric_mean([one, cell(ours=2, torch=12)]) == pytest.approx(3)


def test_losses_are_shown_like_wins():
    found = [cell(ours=2, torch=1, numpy=4), cell(time=9, ours=1000.4, torch=2000, numpy=3000, floor=5e-4)]
    lines = report.times_table(found).splitlines()
    assert lines[2].split() == "lstm B1 T1 H8 2.0 1.0 4.0 torch 0.50 LOSS 1".split()
    assert lines[3].split() == "lstm B1 T9 H8 1,000 2,000 3,000 torch 2.00 0 50%".split()
    assert report.verdict(found) == (
        "Geometric mean of peer/ours over 2 shapes: 1.00; slower than the best peer at 1: lstm B1 T1 H8."
    )
    assert "slower at none" in report.verdict(found[1:])
    assert report.latency_table(found).count("lstm B1 T1 H8") == 3
    assert report.latency_table(found[1:]) == ""


def test_the_check_wants_both_ratios_at_every_shape():
    good = cell(ours=2, numpy=2, onnxruntime=1)
    assert report.check_table([good])[1]
    text, passed = report.check_table([good, cell(ours=2, numpy=1.9, onnxruntime=9), good])
    assert not passed
    assert [line.split()[-1] for line in text.splitlines()[2:]] == ["ok", "FAIL", "ok"]
    assert not report.check_table([cell(ours=2, numpy=9, onnxruntime=0.9)])[1]


def test_the_machine_is_described(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    facts = machine.facts([ENGINES[OURS], ENGINES["numpy"]], threads=2)
    text = machine.facts_text(facts)
    assert json.loads(json.dumps(facts)) == facts
    assert f"numpy {np.__version__}" in text
    assert "OPENBLAS_CORETYPE=Haswell" in text
    assert "mistrust" in machine.caution({"load_average": 0.5})
    assert machine.caution({"load_average": 0.1}) == ""


def test_the_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    from bench import chart

    found = [cell(ours=2, ours_blas=3, torch=1), cell(time=9, ours=2, ours_blas=1, torch=4)]
    chart.draw(found, "title", tmp_path / "ratios.svg")
    assert "</svg>" in (tmp_path / "ratios.svg").read_text()


# the roofline


def test_the_floor_is_the_larger_of_arithmetic_and_streaming():
    peaks = object.__new__(Peaks)
    peaks.threads, peaks.flops, peaks._bandwidths = 1, 1e9, {}
    asked = []
    peaks.bandwidth = lambda footprint: asked.append(footprint) or 1e9
    rows, size = 4 * 8, 4 * 4 * 8 * 8  # of one matrix, in bytes
    single = peaks.floor(Shape("lstm", 1, 10, 8, 8))
    assert single == pytest.approx((2 * rows * 8 * 10 + 10 * size) / 1e9)  # input by arithmetic, steps by streaming
    assert peaks.floor(Shape("lstm", 16, 10, 8, 8)) == pytest.approx(2 * 2 * rows * 8 * 160 / 1e9)
    assert set(asked) == {size}
    asked.clear()
    assert peaks.floor(Shape("lstm", 1, 1, 8, 8)) == pytest.approx(2 * size / 1e9)
    assert set(asked) == {2 * size}


def test_the_machines_peaks_are_measured(monkeypatch):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("bench.peaks.TRY_SECONDS", 0.001)
    peaks = Peaks(threads=1)
    assert peaks.flops > 1e8
    assert peaks.bandwidth(2**15) > 1e8
    assert list(peaks.as_json()["gigabytes_per_second"]) == [str(2**15)]


# the command


def bench(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "bench", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_the_command_prints_a_table_and_writes_json(tmp_path):
    shapes, out = tmp_path / "shapes.txt", tmp_path / "new" / "out.json"
    shapes.write_text("lstm 1 1 8 8 1 1\ngru 2 3 4 5 1 2\n")
    done = bench("--shapes", shapes, "--match", "gru", "--engines", "numpy", "--seconds", "0.001", "--json", out)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^gru B2 T3 I4 H5 bi +[\d.]+ +[\d.]+ +numpy ", done.stdout, re.MULTILINE)
    assert "OPENBLAS_NUM_THREADS=1" in done.stdout
    result = json.loads(out.read_text())
    [found] = result["cells"]
    assert found["name"] == "gru B2 T3 I4 H5 bi"
    assert set(found["engines"]) == {OURS, "numpy"}
    assert len(found["engines"][OURS]["round_medians_us"]) >= 3
    assert found["engines"][OURS]["difference"] <= result["tolerance"] == cells.TOLERANCE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--engines", "abacus"), f"engine 'abacus': expected some of {OURS}, {OURS_BLAS}"),
        (("--match", "transformer"), "no shape with 'transformer' in its name"),
        (("--shapes", "nowhere.txt"), "--shapes: "),
        (("--check", "--threads", "2"), "one thread"),
    ],
)
def test_wrong_usage_is_told(arguments, message):
    done = bench(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
