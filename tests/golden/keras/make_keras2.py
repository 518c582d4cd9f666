"""Make the Keras 2 golden files. Run with TensorFlow 2.12 to 2.15 (Keras 2) in Python 3.10:

    python -m pip install "tensorflow-cpu==2.15.1" "numpy<2"
    python tests/golden/keras/make_keras2.py

Writes <name>.h5 and <name>.npz (x, y) beside itself; some models as weights with a JSON configuration.
"""

import zlib
from pathlib import Path

import numpy as np
import tensorflow as tf

keras = tf.keras
layers = keras.layers
HERE = Path(__file__).parent


def sequence(rng, steps, features, batch=3):
    """Series as people feed them: min-max scaled random walks in 0..1."""
    walk = rng.standard_normal((batch, steps, features)).cumsum(axis=1)
    low, high = walk.min(axis=1, keepdims=True), walk.max(axis=1, keepdims=True)
    return ((walk - low) / (high - low)).astype("float32")


def images(rng):
    """Rows of pixels in 0..1, most of them 0, as in handwritten digits."""
    x = rng.random((3, 28, 28)).astype("float32")
    return np.where(rng.random(x.shape) < 0.19, x, 0).astype("float32")


def holes(rng, x):
    """Mask steps by zeroing them: holes, left padding, right padding, and a row that is masked throughout."""
    x = x.copy()
    x[rng.random(x.shape[:2]) < 0.3] = 0
    x[0, :2] = 0
    x[1, -2:] = 0
    x[-1] = 0
    return x


def ids(rng, vocabulary, shape):
    return rng.integers(1, vocabulary, shape).astype("int32")


def first_seven():
    """The networks people meet first."""
    yield (
        "k2_lstm32_softmax",
        [layers.LSTM(32, input_shape=(10, 8)), layers.Dense(10, "softmax")],
        (lambda rng: sequence(rng, 10, 8)),
    )
    yield (
        "k2_embedding_lstm",
        [
            layers.Embedding(40, 16, input_length=12),
            layers.LSTM(24),
            layers.Dense(1, "sigmoid"),
        ],
        lambda rng: ids(rng, 40, (5, 12)),
    )
    yield (
        "k2_lstm64_series",
        [layers.LSTM(64, input_shape=(100, 1)), layers.Dense(1)],
        (lambda rng: sequence(rng, 100, 1)),
    )
    yield (
        "k2_lstm50x2",
        [
            layers.LSTM(50, return_sequences=True, input_shape=(60, 1)),
            layers.LSTM(50),
            layers.Dense(1),
        ],
        lambda rng: sequence(rng, 60, 1),
    )
    yield (
        "k2_sentiment",
        [
            layers.Embedding(1000, 64),
            layers.LSTM(64),
            layers.Dense(1, "sigmoid"),
        ],
        lambda rng: ids(rng, 1000, (3, 40)),
    )
    yield (
        "k2_lstm128_softmax",
        [layers.LSTM(128, input_shape=(20, 30)), layers.Dense(30, "softmax")],
        (lambda rng: np.eye(30, dtype="float32")[rng.integers(0, 30, (3, 20))]),
    )
    yield (
        "k2_digits_relu",
        [
            layers.LSTM(128, activation="relu", input_shape=(28, 28)),
            layers.Dropout(0.2),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(10, activation="softmax"),
        ],
        images,
    )


def variants():
    """Attributes that change numbers, each in a small network."""
    hard = {"recurrent_activation": "hard_sigmoid"}
    yield (
        "k2_hard_sigmoid",
        [layers.LSTM(6, return_sequences=True, input_shape=(7, 4), **hard), layers.GRU(5, **hard)],
        (lambda rng: 4 * sequence(rng, 7, 4, 5)),
    )
    for after in (False, True):
        yield (
            f"k2_gru_reset_{'after' if after else 'before'}",
            [
                layers.GRU(7, reset_after=after, return_sequences=True, input_shape=(None, 4)),
                layers.GRU(3, reset_after=after, activation="softsign", use_bias=False),
            ],
            lambda rng: sequence(rng, 9, 4, 2),
        )
    yield (
        "k2_masked_bidirectional",
        [
            layers.Masking(0.0, input_shape=(None, 3)),
            layers.Bidirectional(layers.LSTM(4, return_sequences=True)),
            layers.Bidirectional(layers.GRU(5), backward_layer=layers.GRU(5, activation="elu", go_backwards=True)),
            layers.LeakyReLU(),
        ],
        lambda rng: holes(rng, sequence(rng, 8, 3, 5)),
    )
    yield (
        "k2_masked_repeat",
        [
            layers.Embedding(11, 3, mask_zero=True),
            layers.LSTM(4, return_sequences=True),
            layers.SimpleRNN(5, return_sequences=True, activation="leaky_relu"),
            layers.TimeDistributed(layers.Dense(2, activation="gelu")),
        ],
        lambda rng: holes(rng, ids(rng, 11, (5, 8))[..., None])[..., 0],
    )
    yield (
        "k2_backwards_stack",
        [
            layers.RNN([layers.LSTMCell(4), layers.LSTMCell(3)], go_backwards=True, input_shape=(6, 2)),
            layers.Dense(3, "log_softmax"),
        ],
        lambda rng: sequence(rng, 6, 2, 1),
    )
    inner = keras.Sequential([layers.LSTM(3, return_sequences=True, trainable=False), layers.Dense(4)], name="inner")
    yield (
        "k2_nested_frozen",
        [inner, layers.SimpleRNN(3, return_sequences=True), layers.Dense(1)],
        (lambda rng: sequence(rng, 6, 2)),
    )


