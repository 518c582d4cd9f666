"""The public face: loaders and their options, predict, run, summary, saving and copying, configuration."""

from __future__ import annotations

import copy
import io
import pickle
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from nets import bits, every_engine, inputs, network, random_state
from specs import cell, dense, embedding, every_spec, stack, tiny

import lstm_fast as lf
from lstm_fast import Model, reference
from lstm_fast.fileformat import lstmf_bytes
from lstm_fast.spec import Softmax

CHAIN = network(
    stack("lstm", 3, 5, directions=2, name="first"),
    stack("gru", 10, 4, name="second", return_sequences=False),
    dense(4, 2),
    Softmax("softmax"),
)
TEXT = network(embedding(9, 3, mask_zero=True), stack("gru", 3, 4, masked_output="repeat"), dense(4, 3))


# predict


@pytest.mark.parametrize("batch_size", [None, 1, 2, 3, 7, 100])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("progress", [False, True])
def test_predict_is_the_output_whatever_the_batch_size(batch_size, batch_first, progress, capsys):
    if progress:
        pytest.importorskip("tqdm")
    lengths = np.array([4, 0, 1, 2, 3, 4, 4])
    for spec in (replace(CHAIN, batch_first=batch_first), replace(TEXT, batch_first=batch_first)):
        model = Model(spec, backend="packed")
        x = inputs(spec, 7, 4)
        assert bits(model.predict(x, batch_size, progress)) == bits(model.forward_sequence(x)[0])
        padded = model.predict(x, batch_size, progress, lengths=lengths)
        assert bits(padded) == bits(model.forward_sequence(x, lengths=lengths)[0])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("batch" in captured.err) is progress


@pytest.mark.parametrize("batch_size", [None, 2])
def test_predict_takes_what_forward_sequence_takes(batch_size):
    model = Model(CHAIN)
    x = inputs(CHAIN, 1, 4)
    expected = bits(model.predict(x))
    assert bits(model.predict(x.tolist(), batch_size)) == expected
    assert bits(model.predict(x.astype(np.float64), batch_size)) == expected
    assert bits(model.predict(x[0], batch_size)) == bits(model.forward_sequence(x[0])[0])
    assert model.predict(np.zeros((0, 4, 3), np.float32), batch_size).shape == (0, 2)
    assert model.predict(np.zeros((2, 0, 3), np.float32), batch_size).shape == (2, 2)


@pytest.mark.parametrize("batch_size", [None, 2])
def test_predict_refuses_what_forward_sequence_refuses(batch_size):
    model = Model(CHAIN)
    for shape in ((0, 4, 2), (1, 4, 2), (2, 4, 2), (4, 2), (3,)):
        with pytest.raises(lf.ShapeError, match=re.escape(f"(batch, time, 3) or unbatched (time, 3), got {shape}")):
            model.predict(np.zeros(shape, np.float32), batch_size)
    with pytest.raises(lf.DTypeError, match="int32"):
        model.predict(np.zeros((2, 4, 3), np.int32), batch_size)
    with pytest.raises(lf.ShapeError, match=re.escape("lengths[1]: expected 0 .. 4")):
        model.predict(inputs(CHAIN, 2, 4), batch_size, lengths=[1, 5])
    with pytest.raises(lf.IndexRangeError):
        Model(TEXT).predict(np.full((5, 4), 9), batch_size)


@pytest.mark.parametrize("batch_size", [None, 1, 2, 100])
def test_predict_speaks_of_the_whole_of_x(batch_size):
    """Whatever the group of sequences in which it finds a fault."""
    model = Model(TEXT)
    ids = inputs(TEXT, 7, 4)
    for bad in (9, -1, 2**62):
        ids[5, 2] = bad
        with pytest.raises(lf.IndexRangeError, match="sequence 5, step 2 "):
            model.predict(ids, batch_size)
    with pytest.raises(lf.ShapeError, match=re.escape("got (7, 4, 2)")):
        Model(CHAIN).predict(np.zeros((7, 4, 2), np.float32), batch_size)
    with pytest.raises(lf.ShapeError, match=re.escape("lengths[6]: expected 0 .. 4")):
        Model(CHAIN).predict(inputs(CHAIN, 7, 4), batch_size, lengths=[4] * 6 + [5])


