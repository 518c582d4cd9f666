"""Train the sunspot forecaster in Keras: LSTM(50) -> LSTM(50) -> Dense(1) on windows of 60 years.

Writes forecast/sunspots.keras and forecast/sunspots.npz (held-back windows with Keras' own output). Needs keras, torch
and statsmodels; some minutes on two cores.
"""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import statsmodels.api as sm
import torch
from data import HERE, MinMax, rms, windows

WINDOW = 60
FIRST_VALIDATION_YEAR = 1891
FIRST_HELD_BACK_YEAR = 1921


def main() -> None:
    torch.set_num_threads(2)
    keras.utils.set_random_seed(0)

    frame = sm.datasets.sunspots.load_pandas().data
    year, sunspots = frame["YEAR"].to_numpy(np.int64), frame["SUNACTIVITY"].to_numpy(np.float64)
    scaling = MinMax.fit(sunspots[year < FIRST_HELD_BACK_YEAR])
    x, target = windows(scaling.scale(sunspots), WINDOW)
    target_year = year[WINDOW:]
    train = target_year < FIRST_VALIDATION_YEAR
    held_back = target_year >= FIRST_HELD_BACK_YEAR
    validation = ~train & ~held_back

    model = keras.Sequential(
        [
            keras.Input((WINDOW, 1)),
            keras.layers.LSTM(50, return_sequences=True),
            keras.layers.LSTM(50),
            keras.layers.Dense(1),
        ]
    )
    model.compile(optimizer=keras.optimizers.Adam(3e-3), loss="mse")
    history = model.fit(
        x[train],
        target[train],
        validation_data=(x[validation], target[validation]),
        epochs=150,
        batch_size=16,
        verbose=0,
        callbacks=[keras.callbacks.EarlyStopping(patience=40, restore_best_weights=True)],
    )

    forecast = model.predict(x[held_back], verbose=0)
    true = sunspots[WINDOW:][held_back]
    print(f"epochs {len(history.epoch)}, best validation mse {min(history.history['val_loss']):.5f}")
    print(f"held back {target_year[held_back][0]}-{target_year[held_back][-1]}, {held_back.sum()} years")
    print(f"RMSE of the network           {rms(scaling.restore(forecast[:, 0]) - true):6.2f} sunspots")
    print(f"RMSE of 'same as last year'   {rms(sunspots[WINDOW - 1 : -1][held_back] - true):6.2f} sunspots")

    model.save(HERE / "forecast" / "sunspots.keras")
    np.savez_compressed(
        HERE / "forecast" / "sunspots.npz",
        x=x[held_back],
        y=forecast,
        target=true,
        year=year,
        sunspots=sunspots,
        low=scaling.low,
        high=scaling.high,
    )


if __name__ == "__main__":
    main()
