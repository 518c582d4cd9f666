# cython: language_level=3
"""The only bridge between Python and csrc/: owns memory, checks shapes, turns status codes into exceptions."""

import numpy as np

cimport cython
cimport numpy as cnp
from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject
from libc.stdint cimport SIZE_MAX, int64_t
from libc.string cimport memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from . cimport _lf
from ._lf cimport lf_activation, lf_call, lf_cell, lf_layer, lf_plan, lf_state

from .arrays import as_ids, as_lengths, as_real, describe, usable_output
from .errors import BackendError, DTypeError, IndexRangeError, LstmFastError, ModelFormatError, ShapeError, StateError
from .spec import ACTIVATIONS, Dense, Elementwise, Embedding, Masking, Recurrent, Softmax

cnp.import_array()

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1

#: Bytes of workspaces that wait for the next call, about; beyond, they are given back at once.
cdef size_t KEPT_WORKSPACES = 64 << 20
#: Numbers in an array, beyond which its bytes overflow 64 bits.
cdef double MOST_NUMBERS = 1e18
#: Seconds between two looks for Ctrl-C in a long call.
cdef double POLL_SECONDS = 0.03

include "_layers.pxi"


def isa_status() -> dict:
    """Every instruction set this engine knows, slowest first: "usable", "not built" or "not on this machine"."""
    words = {<int>_lf.LF_OK: "usable", <int>_lf.LF_ISA_NOT_BUILT: "not built"}
    found = {}
    while _lf.lf_isa_name(len(found)) != NULL:
        name = _lf.lf_isa_name(len(found))
        found[name.decode()] = words.get(<int>_lf.lf_isa_status(name), "not on this machine")
    return found


def blas_name() -> str | None:
    """The BLAS library of this build, or None."""
    return None if _lf.lf_blas_name() == NULL else _lf.lf_blas_name().decode()


def available() -> dict:
    """Instruction sets and backends that can be asked for here."""
    isas = [name for name, status in isa_status().items() if status == "usable"]
    return {"isas": isas, "backends": ["packed"] + ["blas"] * (blas_name() is not None)}


def activate(activation, x, isa=None):
    """Apply one activation by the engine's kernels to a float32 or float64 array (for tests)."""
    cdef cnp.ndarray y = np.array(as_real(x, np.result_type(x), "x"), order="C")
    cdef lf_activation a = _activation(activation)
    dtype = _lf.LF_F64 if y.dtype == np.float64 else _lf.LF_F32
    encoded = _encoded(isa)
    _check(_lf.lf_activate(dtype, _name(encoded), a, y.size, cnp.PyArray_DATA(y)), isa)
    return y


cdef bytes _encoded(isa):
    """A name for C, empty for None; an embedded NUL would cut it short, so it makes no name at all."""
    return b"" if isa is None else str(isa).replace("\0", "?").encode(errors="replace")


cdef const char *_name(bytes encoded) noexcept:
    """NULL for an empty name: the best instruction set there is."""
    cdef const char *name = encoded
    return name if name[0] else NULL


def status_error(int status, isa=None):
    """The exception of an lf_status, or None for LF_OK."""
    if status == _lf.LF_OK:
        return None
    known = ", ".join(f"{name} ({words})" for name, words in isa_status().items())
    if status == _lf.LF_NO_MEMORY:
        return MemoryError("not enough memory for the network or for this call")
    if status == _lf.LF_BAD_MODEL:
        return ModelFormatError("the layers contradict one another or exceed the engine's sizes")
    if status == _lf.LF_UNKNOWN_ISA:
        return BackendError(f"unknown instruction set {isa!r}; this engine knows: {known}")
    if status == _lf.LF_ISA_NOT_BUILT:
        return BackendError(f"instruction set {isa!r} is not in this build; this engine knows: {known}")
    if status == _lf.LF_ISA_NOT_USABLE:
        return BackendError(f"instruction set {isa!r} is not offered by this CPU or its system; here: {known}")
    if status == _lf.LF_NO_BLAS:
        return BackendError("backend 'blas': no BLAS library in this build, or it cannot be loaded; use backend='packed'")
    if status == _lf.LF_INDEX_RANGE:
        return IndexRangeError("an id is outside the embedding table")
    if status == _lf.LF_INTERRUPTED:
        return KeyboardInterrupt()
    return LstmFastError(f"engine status {status}")


cdef int _check(int status, isa) except -1:
    if status != _lf.LF_OK:
        raise status_error(status, isa)
    return 0


cdef struct Poll:
    double next
    PyObject *error


cdef int _poll(void *context) noexcept nogil:
    """Ask Python for pending signals now and then; an exception from a handler is kept for the caller."""
    cdef Poll *poll = <Poll *>context
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    cdef double seconds = <double>now.tv_sec + 1e-9 * <double>now.tv_nsec
    if poll.next == 0:
        poll.next = seconds + POLL_SECONDS
    if seconds < poll.next:
        return 0
    poll.next = seconds + POLL_SECONDS
    with gil:
        try:
            PyErr_CheckSignals()
        except BaseException as error:
            Py_INCREF(error)
            poll.error = <PyObject *>error
            return 1
    return 0


