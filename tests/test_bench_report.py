"""What the benchmark makes of its figures: tables, verdicts, the roofline, pictures, the page, README."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import machine, readme, report
from bench.cells import FLOAT32, PERCENTS, Cell, Timing, geometric_mean
from bench.engines import OURS, every_engine
from bench.peaks import Peaks
from bench.results import Result, Run, Start
from bench.roofline import ATTAINABLE, Speeds, footprint, least_seconds
from bench.scaling import CURVES, THREADS
from bench.shapes import Shape
from lstm_fast.timing import time_in_turn

ROOT = Path(__file__).resolve().parent.parent
SPEEDS = Speeds(threads=1, lanes=16, gflops=100.0, gigabytes=50.0, footprint=1024, gigahertz=2.0)
INT8 = ("int8", 0.01)


def cell(shape=None, *, speeds=None, unable=None, **medians) -> Cell:
    """``int8`` in an engine's name makes it one of lower precision."""
    shape = shape or Shape("lstm", 1, 1, 8, 8)

    def timing(name: str, median: float) -> Timing:
        ways = INT8 if "int8" in name else (FLOAT32, 1e-7)
        distribution = [median * (1 + percent / 100) for percent in PERCENTS] if shape.time == 1 else []
        return Timing(*ways, median, median / 2, 2 * median, 3 * median, 100, distribution)

    timings = {name.replace("_", "-"): timing(name, float(median)) for name, median in medians.items()}
    return Cell(shape, timings, unable or {}, speeds)


FACTS = {
    "cpu": "A <fast> CPU",
    "cpus": 2,
    "usable_cpus": 2,
    "caches": {"L1": "48K"},
    "platform": "Linux",
    "python": "3",
    "load_average": 0.0,
    "isa": "avx512",
    "blas": None,
    "threads": 1,
    "environment": {},
    "versions": {"ours": "lstm_fast 1", "torch": "torch 2", "onnxruntime": "onnxruntime 1"},
}


def run(threads=1, **parts) -> Run:
    cells = [
        cell(ours=2, ours_blas=3, torch=8, numpy=3, torch_int8=1, speeds=SPEEDS),
        cell(Shape("gru", 2, 9, 8, 8, shortest=3), ours=9, torch=6, unable={"numpy": "no lengths"}, speeds=SPEEDS),
    ]
    return Run(threads, FACTS | {"threads": threads}, 1.0, cells, **parts)


def whole() -> Result:
    """One of everything."""
    curves = {
        name: [cell(shape, ours=2, torch=4) for shape in shapes]
        for name, shapes in (CURVES | {"threads": THREADS}).items()
    }
    starts = {"numpy": Start(50, 25, 0, 0), "ours": Start(71, 30, 20, 5)}
    few = Run(2, FACTS, 1.0, [], {"threads": curves["threads"]})
    return Result([run(curves=curves, starts=starts), few, run(4, curves=curves)])


# cells and tables


def test_ratios_are_to_the_best_of_the_others():
    one = cell(ours=2, ours_blas=1, torch=8, numpy=3, torch_int8=1)
    assert (one.best_peer, one.ratio, one.ratio_to("torch"), one.lost) == ("numpy", 1.5, 4, False)
    assert one.gflops == pytest.approx(one.shape.flops / 2e-6 / 1e9)
    alone = cell(ours=2, ours_blas=1)
    assert (alone.best_peer, alone.ratio, alone.roofline) == (None, None, None)
    assert geometric_mean([None]) is None
    assert geometric_mean([1.5, None, 6]) == pytest.approx(3)


def test_losses_are_shown_like_wins():
    long = cell(Shape("lstm", 1, 9, 8, 8), ours=1000.4, torch=2000, numpy=3000)
    found = [cell(ours=2, torch=1, numpy=4), long]
    lines = str(report.times_table(found)).splitlines()
    assert lines[2].split() == "lstm B1 T1 H8 2.0 1.0 4.0 torch 0.50 LOSS 0".split()
    assert lines[3].split() == "lstm B1 T9 H8 1,000 2,000 3,000 torch 2.00 0".split()
    assert report.verdict(found) == (
        "Geometric mean of peer/ours over 2 shapes: 1.00; slower than the best peer at 1: lstm B1 T1 H8."
    )
    assert "slower at none" in report.verdict(found[1:])
    assert str(report.latency_table(found)).count("lstm B1 T1 H8") == 3
    assert str(report.latency_table(found[1:])) == ""


