"""lstm-fast verify: what passes, what fails, and by which tolerance."""

from __future__ import annotations

import pytest
from commands import fails, run_json
from specs import dense, every_spec, stack, tiny

from lstm_fast import reference
from lstm_fast.cli import main
from lstm_fast.fileformat import write_lstmf
from lstm_fast.spec import ModelSpec

SPECS = every_spec()

pytestmark = pytest.mark.usefixtures("workplace")


@pytest.mark.parametrize("name", SPECS)
def test_verify_passes_on_every_model(name, capsys):
    write_lstmf(SPECS[name], "any.lstmf")
    code, found = run_json(capsys, "verify", "any.lstmf")
    assert [(check["name"], check["passed"]) for check in found["checks"]] == [("recorded", True), ("reference", True)]
    assert code == 0


def test_verify_in_words(capsys):
    assert main(["verify", "model.lstmf"]) == 0
    printed = capsys.readouterr().out
    assert "output recorded in the file" in printed
    assert "FAILED" not in printed


def test_verify_fails_above_the_tolerance(capsys):
    code, found = run_json(capsys, "verify", "model.lstmf", "--tol", "1e-300")
    assert code == 1
    assert found["ok"] is False
    recorded, fresh = found["checks"]
    assert recorded["tolerance"] == 2**-23
    assert fresh["tolerance"] == 1e-300
    assert not fresh["passed"]


def test_verify_in_float64(capsys):
    write_lstmf(SPECS["lstm float64"], "wide.lstmf")
    code, found = run_json(capsys, "verify", "wide.lstmf", "--dtype", "float64", "--tol", "1e-12")
    assert code == 0, found


def test_verify_against_the_source(capsys):
    write_lstmf(tiny(), "source.lstmf")
    code, found = run_json(capsys, "verify", "model.lstmf", "--against", "source.lstmf")
    assert code == 0
    assert [check["name"] for check in found["checks"]] == ["recorded", "reference", "against"]


def test_verify_against_other_weights_fails(capsys):
    write_lstmf(ModelSpec((stack(inputs=2, hidden=2, seed=77), dense(2, 1))), "other.lstmf")
    assert main(["verify", "model.lstmf", "--against", "other.lstmf"]) == 1
    assert "does not hold the source's model" in capsys.readouterr().out


def test_verify_against_another_output_shape_is_null_in_json(capsys):
    write_lstmf(ModelSpec((stack(inputs=2, hidden=2), dense(2, 3))), "other.lstmf")
    code, found = run_json(capsys, "verify", "model.lstmf", "--against", "other.lstmf")
    assert code == 1
    assert found["checks"][2]["difference"] is None


@pytest.mark.parametrize("name", ["lstm", "text"])
def test_verify_against_another_input_is_an_error(name, capsys):
    write_lstmf(SPECS[name], "other.lstmf")
    message = fails(capsys, "verify", "model.lstmf", "--against", "other.lstmf")
    assert "--against: the two models take different inputs" in message


def test_verify_catches_a_wrong_engine(capsys, monkeypatch):
    genuine = reference.forward

    def shifted(*args, **kwargs):
        y, states = genuine(*args, **kwargs)
        return y + 1e-3, states

    monkeypatch.setattr(reference, "forward", shifted)
    assert main(["verify", "model.lstmf"]) == 1
    assert "FAILED" in capsys.readouterr().out