@pytest.mark.parametrize("batch_size", [0, -3])
def test_predict_refuses_an_impossible_batch_size(batch_size):
    with pytest.raises(ValueError, match=f"batch_size: expected at least 1, got {batch_size}"):
        Model(CHAIN).predict(inputs(CHAIN, 2, 4), batch_size)


@pytest.mark.parametrize("batch_size", ["2", 2.0, [2], object])
def test_predict_refuses_a_batch_size_that_is_no_number(batch_size):
    with pytest.raises(TypeError, match=re.escape(f"batch_size: expected a whole number or None, got {batch_size!r}")):
        Model(CHAIN).predict(inputs(CHAIN, 2, 4), batch_size)


def test_predict_without_tqdm_says_what_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match=re.escape("progress: needs tqdm") + ".*" + re.escape("'lstm_fast[cli]'")):
        Model(CHAIN).predict(inputs(CHAIN, 2, 4), progress=True)


# run


def test_run_of_one_lstm():
    model = Model(network(stack("lstm", 3, 4)))
    x, (h, c) = inputs(model.spec, 2, 5), random_state(model.spec, 2)
    assert model.input_names == ["X", "sequence_lens", "initial_h", "initial_c"]
    assert model.output_names == ["Y", "Y_h", "Y_c"]
    y, (h_n, c_n) = model.forward_sequence(x, (h, c), lengths=[5, 3])
    feed = {"X": x, "initial_h": h, "initial_c": c, "sequence_lens": [5, 3]}
    assert bits(tuple(model.run(None, feed))) == bits((y, h_n, c_n))
    assert bits(tuple(model.run(["Y_c", "Y"], feed))) == bits((c_n, y))
    assert model.run([], feed) == []


def test_run_of_several_stacks():
    model = Model(CHAIN)
    x, state = inputs(CHAIN, 2, 5), random_state(CHAIN, 2)
    names = ["initial_h.first", "initial_c.first", "initial_h.second"]
    assert model.input_names == ["X", "sequence_lens", *names]
    assert model.output_names == ["Y", "Y_h.first", "Y_c.first", "Y_h.second"]
    y, ((h, c), second) = model.forward_sequence(x, state)
    feed = {"X": x, names[0]: state[0][0], names[1]: state[0][1], names[2]: state[1]}
    assert bits(tuple(model.run(None, feed))) == bits((y, h, c, second))
    some = {"X": x, names[2]: state[1]}
    assert bits(model.run(["Y"], some)[0]) == bits(model.forward_sequence(x, (None, state[1]))[0])


def test_run_of_no_stack():
    model = Model(network(dense(3, 2)))
    assert (model.input_names, model.output_names) == (["X", "sequence_lens"], ["Y"])
    x = inputs(model.spec, 2, 5)
    assert bits(model.run(None, {"X": x})[0]) == bits(model.predict(x))


def test_run_names_what_it_does_not_know():
    model = Model(network(stack("lstm", 3, 4)))
    x, (h, _) = inputs(model.spec, 2, 5), random_state(model.spec, 2)
    with pytest.raises(ValueError, match=r"feed: expected X .*initial_h.*got \['X', 'x2'\]"):
        model.run(None, {"X": x, "x2": x})
    with pytest.raises(ValueError, match="feed: expected X"):
        model.run(None, {})
    with pytest.raises(ValueError, match=r"output_names: expected any of .*'Y_h'.*got \['Z'\]"):
        model.run(["Y", "Z"], {"X": x})
    for feed in ([x], x, None):
        with pytest.raises(TypeError, match=f"feed: expected a mapping of names to arrays.*{type(feed).__name__}"):
            model.run(None, feed)
    with pytest.raises(lf.ShapeError, match="initial_h and initial_c go together"):
        model.run(None, {"X": x, "initial_h": h})


# what people see


def test_repr_and_summary():
    model = Model(CHAIN, isa="generic", backend="packed", num_threads=2)
    assert repr(model) == (
        "<lstm_fast.Model LSTM, bidirectional(10) > GRU(4) > Dense(2) > Softmax(); float32, packed, generic>"
    )
    text = model.summary()
    assert all(word in text for word in ("first", "second", "(batch, time, 10)", "(batch, 2)", "Parameters"))
    assert "float32, packed, generic, 2 threads" in text
    wide = Model(every_spec()["lstm float64"], isa="generic", backend="packed")
    assert repr(wide) == "<lstm_fast.Model LSTM(4); float32 of float64 weights, packed, generic>"


