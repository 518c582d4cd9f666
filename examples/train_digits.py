"""Train two readers of handwritten digits, each taking an 8x8 image row by row.

Keras:   LSTM(128, relu) -> Dense(128, relu) -> Dense(10, softmax), digits/digits_lstm.h5
PyTorch: bidirectional GRU(64) -> Linear(128), relu -> Linear(10), digits/digits_gru.pt

Beside each goes an .npz with the held-back images and the framework's own output on them. Needs keras, torch and
scikit-learn; about a minute.
"""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch
from data import HERE
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn


class GruReader(nn.Module):
    """Class probabilities from the last state of each direction."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(8, 64, batch_first=True, bidirectional=True)
        self.hidden = nn.Linear(128, 128)
        self.head = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _, h_n = self.gru(x)
        return self.head(torch.relu(self.hidden(torch.cat([h_n[0], h_n[1]], dim=-1))))


def train_lstm(x: np.ndarray, target: np.ndarray) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8)),
            keras.layers.LSTM(128, activation="relu"),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    # Smoothed labels keep the logits small, and with them the rounding error of a relu cell's unbounded state.
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss=loss)
    model.fit(x, keras.utils.to_categorical(target, 10), epochs=40, batch_size=32, verbose=0)
    return model


def train_gru(x: np.ndarray, target: np.ndarray) -> GruReader:
    torch.manual_seed(0)
    model = GruReader()
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    images, labels = torch.from_numpy(x), torch.from_numpy(target)
    for _ in range(40):
        for batch in torch.randperm(len(images)).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    return model


def record(name: str, x: np.ndarray, y: np.ndarray, target: np.ndarray) -> None:
    print(f"{name}: {np.mean(y.argmax(-1) == target):.2%} of {len(target)} held-back digits right")
    np.savez_compressed(HERE / "digits" / f"{name}.npz", x=x, y=y, target=target)


def main() -> None:
    torch.set_num_threads(1)  # the layers are too small for more
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)
    x, x_held, target, target_held = train_test_split(
        images, digits.target, test_size=450, stratify=digits.target, random_state=0
    )

    lstm = train_lstm(x, target)
    lstm.save(HERE / "digits" / "digits_lstm.h5", include_optimizer=False)
    record("digits_lstm", x_held, lstm.predict(x_held, verbose=0), target_held)

    gru = train_gru(x, target)
    torch.save(gru.state_dict(), HERE / "digits" / "digits_gru.pt")
    with torch.no_grad():
        y = torch.softmax(gru(torch.from_numpy(x_held)), dim=-1).numpy()
    record("digits_gru", x_held, y, target_held)


if __name__ == "__main__":
    main()
