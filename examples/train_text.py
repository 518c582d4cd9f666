"""Train a character model of Python source in PyTorch: embedding(32) -> LSTM(128) -> linear -> softmax.

The text is the standard library of the Python that runs this script, every twentieth file held back. Writes
text/python.safetensors and text/python.npz (held-back passages with PyTorch's own output). Needs torch
and safetensors; about four minutes on one core.
"""

from __future__ import annotations

import math
import re
import sysconfig
from pathlib import Path

import numpy as np
import torch
from data import HERE, VOCABULARY, encode
from safetensors.torch import save_file
from torch import nn

STREAMS, STEPS, UPDATES = 32, 64, 10000
PASSAGES, PASSAGE_LENGTH = 8, 128
MOST_INDENT = 20


class CharacterModel(nn.Module):
    """Logits of the next character at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(len(VOCABULARY), 32)
        self.lstm = nn.LSTM(32, 128, batch_first=True)
        self.head = nn.Linear(128, len(VOCABULARY))

    def forward(self, ids: torch.Tensor, state=None):
        y, state = self.lstm(self.embed(ids), state)
        return self.head(y), state


def tidy(text: str) -> str:
    """The text without aligned columns and deep indents, whose runs of spaces teach a small network little else."""
    lines = [re.sub(r"(?<=\S) {2,}", " ", line.rstrip()) for line in text.expandtabs().splitlines()]
    return "".join(f"{line}\n" for line in lines if len(line) - len(line.lstrip()) <= MOST_INDENT)


def read_sources() -> tuple[np.ndarray, np.ndarray]:
    """Ids of the training text and of the held-back text."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    texts = [tidy(file.read_text(encoding="utf-8", errors="ignore")) for file in files]
    held_back = "".join(texts[::20])
    train = "".join(text for index, text in enumerate(texts) if index % 20)
    return encode(train), encode(held_back)


def train(ids: np.ndarray) -> CharacterModel:
    torch.manual_seed(0)
    model = CharacterModel()
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=UPDATES, pct_start=0.05)
    streams = torch.from_numpy(ids[: len(ids) // STREAMS * STREAMS].reshape(STREAMS, -1))
    state, place = None, 0
    for update in range(UPDATES):
        if place + STEPS >= streams.shape[1]:
            state, place = None, 0
        x, target = streams[:, place : place + STEPS], streams[:, place + 1 : place + STEPS + 1]
        logits, state = model(x, state)
        state = tuple(s.detach() for s in state)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        place += STEPS
        if update % 1000 == 0:
            print(f"update {update:5d}: {loss.item() / math.log(2):.3f} bits per character", flush=True)
    return model


@torch.no_grad()
def evaluate(model: CharacterModel, ids: np.ndarray) -> tuple[float, float]:
    """Bits per character and the share of characters guessed right, over 2,000-character pieces."""
    pieces = torch.from_numpy(ids[: len(ids) // 2000 * 2000].reshape(-1, 2000))
    logits, _ = model(pieces[:, :-1])
    target = pieces[:, 1:]
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten())
    return loss.item() / math.log(2), (logits.argmax(-1) == target).float().mean().item()


def main() -> None:
    torch.set_num_threads(1)  # two help little at this size
    ids, held_back = read_sources()
    print(f"{len(ids):,} characters to learn, {len(held_back):,} held back")
    model = train(ids)
    bits, right = evaluate(model, held_back)
    print(f"held back: {bits:.3f} bits per character, {right:.1%} of next characters guessed")

    save_file(model.state_dict(), HERE / "text" / "python.safetensors")
    starts = np.linspace(0, len(held_back) - PASSAGE_LENGTH - 1, PASSAGES).astype(int)
    x = np.stack([held_back[start : start + PASSAGE_LENGTH] for start in starts])
    target = np.stack([held_back[start + 1 : start + PASSAGE_LENGTH + 1] for start in starts])
    with torch.no_grad():
        y = torch.softmax(model(torch.from_numpy(x))[0], dim=-1).numpy()
    np.savez_compressed(HERE / "text" / "python.npz", x=x, y=y, target=target)


if __name__ == "__main__":
    main()
