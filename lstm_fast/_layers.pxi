"""Layers of a spec as the structs of csrc/lf.h; included by _engine.pyx."""

_KINDS = {"lstm": _lf.LF_LSTM, "gru": _lf.LF_GRU, "rnn": _lf.LF_RNN}
_CODES = {name: code for code, name in enumerate(ACTIVATIONS)}
if len(_CODES) != <int>_lf.LF_ACTIVATION_COUNT:
    raise ImportError("lstm_fast._engine was built from other sources than lstm_fast.spec; rebuild it")


cdef lf_activation _activation(activation):
    cdef lf_activation a
    a.kind = <_lf.lf_activation_kind><int>_CODES[activation.name]
    a.alpha, a.beta = activation.alpha, activation.beta
    return a


cdef list _flatten(spec):
    """Layers as the engine takes them, one per layer of a stack: (layer, directions or None, last of its stack)."""
    flat = []
    for layer in spec.layers:
        if isinstance(layer, Recurrent):
            count = len(layer.layers)
            flat += [(layer, directions, index == count) for index, directions in enumerate(layer.layers, 1)]
        else:
            flat.append((layer, None, True))
    return flat


cdef const void *_pointer(array, dtype, list keep) except? NULL:
    """Address of a weight as a contiguous array of ``dtype``, kept alive in ``keep``; NULL for None."""
    if array is None:
        return NULL
    cdef cnp.ndarray contiguous = np.ascontiguousarray(array, dtype)
    keep.append(contiguous)
    return cnp.PyArray_DATA(contiguous)


cdef int _fill_layer(lf_layer *to, layer, directions, bint last, dtype, list keep) except -1:
    if isinstance(layer, Recurrent):
        to.kind = _lf.LF_RECURRENT
        to.num_directions = len(directions)
        to.reverse = layer.reverse
        to.return_sequences = layer.return_sequences or not last
        to.repeat_masked = layer.masked_output == "repeat"
        for index, cell in enumerate(directions):
            _fill_cell(&to.cells[index], cell, dtype, keep)
            to.output_size += cell.output_size
        to.input_size = directions[0].input_size
    elif isinstance(layer, Embedding):
        to.kind = _lf.LF_EMBEDDING
        to.input_size, to.output_size = layer.weight.shape
        to.weight = _pointer(layer.weight, dtype, keep)
        to.mask_zero = layer.mask_zero
    elif isinstance(layer, Dense):
        to.kind = _lf.LF_DENSE
        to.output_size, to.input_size = layer.weight.shape
        to.weight = _pointer(layer.weight, dtype, keep)
        to.bias = _pointer(layer.bias, dtype, keep)
        to.activation = _activation(layer.activation)
    elif isinstance(layer, Masking):
        to.kind = _lf.LF_MASKING
        to.mask_value = layer.mask_value
    elif isinstance(layer, Elementwise):
        to.kind = _lf.LF_ELEMENTWISE
        to.activation = _activation(layer.activation)
    elif isinstance(layer, Softmax):
        to.kind = _lf.LF_LOG_SOFTMAX if layer.log else _lf.LF_SOFTMAX
    return 0


cdef int _fill_cell(lf_cell *to, cell, dtype, list keep) except -1:
    to.kind = <_lf.lf_cell_kind><int>_KINDS[cell.kind]
    to.reset_after = cell.reset_after
    to.input_size, to.hidden_size, to.output_size = cell.input_size, cell.hidden_size, cell.output_size
    to.weight_ih = _pointer(cell.weight_ih, dtype, keep)
    to.weight_hh = _pointer(cell.weight_hh, dtype, keep)
    to.bias = _pointer(cell.bias, dtype, keep)
    to.bias_hn = _pointer(cell.bias_hn, dtype, keep)
    to.weight_hr = _pointer(cell.weight_hr, dtype, keep)
    to.gate = _activation(cell.gate_activation)
    to.candidate = _activation(cell.activation)
    to.output = _activation(cell.output_activation)
    return 0