@cython.final
cdef class _Workspace:
    """One call's scratch memory, reused by the next call."""

    cdef void *data
    cdef size_t size

    cdef int ensure(self, size_t size) except -1:
        if size > self.size:
            _lf.lf_free(self.data)
            self.size = 0
            self.data = NULL if size == SIZE_MAX else _lf.lf_alloc(size)
            if self.data == NULL:
                raise MemoryError("not enough memory for the workspace of a call of this shape")
            self.size = size
        return 0

    def __dealloc__(self):
        _lf.lf_free(self.data)


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
    cdef list _idle  # workspaces
    cdef list _stacks
    cdef Py_ssize_t _num_cells, _input_size, _output_size, _widest
    cdef bint _takes_ids, _returns_sequences, _batch_first
    cdef int _typenum
    cdef readonly object spec, dtype
    cdef readonly str backend, isa
    cdef readonly int num_threads

    def __cinit__(self, *args, **kwargs):
        self._plan = NULL

    def __dealloc__(self):
        _lf.lf_plan_free(self._plan)

    def __init__(self, spec, *, dtype, str backend, isa, int num_threads):
        """Pack ``spec``; ``isa`` None takes the best this machine can run."""
        if self._plan != NULL:
            raise StateError("a model is built once; load another one instead")
        spec.validate()
        self.spec = spec
        self.dtype = np.dtype(dtype)
        self.backend = backend
        self.num_threads = num_threads
        self._typenum = cnp.NPY_DOUBLE if self.dtype == np.float64 else cnp.NPY_FLOAT
        self._idle = []
        self._stacks = [_Stack(layer) for layer in spec.recurrent]
        self._num_cells = sum(stack.cells for stack in self._stacks)
        self._widest = max([spec.output_size] + [s.cells * max(s.h_size, s.c_size) for s in self._stacks])
        self._takes_ids = spec.takes_ids
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
            status = _lf.lf_plan_new(c_layers, count, dtype, backend, name, &self._plan)
        _check(status, isa)
        self.isa = _lf.lf_plan_isa(self._plan).decode()
        return 0

    def forward_sequence(self, x, state=None, *, lengths=None, out=None):
        """Run the network on a batch of sequences.

        Args:
            x: (batch, time, input_size), or (time, batch, input_size) where ``batch_first`` is false, or unbatched
                (time, input_size); float32 or float64. Integers without the last axis for a network that starts with
                an embedding.
            state: None for zeros, or what an earlier call returned: continuing gives what one long call gives, to the
                last bit on the packed backend, up to rounding on the blas backend.
                For one recurrent stack ``(h_n, c_n)`` (LSTM) or ``h_n`` (GRU, RNN), each
                (layers * directions, batch, size); a tuple of these where the network has several.
            lengths: valid steps of each sequence, (batch,); later steps are skipped and their outputs are zero.
            out: array to write the output into; returned as ``y``.

        Returns:
            ``(y, state)``: y is laid out as x, (batch, output_size) where the network returns its last output only.

        Raises:
            ShapeError, DTypeError, IndexRangeError, StateError: the input does not fit; nothing has changed.
            MemoryError: the call's arrays or workspace cannot be had; nothing has changed.
        """
        if self._plan == NULL:
            raise StateError("the model was not built; its constructor has not run, or has failed")
        cdef cnp.ndarray values
        if self._takes_ids:
            values = as_ids(x, "x")
        else:
            values = x if self._is_plain(x) else as_real(x, self.dtype, "x")
        cdef int rank = 2 if self._takes_ids else 3
        cdef bint batched = values.ndim == rank
        cdef lf_call call
        memset(&call, 0, sizeof(call))
        self._read_input(&call, values, rank, batched)

        cdef object valid = None
        if lengths is not None:
            valid = as_lengths(lengths if batched else np.atleast_1d(lengths), call.batch, call.time)
            call.lengths = <const int64_t *>cnp.PyArray_DATA(valid)

        cdef cnp.ndarray states = np.zeros(self._num_cells * sizeof(lf_state), np.uint8)
        call.states = <const lf_state *>cnp.PyArray_DATA(states)
        final, kept = self._read_state(<lf_state *>call.states, state, call.batch, batched)

        cdef cnp.ndarray target = self._output(&call, batched, out, (values, valid, *kept))
        self._run(&call)
        if out is not None and target is not out:
            out[...] = target
        return (target if out is None else out), final

    cdef bint _is_plain(self, value) noexcept:
        """Whether ``value`` is an array that can be read as it is: what nearly every call passes."""
        return type(value) is cnp.ndarray and cnp.PyArray_TYPE(value) == self._typenum and \
            cnp.PyArray_IS_C_CONTIGUOUS(value) and cnp.PyArray_ISBEHAVED_RO(value)

    cdef int _read_input(self, lf_call *call, cnp.ndarray x, int rank, bint batched) except -1:
        cdef int batch_axis = 0 if self._batch_first else 1
        if (x.ndim != rank and x.ndim != rank - 1) or (not self._takes_ids and x.shape[x.ndim - 1] != self._input_size):
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

    cdef tuple _read_state(self, lf_state *states, state, int64_t batch, bint batched):
        """Fill ``states``; return the final state as the caller gets it, and the arrays to keep alive."""
        cdef Py_ssize_t several = len(self._stacks) != 1
        cdef _Stack stack
        if several and state is not None and not (isinstance(state, tuple | list) and len(state) == len(self._stacks)):
            names = ", ".join(stack.name for stack in self._stacks) or "none"
            raise StateError(
                f"state: expected a tuple of {len(self._stacks)} states, one for each recurrent layer ({names}),"
                f" got {describe(state)}"
            )
        final, kept = [], []
        cdef Py_ssize_t cell = 0
        for index, stack in enumerate(self._stacks):
            own = state if not several else None if state is None else state[index]
            where = f"state[{index}]" if several else "state"
            final.append(self._read_stack(states + cell, stack, own, where, batch, batched, kept))
            cell += stack.cells
        return (tuple(final) if several else final[0]), kept

    cdef object _read_stack(self, lf_state *states, _Stack stack, state, where, int64_t batch, bint batched, list kept):
        cdef cnp.ndarray h_in = None, c_in = None, h_out, c_out = None
        if state is not None:
            if stack.has_c:
                if not (isinstance(state, tuple | list) and len(state) == 2):
                    raise StateError(f"{where}: an LSTM ({stack.name}) takes (h, c), got {describe(state)}")
                h_in = self._state_array(state[0], where, "[0] (h)", stack.cells, batch, stack.h_size, batched)
                c_in = self._state_array(state[1], where, "[1] (c)", stack.cells, batch, stack.c_size, batched)
            else:
                h_in = self._state_array(state, where, " (h)", stack.cells, batch, stack.h_size, batched)
            kept += (h_in, c_in)
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

    cdef cnp.ndarray _state_array(self, value, where, what, Py_ssize_t cells, int64_t batch, Py_ssize_t size,
                                  bint batched):
        cdef cnp.ndarray array = value if self._is_plain(value) else as_real(value, self.dtype, where + what)
        cdef int ndim = array.ndim
        if ndim != (3 if batched else 2) or array.shape[0] != cells or array.shape[ndim - 1] != size or \
                (batched and array.shape[1] != batch):
            expected = f"({cells}, {batch}, {size})" if batched else f"({cells}, {size})"
            raise ShapeError(
                f"{where}{what}: expected shape {expected} (layers * directions, batch, size), got {np.shape(array)}"
            )
        return cnp.PyArray_GETCONTIGUOUS(array)

    cdef cnp.ndarray _new_state(self, Py_ssize_t cells, int64_t batch, Py_ssize_t size, bint batched):
        cdef cnp.npy_intp shape[3]
        shape[0] = cells
        shape[1] = batch if batched else size
        shape[2] = size
        return cnp.PyArray_EMPTY(3 if batched else 2, shape, self._typenum, 0)

    cdef cnp.ndarray _output(self, lf_call *call, bint batched, out, inputs):
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
        cdef cnp.ndarray y
        if out is None or not usable_output(out, self.dtype, tuple([shape[i] for i in range(ndim)]), inputs):
            y = cnp.PyArray_EMPTY(ndim, shape, self._typenum, 0)
        else:
            y = out
        call.y = cnp.PyArray_DATA(y)
        call.y_batch_stride = y.strides[batch_axis] if batched else 0
        if self._returns_sequences:
            call.y_time_stride = y.strides[1 - batch_axis if batched else 0]
        return y

    cdef int _run(self, lf_call *call) except -1:
        cdef _Workspace workspace
        cdef Poll poll
        cdef int status
        cdef size_t size = _lf.lf_workspace_size(self._plan, call.batch, call.time, self.num_threads)
        try:
            workspace = self._idle.pop()
        except IndexError:
            workspace = _Workspace.__new__(_Workspace)
        workspace.ensure(size)
        poll.next, poll.error = 0, NULL
        call.num_threads = self.num_threads
        call.interrupted = _poll
        call.context = &poll
        with nogil:
            status = _lf.lf_run(self._plan, call, workspace.data)
        if workspace.size <= KEPT_WORKSPACES // (len(self._idle) + 1):
            self._idle.append(workspace)
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


cdef inline char *_part_of(cnp.ndarray array, int64_t offset) noexcept:
    return NULL if array is None else cnp.PyArray_BYTES(array) + offset
