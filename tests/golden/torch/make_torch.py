"""Writes the golden PyTorch files beside this script: ``python make_torch.py``, with torch and safetensors installed.

Of each file, ``<name>.npz`` holds an input and what PyTorch computes from it in float64, batch first: x, y, and the
final h (and c) of every recurrent module where there is one.
"""

import argparse
import warnings
import zipfile
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

HERE = Path(__file__).parent
LEGACY = {"_use_new_zipfile_serialization": False}


def drop_debug_members(path: Path) -> None:
    """Take the source and the paths that TorchScript keeps for its messages out of an archive."""
    with zipfile.ZipFile(path) as archive:
        members = [
            (info, archive.read(info)) for info in archive.infolist() if not info.filename.endswith(".debug_pkl")
        ]
    with zipfile.ZipFile(path, "w") as archive:
        for info, data in members:
            archive.writestr(zipfile.ZipInfo(info.filename), data)


class TextNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 3)
        self.lstm = nn.LSTM(3, 4, batch_first=True)
        self.head = nn.Linear(4, 11)

    def forward(self, ids):
        return torch.softmax(self.head(self.lstm(self.embed(ids))[0]), -1)


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 4, bidirectional=True)
        self.hidden = nn.Linear(8, 5)
        self.out = nn.Linear(5, 2)

    def forward(self, x):
        h = self.gru(x)[1]
        last = torch.cat([h[-2], h[-1]], -1)
        return torch.log_softmax(self.out(torch.relu(self.hidden(last))), -1)


def record(name: str, module: nn.Module, x: torch.Tensor) -> None:
    """Run in float64 and keep what comes out; ``x`` is batch first."""
    module = module.double()
    time_first = not getattr(module, "batch_first", True) or isinstance(module, Tagger)
    x = x.double() if x.is_floating_point() else x
    with torch.no_grad():
        result = module(x.transpose(0, 1) if time_first else x)
    arrays = {"x": x.numpy()}
    if isinstance(result, tuple):
        y, state = result
        arrays["y"] = (y.transpose(0, 1) if time_first else y).numpy()
        arrays |= dict(zip("hc", (s.numpy() for s in (state if isinstance(state, tuple) else (state,))), strict=False))
    else:
        arrays["y"] = result.numpy()
    np.savez_compressed(HERE / f"{name}.npz", **arrays)


def main() -> None:
    torch.manual_seed(7)
    x = torch.randn(3, 5, 3)

    lstm = nn.LSTM(3, 4, num_layers=2, bidirectional=True, proj_size=2)
    torch.save(lstm.state_dict(), HERE / "lstm_projected.pt")
    record("lstm_projected", lstm, x)

    gru = nn.GRU(3, 5, bidirectional=True)
    torch.save(gru.state_dict(), HERE / "gru_legacy.pth", **LEGACY)
    record("gru_legacy", gru, x)

    rnn = nn.RNN(3, 4, num_layers=2, nonlinearity="relu", batch_first=True, dropout=0.3).eval()
    torch.save(rnn, HERE / "rnn_relu_module.pt")
    record("rnn_relu_module", rnn, x)

    dense = nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU(0.3), nn.Dropout(0.5), nn.Linear(4, 2), nn.Softmax(-1)).eval()
    with mock.patch("inspect.getsourcelines", side_effect=OSError), warnings.catch_warnings(action="ignore"):
        torch.save(dense, HERE / "sequential_module_legacy.pth", **LEGACY)  # without the source of its classes
    record("sequential_module_legacy", dense, x)

    text = TextNet().to(torch.bfloat16)
    save_file(text.state_dict(), HERE / "text_bfloat16.safetensors")
    record("text_bfloat16", text, torch.randint(0, 11, (2, 6)))

    tagger = Tagger().double()
    optimizer = torch.optim.Adam(tagger.parameters())
    tagger(x.double()).sum().backward()
    optimizer.step()
    checkpoint = {
        "epoch": 3,
        "args": argparse.Namespace(lr=1e-3, layers=[3, 4]),
        "model_state": {f"module.{key}": value for key, value in tagger.state_dict().items()},
        "optimizer": optimizer.state_dict(),
    }
    torch.save(checkpoint, HERE / "checkpoint_float64.pt")
    record("checkpoint_float64", tagger, x)

    scripted = nn.LSTM(3, 4, bias=False)
    torch.jit.script(scripted).save(HERE / "lstm_script.pt")
    drop_debug_members(HERE / "lstm_script.pt")
    record("lstm_script", scripted, x)

    cell = nn.GRUCell(3, 4)
    torch.save(cell.state_dict(), HERE / "gru_cell.pt")
    stack = nn.GRU(3, 4)
    stack.load_state_dict({f"{key}_l0": value for key, value in cell.state_dict().items()})
    record("gru_cell", stack, x)

    # One half-precision storage under two tensors, one of them transposed and behind an offset.
    pool = torch.randn(80).half()
    views = {"weight_ih_l0": pool[20:68].view(3, 16).t(), "weight_hh_l0": pool[:64].view(16, 4)}
    torch.save(views, HERE / "lstm_half_views.pt")
    half = nn.LSTM(3, 4, bias=False)
    half.load_state_dict({key: value.float() for key, value in views.items()})
    record("lstm_half_views", half, x)


if __name__ == "__main__":
    main()
