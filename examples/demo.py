"""Networks trained in Keras and PyTorch, run without either: what ``make demo`` shows.

Each committed artefact is imported and verified by the command line, then loaded and run on data its training never
saw. Ends with one line, PASS or FAIL, and exit code 0 or 1.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # one thread for the NumPy loop, as for the engine

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from data import HERE, MinMax, decode, encode, rms
from numpy_loop import numpy_loop

import lstm_fast as lf

OUTPUT = HERE / "output"
TOLERANCE = 1e-5
COLUMNS = ("network", "what it does", "on held-back data", "max diff", "NumPy loop", "ours", "faster")
ROW = "{:<18}  {:<20}  {:<22}  {:>8}  {:>10}  {:>8}  {:>6}"

Recorded = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Example:
    """A trained network: its file, what it does, how good its output is, and which modules to chain."""

    artefact: str
    about: str
    quality: Callable[[Recorded, np.ndarray], str]
    module: str | None = None

    @property
    def native(self) -> Path:
        return OUTPUT / Path(self.artefact).with_suffix(".lstmf").name

    def recorded(self) -> Recorded:
        """The held-back inputs ``x``, the framework's output ``y`` on them, and the truth, ``target``."""
        with np.load((HERE / self.artefact).with_suffix(".npz")) as arrays:
            return dict(arrays)


def forecast_quality(recorded: Recorded, y: np.ndarray) -> str:
    scaling = MinMax(float(recorded["low"]), float(recorded["high"]))
    years = len(recorded["target"])
    naive = recorded["sunspots"][-years - 1 : -1] - recorded["target"]
    return f"RMSE {rms(scaling.restore(y[:, 0]) - recorded['target']):.1f}, naive {rms(naive):.1f}"


def share_right(recorded: Recorded, y: np.ndarray) -> str:
    return f"{np.mean(y.argmax(axis=-1) == recorded['target']):.1%} right"


FORECAST = Example("forecast/sunspots.keras", "next year's sunspots", forecast_quality)
TEXT = Example("text/python.safetensors", "next char of Python", share_right, "embed, lstm, head:softmax")
EXAMPLES = (
    FORECAST,
    Example("digits/digits_lstm.h5", "digits, row by row", share_right),
    Example("digits/digits_gru.pt", "digits, both ways", share_right, "gru:last, hidden:relu, head:softmax"),
    TEXT,
)


def command(*arguments: str) -> bool:
    """Run ``lstm-fast`` in examples/, echo the command and its verdict; False where it failed."""
    shown = " ".join(f'"{a}"' if " " in a else a for a in arguments)
    print(f"$ lstm-fast {shown}", end="", flush=True)
    done = subprocess.run([sys.executable, "-m", "lstm_fast", *arguments], cwd=HERE, capture_output=True, text=True)
    print("  ok" if done.returncode == 0 else f"  exit code {done.returncode}\n{done.stderr.strip()}")
    return done.returncode == 0


def import_and_verify(example: Example) -> bool:
    example.native.unlink(missing_ok=True)
    native = str(example.native.relative_to(HERE))
    module = ("--module", example.module) if example.module else ()
    return command("import", example.artefact, *module, "-o", native) and command("verify", native)


def difference(y: np.ndarray, expected: np.ndarray) -> float:
    """Largest absolute difference, relative to the largest expected value."""
    if y.shape != expected.shape:
        raise SystemExit(f"FAIL: expected an output of shape {expected.shape}, got {y.shape}")
    return float(np.max(np.abs(y.astype(np.float64) - expected)) / np.max(np.abs(expected)))


def seconds_in_turn(functions: list[Callable[[], object]], budget: float = 0.3) -> list[float]:
    """Median seconds of each function, called in turn for ``budget`` seconds so that noise strikes all alike."""
    taken: list[list[float]] = [[] for _ in functions]
    end = time.perf_counter() + budget
    while time.perf_counter() < end:
        for times, function in zip(taken, functions, strict=True):
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in taken]


def microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f} us"


