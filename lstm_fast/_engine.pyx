# cython: language_level=3
"""The only bridge between Python and csrc/: owns memory, checks shapes, turns status codes into exceptions."""

import numpy as np

cimport cython
cimport numpy as cnp
from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject
from libc.stdint cimport int64_t
from libc.string cimport memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from . cimport _lf
from ._lf cimport lf_activation, lf_call, lf_cell, lf_layer, lf_plan, lf_state

from .activations import ACTIVATIONS
from .arrays import as_ids, as_lengths, as_real, describe, usable_output
from .errors import BackendError, DTypeError, IndexRangeError, LstmFastError, ModelFormatError, ShapeError, StateError
from .spec import Dense, Elementwise, Embedding, Masking, Recurrent, Softmax

cnp.import_array()

#: Numbers in an array, beyond which its bytes overflow 64 bits.
cdef double MOST_NUMBERS = 1e18

include "_status.pxi"
include "_arrays.pxi"
include "_layers.pxi"
include "_signals.pxi"
include "_workspace.pxi"


cdef class _Stack:
    """How the state of one recurrent stack looks to the caller."""

    cdef readonly str name
    cdef readonly bint has_c
    cdef readonly Py_ssize_t cells, h_size, c_size

    def __init__(self, layer):
        first = layer.layers[0][0]
        self.name = layer.name
        self.has_c = layer.kind == "lstm"
        self.cells = len(layer.layers) * layer.num_directions
        self.h_size, self.c_size = first.output_size, first.hidden_size


