"""Make the golden files of Keras 2.3.1, the last release of Keras as a package of its own. Run in Python 3.7:

    python -m pip install "tensorflow==1.15.5" "keras==2.3.1" "h5py<3" "protobuf<3.21" "numpy<1.19"
    python tests/golden/keras/make_keras23.py

Writes <name>.h5 and <name>.npz (x, y) beside itself.
"""

from pathlib import Path

import keras
import numpy as np
from keras import layers

HERE = Path(__file__).parent
RNG = np.random.RandomState(3)


def randomize(model):
    model.set_weights([(RNG.standard_normal(w.shape) * 0.9 / np.sqrt(w.shape[0])) for w in model.get_weights()])


def record(name, model, x):
    randomize(model)
    model.save(str(HERE / (name + ".h5")), include_optimizer=False)
    np.savez_compressed(str(HERE / (name + ".npz")), x=x, y=model.predict(x))


def main():
    x = RNG.random_sample((5, 7, 3)).astype("float32")
    masked = x * (RNG.random_sample((5, 7, 1)) > 0.3)
    masked[0, :2], masked[1, -2:], masked[4] = 0, 0, 0
    record(
        "k23_masked_bidirectional",
        keras.Sequential(
            [
                layers.Masking(0.0, input_shape=(None, 3)),
                layers.Bidirectional(layers.LSTM(4, return_sequences=True, recurrent_activation="hard_sigmoid")),
                layers.Bidirectional(layers.GRU(3, return_sequences=True)),
                layers.TimeDistributed(layers.Dense(2, activation="softmax")),
            ]
        ),
        masked.astype("float32"),
    )
    entry = keras.layers.Input((7, 3))
    inner = layers.SimpleRNN(5, return_sequences=True)(entry)
    record("k23_functional", keras.Model(entry, layers.ELU(0.7)(layers.GRU(4, go_backwards=True)(inner))), x)


if __name__ == "__main__":
    main()