def randomize(model, rng):
    """Biases too, which would else be zeros and ones."""
    model.set_weights(
        [(rng.standard_normal(w.shape) * 0.9 / np.sqrt(w.shape[0])).astype("float32") for w in model.get_weights()]
    )


def main():
    for name, chain, data in [*first_seven(), *variants()]:
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        model = keras.Sequential(chain)
        x = data(rng)
        model(x)
        randomize(model, rng)
        model.save(HERE / f"{name}.h5", include_optimizer=False)
        np.savez_compressed(HERE / f"{name}.npz", x=x, y=model.predict(x, verbose=0))
    make_weights_with_config()
    make_functional()
    make_nested()
    make_cudnn()


def make_weights_with_config():
    rng = np.random.default_rng(1)
    model = keras.Sequential([layers.GRU(4, input_shape=(None, 3)), layers.Dense(2, "hard_sigmoid")])
    randomize(model, rng)
    x = sequence(rng, 5, 3)
    model.save_weights(HERE / "k2_save_weights.h5")
    model.save_weights(HERE / "k2_new.weights.h5")
    (HERE / "k2_weights.json").write_text(model.to_json())
    np.savez_compressed(HERE / "k2_weights.npz", x=x, y=model.predict(x, verbose=0))


def make_functional():
    rng = np.random.default_rng(2)
    entry = keras.Input((None, 3))
    inner = layers.LSTM(4, return_sequences=True)(layers.Masking()(entry))
    model = keras.Model(entry, layers.Dense(2, "tanh")(layers.LSTM(3, return_state=True)(inner)[0]))
    randomize(model, rng)
    x = holes(rng, sequence(rng, 6, 3, 3))
    model.save(HERE / "k2_functional.keras")
    model.save(HERE / "k2_functional.h5", include_optimizer=False)
    np.savez_compressed(HERE / "k2_functional.npz", x=x, y=model.predict(x, verbose=0))


def make_nested():
    """A model called by another, of which a part is frozen."""
    rng = np.random.default_rng(5)
    entry = keras.Input((None, 3))
    frozen = layers.TimeDistributed(layers.Dense(4, trainable=False))
    inner = keras.Model(entry, layers.Dense(4)(frozen(layers.LSTM(4, return_sequences=True)(entry))), name="inner")
    outer = keras.Input((None, 3))
    model = keras.Model(outer, layers.SimpleRNN(3)(inner(outer)))
    randomize(model, rng)
    x = sequence(rng, 5, 3)
    model.save(HERE / "k2_nested_called.h5", include_optimizer=False)
    np.savez_compressed(HERE / "k2_nested_called.npz", x=x, y=model.predict(x, verbose=0))


def make_cudnn():
    """CuDNN layers run on GPUs only; the output is that of plain layers, for which Keras converts the weights."""
    rng = np.random.default_rng(4)
    v1 = tf.compat.v1.keras.layers
    model = keras.Sequential(
        [v1.CuDNNLSTM(4, return_sequences=True, input_shape=(7, 3)), v1.CuDNNGRU(5), layers.Dense(2)]
    )
    randomize(model, rng)
    model.save(HERE / "k2_cudnn.h5", include_optimizer=False)
    plain = keras.Sequential(
        [layers.LSTM(4, return_sequences=True, input_shape=(7, 3)), layers.GRU(5, reset_after=True), layers.Dense(2)]
    )
    plain.load_weights(HERE / "k2_cudnn.h5")
    x = sequence(rng, 7, 3)
    np.savez_compressed(HERE / "k2_cudnn.npz", x=x, y=plain.predict(x, verbose=0))


if __name__ == "__main__":
    main()
