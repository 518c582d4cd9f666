"""Make the Keras 3 golden files:

    KERAS_BACKEND=torch python tests/golden/keras/make_keras3.py

Writes <name>.keras, <name>.h5 and <name>.npz (x, y) beside itself.
"""

from pathlib import Path

import keras
import numpy as np
from keras import layers

HERE = Path(__file__).parent


def models():
    yield (
        "k3_sequential",
        keras.Sequential(
            [
                keras.Input((None, 3)),
                layers.Bidirectional(layers.LSTM(4, return_sequences=True, recurrent_activation="hard_sigmoid")),
                layers.GRU(5, return_sequences=True, activation=layers.LeakyReLU(negative_slope=0.1)),
                layers.TimeDistributed(layers.Dense(4, "hard_silu")),
                layers.RNN([layers.GRUCell(3, reset_after=False), layers.GRUCell(4)]),
                layers.Dropout(0.5),
                layers.Dense(3, "softmax"),
            ]
        ),
    )
    entry = keras.Input((None,), dtype="int32")
    inner = layers.Embedding(9, 4, mask_zero=True)(entry)
    inner = keras.Sequential([layers.LSTM(3, return_sequences=True), layers.Dense(4, "silu")], name="inner")(inner)
    inner = layers.Bidirectional(layers.SimpleRNN(3, return_sequences=True, activation="mish"))(inner)
    yield "k3_functional", keras.Model(entry, layers.LSTM(2, return_sequences=True)(inner))


def main():
    rng = np.random.default_rng(3)
    for name, model in models():
        x = rng.random((5, 7, 3)).astype("float32")
        if model.input_shape == (None, None):
            x = rng.integers(1, 9, (5, 7)).astype("int32")
            x[0, 0] = x[1, -1] = x[2, 3] = 0
            x[4] = 0
        model(x)
        weights = model.get_weights()
        model.set_weights([(rng.standard_normal(w.shape) * 0.9 / np.sqrt(w.shape[0])) for w in weights])
        model.save(HERE / f"{name}.keras")
        model.save(HERE / f"{name}.h5")
        np.savez_compressed(HERE / f"{name}.npz", x=x, y=model.predict(x, verbose=0))


if __name__ == "__main__":
    main()