@pytest.mark.parametrize("name", every_spec())
def test_every_model_has_a_repr_and_a_summary(name):
    model = Model(every_spec()[name])
    assert repr(model).startswith("<lstm_fast.Model ")
    assert "Runs as:" in model.summary()


def test_show_config(capsys, monkeypatch):
    for name in ("ISA", "BACKEND", "NUM_THREADS"):
        monkeypatch.delenv(f"LSTM_FAST_{name}", raising=False)
    facts = lf.config()
    assert facts["lstm_fast"] == lf.__version__
    assert facts["isa"]["used"] == Model(CHAIN).isa
    assert (facts["backend"], facts["threads"]["default"]) == ("packed", 1)
    assert 1 <= facts["threads"]["auto"] == Model(CHAIN, num_threads="auto").num_threads
    lf.show_config()
    shown = capsys.readouterr().out
    assert all(str(word) in shown for word in (lf.__version__, np.__version__, facts["isa"]["used"], "1 by default"))


def test_config_follows_the_environment(capsys, monkeypatch):
    monkeypatch.setenv("LSTM_FAST_ISA", "generic")
    monkeypatch.setenv("LSTM_FAST_NUM_THREADS", "3")
    facts = lf.config()
    assert (facts["isa"]["used"], facts["threads"]["default"]) == ("generic", 3)
    model = Model(CHAIN)
    assert (model.isa, model.num_threads) == ("generic", 3)
    lf.show_config()
    assert "LSTM_FAST_ISA" in capsys.readouterr().out


def test_the_public_names():
    assert all(hasattr(lf, name) for name in lf.__all__)


# saving and copying


@pytest.mark.parametrize("name", every_spec())
def test_saving_changes_no_bit(name, tmp_path):
    spec = every_spec()[name]
    model = Model(spec)
    model.save(tmp_path / "model.lstmf")
    again = lf.load(tmp_path / "model.lstmf")
    x = inputs(spec, 3, 6)
    assert bits(again.forward_sequence(x)) == bits(model.forward_sequence(x))
    assert again.spec.batch_first == spec.batch_first
    assert (tmp_path / "model.lstmf").read_bytes() == lstmf_bytes(spec)


def test_saving_replaces_a_file_unless_told_not_to(tmp_path):
    path = tmp_path / "model.lstmf"
    Model(CHAIN).save(str(path))
    Model(TEXT).save(path)
    assert lf.load(path).spec.takes_ids
    with pytest.raises(FileExistsError):
        Model(CHAIN).save(path, overwrite=False)
    assert lf.load(path).spec.takes_ids


def test_saving_keeps_the_precision_of_the_source(tmp_path):
    spec = every_spec()["lstm float64"]
    Model(spec).save(tmp_path / "model.lstmf")
    again = lf.load(tmp_path / "model.lstmf", dtype="float64")
    x = inputs(spec, 2, 5, dtype=np.float64)
    assert bits(again.predict(x)) == bits(Model(spec, dtype="float64").predict(x))


@pytest.mark.parametrize("copied", [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy], ids=["pickle", "deepcopy"])  # noqa: S301
@pytest.mark.parametrize("spec", [CHAIN, TEXT], ids=["chain", "text"])
def test_copies_run_the_same(copied, spec):
    model = Model(spec, dtype="float64", backend="packed", isa="generic", num_threads=2)
    x = inputs(spec, 3, 6)
    again = copied(model)
    assert again is not model
    assert bits(again.forward_sequence(x)) == bits(model.forward_sequence(x))
    assert (again.dtype, again.backend, again.isa, again.num_threads) == (np.float64, "packed", "generic", 2)


def test_a_pickle_holds_what_was_asked_for_not_what_was_found(monkeypatch):
    """A model pickled on a machine with wider vectors runs on one without."""
    monkeypatch.delenv("LSTM_FAST_ISA", raising=False)
    stored = pickle.dumps(Model(CHAIN))
    monkeypatch.setenv("LSTM_FAST_ISA", "generic")
    assert pickle.loads(stored).isa == "generic"  # noqa: S301