def test_who_was_left_out_and_what_is_no_peer_is_shown_apart():
    cells = run().cells
    assert [row[4] for row in report.times_table(cells).rows] == ["3.0", "-"]
    assert "torch-int8" not in report.times_table(cells).headers
    assert report.low_precision_table(cells).rows == [["lstm B1 T1 H8", "torch-int8", "1.0", "0.50", "1e-02", "1e-07"]]
    assert report.unable_text(cells) == "- numpy cannot, no lengths: gru B2 T3-9 H8"
    assert report.slow_paths(cells).endswith(": 0.67.")
    assert report.slow_paths(cells[:1]) == ""
    assert "100 to 100 GFLOP/s, 2.00 to 2.00 GHz" in report.peaks_text(cells)
    assert report.peaks_text([cell(ours=1)]) == ""


def test_without_avx512_the_same_peers_count():
    found = [cell(ours=1, ours_avx2=2, torch=8), cell(Shape("rnn", 1, 1, 8, 8), ours=1, ours_avx2=4, torch=2)]
    assert found[0].peers.keys() == {"torch"}
    assert report.avx2_text(found) == "Best peer ÷ ours-avx2, geometric mean: 1.41; slower at 1: rnn B1 T1 H8."
    assert report.avx2_text(run().cells) == ""


def test_what_more_threads_bring():
    faster = [cell(ours=1, torch=1), cell(ours=6, torch=1)]
    table = report.threads_table([run(), Run(2, FACTS, 1.0, faster)])
    assert table.headers[1:] == ["1", "2", "speed-up at 2"]
    assert [row[1:] for row in table.rows] == [["2.0", "1.0", "2.00"], ["9.0", "6.0", "1.50"]]
    assert report.threads_table([run()]).rows == []
    assert report.threads_table([]).rows == []


def test_starts_are_told_over_numpy_alone():
    rows = report.starts_table(whole().starts).rows
    assert rows == [["numpy", "50", "+0", "25", "+0"], ["ours", "71", "+20", "30", "+5"]]


def test_the_check_wants_both_ratios_wherever_they_are():
    good = cell(ours=2, numpy=2, onnxruntime=1)
    assert report.check_table([good, cell(ours=2, onnxruntime=1), cell(ours=2)])[1]
    text, passed = report.check_table([good, cell(ours=2, numpy=1.9, onnxruntime=9), good])
    assert not passed
    assert [line.split()[-1] for line in str(text).splitlines()[2:]] == ["ok", "FAIL", "ok"]
    assert not report.check_table([cell(ours=2, numpy=9, onnxruntime=0.9)])[1]