def run(example: Example) -> tuple[float, np.ndarray]:
    """Print the example's row; its largest difference to the framework and its output on the held-back data."""
    recorded = example.recorded()
    model = lf.load(example.native)
    x = recorded["x"]
    y = model.predict(x)
    worst = difference(y, recorded["y"])
    loop = numpy_loop(model.spec)
    one = x[:1]
    theirs, ours = seconds_in_turn([lambda: loop(one), lambda: model.forward_sequence(one)])
    name, quality = Path(example.artefact).name, example.quality(recorded, y)
    numbers = (f"{worst:.1e}", microseconds(theirs), microseconds(ours), f"{theirs / ours:.1f}x")
    print(ROW.format(name, example.about, quality, *numbers), flush=True)
    return worst, y


def plot_forecast(recorded: Recorded, y: np.ndarray, file: Path) -> None:
    """Draw the true series and, over its held-back part, Keras' forecast with ours on top."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scaling = MinMax(float(recorded["low"]), float(recorded["high"]))
    year, held_back = recorded["year"], len(recorded["target"])
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.axvspan(year[-held_back], year[-1], color="0.95", label="held back from training")
    axes.plot(year, recorded["sunspots"], color="tab:blue", linewidth=1, label="sunspots, observed")
    axes.plot(
        year[-held_back:],
        scaling.restore(recorded["y"][:, 0]),
        color="tab:orange",
        linewidth=5,
        alpha=0.55,
        label="forecast by Keras, recorded when trained",
    )
    axes.plot(year[-held_back:], scaling.restore(y[:, 0]), "k--", linewidth=1.2, label="forecast by lstm_fast")
    axes.set(
        title=f"Yearly sunspots, forecast one year ahead ({forecast_quality(recorded, y)};"
        f" largest relative difference to Keras {difference(y, recorded['y']):.0e})",
        xlabel="year",
        ylabel="sunspots",
        xlim=(1850, year[-1]),
    )
    axes.legend(loc="upper left", ncols=2, frameon=False)
    axes.set_ylim(-15, 1.3 * recorded["sunspots"].max())
    figure.savefig(file, dpi=120)


def sample(probabilities: np.ndarray, temperature: float, random: np.random.Generator) -> int:
    """Draw an id; a temperature below 1 favours the likely ones."""
    cumulative = np.cumsum(probabilities.astype(np.float64) ** (1 / temperature))
    return int(np.searchsorted(cumulative, random.random() * cumulative[-1], side="right"))


def generate(model, prompt: str, length: int, temperature: float = 0.5, seed: int = 1) -> tuple[str, float]:
    """Continue ``prompt`` one character at a time, the state of each call fed to the next.

    Returns:
        the prompt with ``length`` more characters, and the network's median seconds per character.
    """
    random = np.random.default_rng(seed)
    ids, seconds = list(encode(prompt)), []
    y, state = model.forward_sequence(np.array([ids]))
    for _ in range(length):
        ids.append(sample(y[0, -1], temperature, random))
        start = time.perf_counter()
        y, state = model.forward_sequence(np.array([ids[-1:]]), state)
        seconds.append(time.perf_counter() - start)
    return decode(np.array(ids)), statistics.median(seconds)


def main() -> int:
    OUTPUT.mkdir(exist_ok=True)
    print("Networks trained in Keras and PyTorch, run without either\n\nIn examples/:")
    broken = [example.artefact for example in EXAMPLES if not import_and_verify(example)]
    if broken:
        print(f"\nFAIL: not imported or not verified: {', '.join(broken)}")
        return 1

    print(f"\n{ROW.format(*COLUMNS)}\n{'-' * len(ROW.format(*COLUMNS))}")
    results = {example: run(example) for example in EXAMPLES}
    print("max diff: largest |ours - framework's| over the largest |framework's|, on all held-back data")
    print("times: one sequence at a time, one thread, median of runs taken in turn")

    text, per_character = generate(lf.load(TEXT.native), "class Queue:\n    def ", 480)
    print(f"\nPython written by the network, state fed back, {microseconds(per_character)} per character:")
    print("".join(f"    | {line}\n" for line in text.splitlines()[:-1]))

    plot = OUTPUT / "forecast.png"
    plot_forecast(FORECAST.recorded(), results[FORECAST][1], plot)
    print(f"Forecast plot: {os.path.relpath(plot)}\n")

    worst = np.max([worst for worst, _ in results.values()])  # a NaN stays one, and fails
    agree = worst <= TOLERANCE
    print(
        f"{'PASS' if agree else 'FAIL'}: {len(EXAMPLES)} networks imported and verified; largest difference to their"
        f" frameworks {worst:.1e}, {'within' if agree else 'above'} {TOLERANCE:.0e}"
    )
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