def test_a_copy_of_what_cannot_change_is_itself():
    model = Model(CHAIN)
    assert copy.copy(model) is model


def test_a_model_keeps_nothing_of_its_arrays():
    weight_ih, weight_hh = cell().weight_ih.copy(), cell().weight_hh.copy()
    model = lf.LSTM(weight_ih, weight_hh)
    x = inputs(model.spec, 2, 5)
    before = bits(model.forward_sequence(x))
    weight_ih[:] = weight_hh[:] = 9
    assert bits(model.forward_sequence(x)) == before


def frozen(model: Model) -> None:
    """Nothing can be written through the weights of ``model``."""
    for name, value in model.spec.tensors():
        with pytest.raises(ValueError, match="read-only"):
            value[:] = 0
        assert not value.flags.writeable, name


@pytest.mark.parametrize("name", every_spec())
def test_the_weights_of_a_model_are_read_only(name, tmp_path):
    spec = every_spec()[name]
    model = Model(spec)
    frozen(model)
    frozen(copy.deepcopy(model))
    frozen(pickle.loads(pickle.dumps(model)))  # noqa: S301
    model.save(tmp_path / "model.lstmf")
    frozen(lf.load(tmp_path / "model.lstmf"))
    assert (tmp_path / "model.lstmf").read_bytes() == lstmf_bytes(spec)


def test_a_callers_arrays_stay_writeable_and_are_not_copied():
    spec = tiny()
    model = Model(spec)
    for (_, theirs), (_, ours) in zip(spec.tensors(), model.spec.tensors(), strict=True):
        assert theirs.flags.writeable
        assert np.shares_memory(theirs, ours)


# loaders

OPTIONS = [
    {"dtype": dtype, "num_threads": 2, **engine} for engine in every_engine() for dtype in ("float32", "float64")
]


def has(model: Model, options: dict) -> bool:
    return all(str(getattr(model, name)) == str(value) for name, value in options.items())


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
def test_every_loader_takes_the_options(options, tmp_path):
    Model(tiny()).save(tmp_path / "model.lstmf")
    content = (tmp_path / "model.lstmf").read_bytes()
    for source in (tmp_path / "model.lstmf", str(tmp_path / "model.lstmf"), content, io.BytesIO(content)):
        assert has(lf.load(source, **options), options)
    weights = {kind: (cell(kind).weight_ih, cell(kind).weight_hh) for kind in ("lstm", "gru", "rnn")}
    assert has(lf.LSTM(*weights["lstm"], **options), options)
    assert has(lf.GRU(*weights["gru"], **options), options)
    assert has(lf.RNN(*weights["rnn"], **options), options)


def test_loaders_refuse_what_they_do_not_know():
    weights = cell().weight_ih, cell().weight_hh
    for wrong in ({"device": "cpu"}, {"threads": 2}):
        with pytest.raises(TypeError, match=next(iter(wrong))):
            lf.LSTM(*weights, **wrong)
        with pytest.raises(TypeError, match=next(iter(wrong))):
            lf.load(lstmf_bytes(tiny()), **wrong)


def test_raw_arrays_run_as_the_formulas_say():
    """PyTorch's layout: biases in halves, the GRU's gates r, z, n."""
    rng = np.random.default_rng(0)

    def arrays(gates):
        shapes = [(gates * 4, 3), (gates * 4, 4), (gates * 4,), (gates * 4,)]
        return [rng.uniform(-0.5, 0.5, shape).astype(np.float32) for shape in shapes]

    x = rng.standard_normal((2, 6, 3)).astype(np.float32)
    models = [
        lf.LSTM(*arrays(4)),
        lf.LSTM(*arrays(4), activation="relu", gate_activation="hard_sigmoid", return_sequences=False),
        lf.GRU(*arrays(3)),
        lf.GRU(*arrays(3), reset_after=False, reverse=True),
        lf.RNN(*arrays(1), nonlinearity="relu"),
    ]
    for model in models:
        expected, _ = reference.forward(model.spec, x)
        np.testing.assert_allclose(model.predict(x), expected, rtol=0, atol=1e-6)
    time_first = lf.RNN(*[value.copy() for _, value in cell("rnn").tensors()], batch_first=False)
    assert time_first.predict(np.zeros((6, 2, 3), np.float32)).shape == (6, 2, 4)