cdef class Engine:
    """A network packed for one instruction set and backend; see :class:`lstm_fast.Model` for the public face."""

    cdef lf_plan *_plan
    cdef _Pool _pool
    cdef list _stacks
    cdef Py_ssize_t _input_size, _output_size, _widest
    cdef bint _takes_ids, _returns_sequences, _batch_first
    cdef int _typenum, _x_typenum, _rank
    cdef readonly object spec, dtype
    cdef readonly str backend, isa
    cdef readonly int num_threads

    def __cinit__(self, *args, **kwargs):
        self._plan = NULL

    def __dealloc__(self):
        _lf.lf_plan_free(self._plan)

    def __init__(self, spec, *, dtype, str backend, isa, int num_threads):
        """Pack ``spec``, which is valid; ``isa`` None takes the best this machine can run."""
        if self._plan != NULL:
            raise StateError("a model is built once; load another one instead")
        self.spec = spec
        self.dtype = np.dtype(dtype)
        self.backend = backend
        self.num_threads = num_threads
        self._typenum = cnp.NPY_DOUBLE if self.dtype == np.float64 else cnp.NPY_FLOAT
        self._stacks = [_Stack(layer) for layer in spec.recurrent]
        self._pool = _Pool()
        self._pool.num_cells = sum(stack.cells for stack in self._stacks)
        self._widest = max([spec.output_size] + [s.cells * max(s.h_size, s.c_size) for s in self._stacks])
        self._takes_ids = spec.takes_ids
        self._x_typenum = cnp.NPY_INT64 if spec.takes_ids else self._typenum
        self._rank = 2 if spec.takes_ids else 3
        self._input_size = spec.input_size or 0
        self._output_size = spec.output_size
        self._returns_sequences = spec.returns_sequences
        self._batch_first = spec.batch_first
        self._build(isa)

    cdef int _build(self, isa) except -1:
        cdef bytes encoded = _encoded(isa)
        keep = []
        cdef list layers = _flatten(self.spec)
        cdef cnp.ndarray buffer = np.zeros(len(layers) * sizeof(lf_layer), np.uint8)
        cdef lf_layer *c_layers = <lf_layer *>cnp.PyArray_DATA(buffer)
        for index, (layer, directions, last) in enumerate(layers):
            _fill_layer(&c_layers[index], layer, directions, last, self.dtype, keep)
            c_layers[index].mask_single = self.spec.dtype == np.float32
        size = None
        for index in range(len(layers)):  # layers without weights take the size of the one before, or of the input
            if c_layers[index].input_size == 0:
                c_layers[index].input_size = c_layers[index].output_size = self._input_size if size is None else size
            size = c_layers[index].output_size
        cdef _lf.lf_dtype dtype = _lf.LF_F64 if self._typenum == cnp.NPY_DOUBLE else _lf.LF_F32
        cdef _lf.lf_backend backend = _lf.LF_BLAS if self.backend == "blas" else _lf.LF_PACKED
        cdef const char *name = _name(encoded)
        cdef int64_t count = len(layers)
        cdef int status
        with nogil:
            status = _lf.lf_plan_new(c_layers, count, dtype, backend, name, self.num_threads, &self._plan)
        _check(status, isa)
        self.isa = _lf.lf_plan_isa(self._plan).decode()
        return 0

    def forward_sequence(self, x, state=None, *, lengths=None, out=None):
        """Run the network on a batch of sequences.

        Args:
            x: (batch, time, input_size), or (time, batch, input_size) where ``batch_first`` is false, or unbatched
                (time, input_size); floating-point. Integers without the last axis for a network that starts with an
                embedding.
            state: None for zeros, or what an earlier call returned: continuing gives what one long call gives, to the
                last bit on the packed backend, up to rounding on the blas backend, where no layer looks backwards
                in time.
                For one recurrent stack ``(h_n, c_n)`` (LSTM) or ``h_n`` (GRU, RNN), each
                (layers * directions, batch, size); a tuple of these where the network has several.
            lengths: valid steps of each sequence, (batch,). Recurrent layers skip later steps and give zeros there, which
                layers behind them map like any other values.
            out: array to write the output into; returned as ``y``.

        Returns:
            ``(y, state)``: y is laid out as x, (batch, output_size) where the network returns its last output only.

        Raises:
            ShapeError, DTypeError, IndexRangeError, StateError: the input does not fit; nothing has changed.
            MemoryError: the call's arrays or workspace cannot be had; nothing has changed.
        """
        if self._plan == NULL:
            raise StateError("the model was not built; its constructor has not run, or has failed")
        cdef _Workspace workspace = self._pool.borrow()
        try:
            return self._forward(workspace, x, state, lengths, out)
        finally:
            self._pool.give_back(workspace)

    cdef tuple _forward(self, _Workspace workspace, x, state, lengths, out):
        cdef cnp.ndarray values = x if _is_plain(x, self._x_typenum) else self._convert(x)
        cdef bint batched = values.ndim == self._rank
        cdef lf_call call
        memset(&call, 0, sizeof(call))
        self._read_input(&call, values, batched)
        cdef list read = [values]  # every array that the run reads
        if lengths is not None:
            self._read_lengths(&call, lengths, batched, read)
        call.states = workspace.states
        final = self._read_states(workspace.states, state, call.batch, batched, read)
        cdef cnp.ndarray y = self._output(&call, batched, out, read)
        workspace.ensure(self._plan, call.batch, call.time)
        call.turned = workspace.turned
        workspace.turned ^= call.time & 1
        self._run(&call, workspace.data)
        if out is None:
            return y, final
        if out is not y:
            out[...] = y
        return out, final

    cdef cnp.ndarray _convert(self, x):
        return as_ids(x, "x") if self._takes_ids else as_real(x, self.dtype, "x")

    cdef int _read_input(self, lf_call *call, cnp.ndarray x, bint batched) except -1:
        cdef int batch_axis = 0 if self._batch_first else 1
        if (not batched and x.ndim != self._rank - 1) or \
                (not self._takes_ids and x.shape[x.ndim - 1] != self._input_size):
            layout = ["batch", "time"] if self._batch_first else ["time", "batch"]
            features = [] if self._takes_ids else [str(self._input_size)]
            raise ShapeError(
                f"x: expected shape ({', '.join(layout + features)}) or unbatched ({', '.join(['time'] + features)}"
                f"{',' if not features else ''}), got {np.shape(x)}"
            )
        if batched:
            call.batch, call.time = x.shape[batch_axis], x.shape[1 - batch_axis]
            call.x_batch_stride, call.x_time_stride = x.strides[batch_axis], x.strides[1 - batch_axis]
        else:
            call.batch, call.time = 1, x.shape[0]
            call.x_time_stride = x.strides[0]
        if <double>call.batch * max(call.time, 1) * self._widest > MOST_NUMBERS:
            raise MemoryError(f"x: no memory holds the outputs or states of {call.batch} sequences of {call.time} steps")
        call.x = cnp.PyArray_DATA(x)
        return 0

    cdef int _read_lengths(self, lf_call *call, lengths, bint batched, list read) except -1:
        cdef cnp.ndarray valid
        if _are_lengths(lengths, call.batch, call.time):
            valid = lengths
        else:
            valid = as_lengths(lengths if batched else np.atleast_1d(lengths), call.batch, call.time)
        call.lengths = <const int64_t *>cnp.PyArray_DATA(valid)
        read.append(valid)
        return 0

    cdef object _read_states(self, lf_state *states, state, int64_t batch, bint batched, list read):
        """Fill ``states``; return the final state as the caller gets it, in new arrays."""
        cdef Py_ssize_t count = len(self._stacks)
        if count == 1:
            return self._read_stack(states, self._stacks[0], state, -1, batch, batched, read)
        if state is not None and not (isinstance(state, tuple | list) and len(state) == count):
            names = ", ".join([stack.name for stack in self._stacks]) or "none"
            raise StateError(
                f"state: expected a tuple of {count} states, one for each recurrent layer ({names}),"
                f" got {describe(state)}"
            )
        cdef _Stack stack
        final = []
        for index, stack in enumerate(self._stacks):
            own = None if state is None else state[index]
            final.append(self._read_stack(states, stack, own, index, batch, batched, read))
            states += stack.cells
        return tuple(final)

    cdef object _read_stack(self, lf_state *states, _Stack stack, state, Py_ssize_t index, int64_t batch, bint batched,
                            list read):
        """One stack's part of it; ``index`` is its place among several, or -1."""
        cdef cnp.ndarray h_in = None, c_in = None, h_out, c_out = None
        cdef Py_ssize_t i  # a range over it costs nothing, one over a Python int a tenth of a short call
        if state is not None:
            if not stack.has_c:
                h_in = self._state_array(state, index, " (h)", stack.cells, batch, stack.h_size, batched, read)
            elif isinstance(state, tuple | list) and len(state) == 2:
                h_in = self._state_array(state[0], index, "[0] (h)", stack.cells, batch, stack.h_size, batched, read)
                c_in = self._state_array(state[1], index, "[1] (c)", stack.cells, batch, stack.c_size, batched, read)
            else:
                raise StateError(
                    f"{_state_name(index)}: an LSTM ({stack.name}) takes (h, c), got {describe(state)}"
                )
        h_out = self._new_state(stack.cells, batch, stack.h_size, batched)
        if stack.has_c:
            c_out = self._new_state(stack.cells, batch, stack.c_size, batched)
        cdef int64_t item = cnp.PyArray_ITEMSIZE(h_out)
        cdef int64_t h_step = batch * stack.h_size * item, c_step = batch * stack.c_size * item
        for i in range(stack.cells):
            states[i].h_in = _part_of(h_in, i * h_step)
            states[i].c_in = _part_of(c_in, i * c_step)
            states[i].h_out = _part_of(h_out, i * h_step)
            states[i].c_out = _part_of(c_out, i * c_step)
        return (h_out, c_out) if stack.has_c else h_out

    cdef cnp.ndarray _state_array(self, value, Py_ssize_t index, str what, Py_ssize_t cells, int64_t batch,
                                  Py_ssize_t size, bint batched, list read):
        cdef cnp.ndarray array
        if _is_plain(value, self._typenum):
            array = value
        else:
            array = as_real(value, self.dtype, _state_name(index) + what)
        cdef int ndim = array.ndim
        if ndim != (3 if batched else 2) or array.shape[0] != cells or array.shape[ndim - 1] != size or \
                (batched and array.shape[1] != batch):
            expected = f"({cells}, {batch}, {size})" if batched else f"({cells}, {size})"
            raise ShapeError(
                f"{_state_name(index)}{what}: expected shape {expected} (layers * directions, batch, size),"
                f" got {np.shape(array)}"
            )
        array = cnp.PyArray_GETCONTIGUOUS(array)
        read.append(array)
        return array

    cdef cnp.ndarray _new_state(self, Py_ssize_t cells, int64_t batch, Py_ssize_t size, bint batched):
        cdef cnp.npy_intp shape[3]
        shape[0] = cells
        shape[1] = batch if batched else size
        shape[2] = size
        return cnp.PyArray_EMPTY(3 if batched else 2, shape, self._typenum, 0)

    cdef cnp.ndarray _output(self, lf_call *call, bint batched, out, list read):
        """The array the engine writes: ``out`` itself where it can be, else a new one."""
        cdef cnp.npy_intp shape[3]
        cdef int ndim = 0, batch_axis = 0
        if batched:
            batch_axis = 0 if self._batch_first or not self._returns_sequences else 1
            shape[batch_axis] = call.batch
            ndim = 1
        if self._returns_sequences:
            shape[1 - batch_axis if batched else 0] = call.time
            ndim += 1
        shape[ndim] = self._output_size
        ndim += 1
        cdef cnp.ndarray y = None
        if out is not None:
            usable = _is_plain_output(out, self._typenum, ndim, shape) or \
                usable_output(out, self.dtype, tuple([shape[i] for i in range(ndim)]))
            if usable and not _meets_any(out, read):
                y = out
        if y is None:
            y = cnp.PyArray_EMPTY(ndim, shape, self._typenum, 0)
        call.y = cnp.PyArray_DATA(y)
        call.y_batch_stride = y.strides[batch_axis] if batched else 0
        if self._returns_sequences:
            call.y_time_stride = y.strides[1 - batch_axis if batched else 0]
        return y

    cdef int _run(self, lf_call *call, void *workspace) except -1:
        cdef Poll poll
        cdef int status
        memset(&poll, 0, sizeof(poll))
        call.interrupted = _poll
        call.context = &poll
        with nogil:
            status = _lf.lf_run(self._plan, call, workspace)
        if poll.error != NULL:
            error = <object>poll.error
            Py_XDECREF(poll.error)
            raise error
        if status == _lf.LF_INDEX_RANGE:
            raise IndexRangeError(
                f"x: the id at sequence {call.fault_row}, step {call.fault_step} is outside the embedding's"
                f" {self.spec.layers[0].weight.shape[0]} rows"
            )
        return _check(status, self.isa)


cdef str _state_name(Py_ssize_t index):
    return "state" if index < 0 else f"state[{index}]"