def test_the_machine_is_described(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    engines = [engine for engine in every_engine() if engine.name in (OURS, "numpy")]
    facts = machine.facts(engines, threads=2, load=0.5)
    text = machine.facts_text(facts)
    assert json.loads(json.dumps(facts)) == facts
    assert f"numpy {np.__version__}" in text
    assert "OPENBLAS_CORETYPE=Haswell" in text
    assert "mistrust" in machine.caution(facts)
    assert machine.caution({"load_average": 0.1}) == ""


# the roofline


def test_the_least_time_is_arithmetic_or_streaming_then_activations_then_the_chain():
    weights = 4 * 8 * 8
    arithmetic, reading = 2 * weights / (ATTAINABLE * 100e9), 4 * weights / 50e9
    row, chain = 5 * 8 * 8 / 16 / 2e9, 160 / 2e9
    one = Shape("lstm", 1, 10, 8, 8, state=1)
    assert least_seconds(one, SPEEDS) == pytest.approx(10 * arithmetic + 10 * (reading + row + chain))
    many = replace(one, batch=16)
    assert least_seconds(many, SPEEDS) == pytest.approx(160 * arithmetic + 10 * (16 * (arithmetic + row) + chain))
    ragged = replace(one, batch=2, time=2, shortest=1)
    assert least_seconds(ragged, SPEEDS) == pytest.approx(
        max(3 * arithmetic, reading) + 2 * (reading + chain) + 3 * row
    )
    assert least_seconds(replace(one, directions=2), SPEEDS) == pytest.approx(2 * least_seconds(one, SPEEDS))
    gru = replace(one, kind="gru")
    assert least_seconds(gru, SPEEDS) == pytest.approx(7.5 * (arithmetic + reading) + 10 * (0.6 * row + chain))
    from_zeros = replace(one, state=0)
    assert least_seconds(from_zeros, SPEEDS) == pytest.approx(10 * arithmetic + 9 * reading + 10 * (row + chain))


def test_what_is_read_again_and_again():
    assert footprint(Shape("lstm", 1, 10, 8, 8, num_layers=2)) == 4 * 4 * 8 * 8
    assert footprint(Shape("lstm", 1, 1, 8, 8, num_layers=2)) == 4 * 4 * 8 * 8 * 2
    assert footprint(Shape("lstm", 1, 1, 8, 8, num_layers=2, state=1)) == 4 * 4 * 8 * 8 * 4
    assert footprint(Shape("lstm", 1, 10, 8, 8, proj_size=4)) == 4 * (4 * 8 * 4 + 4 * 8)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_machines_peaks_are_measured(monkeypatch, threads):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("bench.peaks.CALL_SECONDS", 0.0005)
    peaks = Peaks(threads)
    probes = peaks.probes(2**15)
    times = time_in_turn({name: probe.call for name, probe in probes.items()}, seconds=0)
    speeds = peaks.speeds(probes, times, 2**15)
    assert (speeds.threads, speeds.footprint) == (threads, 2**15)
    assert speeds.lanes in (8, 16)
    assert min(speeds.gflops, speeds.gigabytes, speeds.gigahertz) > 0
    alone = probes["peak gigahertz"].work / times["peak gigahertz"].median / 1e3
    assert speeds.gigahertz == pytest.approx(alone / threads, rel=1e-3)  # of a core, not of all


# files


def test_a_result_is_read_as_it_was_written(tmp_path):
    file = tmp_path / "result.json"
    whole().write(file)
    assert Result.read(file) == whole()
    assert [run.threads for run in whole().full] == [1, 4]


def test_the_page_shows_everything_and_needs_nothing_else():
    pytest.importorskip("matplotlib")
    from bench.page import page

    text = page(whole())
    root = ElementTree.fromstring(text)
    links = [value for node in root.iter() for name, value in node.attrib.items() if name.endswith(("href", "src"))]
    assert all(link.startswith("#") for link in links)
    assert not [word for word in ("<script", "<link", "@import", "url(http") if word in text]
    ids = [node.get("id") for node in root.iter() if node.get("id")]
    assert len(set(ids)) == len(ids)
    assert {link[1:] for link in links} <= set(ids)
    assert len(list(root.iter("{http://www.w3.org/2000/svg}svg"))) == 8
    assert ["LOSS" for node in root.iter("td") if node.get("class") == "loss"] == ["LOSS", "LOSS"]
    assert "prefers-color-scheme: dark" in text
    assert "currentColor" in text
    titles = [node.text for node in root.iter("h2")]
    assert titles == [
        *("The machine", "Best peer and ours", "Every shape, 1 thread", "Every shape, 4 threads"),
        *("Latency of one step, 1 thread", "Latency of one step, 4 threads"),
        *("Lower precisions, 1 thread", "Lower precisions, 4 threads", "Percent of the roofline"),
        *("Scaling, 1 thread", "Scaling, 4 threads", "Threads", "Cold start and memory"),
    ]


def test_a_page_of_ours_alone():
    pytest.importorskip("matplotlib")
    from bench.page import page

    text = page(Result([Run(1, FACTS, 1.0, [cell(Shape("lstm", 1, 2, 8, 8), ours=1)])]))
    titles = [node.text for node in ElementTree.fromstring(text).iter("h2")]
    assert titles == ["The machine", "Every shape, 1 thread"]


# README


def test_the_section_of_readme():
    text = readme.section(whole())
    assert text.startswith(
        "A <fast> CPU, avx512 kernels, beside torch 2, onnxruntime 1."
        " On 1 thread: geometric mean of best peer ÷ ours 1.00, slower than the best peer at 1 of 2 shapes."
    )
    rows = [[word.strip() for word in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert rows[0][:5] == ["µs per call", "ours, 1 thread", "torch", "onnxruntime", "openvino"]
    assert rows[2] == ["`lstm B1 T1 H8`", *["2.0", "8.0", "-", "-", "**1.50**"] * 2]
    assert rows[3] == ["`gru B2 T3-9 H8`", *["9.0", "6.0", "-", "-", "0.67, slower"] * 2]


def test_the_section_is_put_between_its_markers():
    text = f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n"
    done = readme.with_section(text, "new")
    assert done == f"before\n{readme.BEGIN}\n\nnew\n\n{readme.END}\nafter\n"
    assert readme.with_section(done, "new") == done
    with pytest.raises(ValueError, match="expected one part between"):
        readme.with_section("no markers", "new")


def test_readme_says_what_was_recorded():
    text = readme.README.read_text()
    assert readme.with_section(text, readme.section(Result.read(readme.RESULT))) == text
    assert ElementTree.parse(readme.PICTURE).getroot().tag.endswith("svg")
