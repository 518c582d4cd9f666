"""What csrc/ offers here, and its status codes as exceptions; included by _engine.pyx."""


def isa_status() -> dict:
    """Every instruction set this engine knows, slowest first: "usable", "not built" or "not on this machine"."""
    words = {<int>_lf.LF_OK: "usable", <int>_lf.LF_ISA_NOT_BUILT: "not built"}
    found = {}
    while _lf.lf_isa_name(len(found)) != NULL:
        name = _lf.lf_isa_name(len(found))
        found[name.decode()] = words.get(<int>_lf.lf_isa_status(name), "not on this machine")
    return found


def blas_name() -> str | None:
    """The BLAS library of this build, or None; whether it can be loaded, :func:`available` says."""
    return None if _lf.lf_blas_name() == NULL else _lf.lf_blas_name().decode()


def available() -> dict:
    """Instruction sets and backends that can be asked for here; loads the BLAS library, which starts no thread."""
    isas = [name for name, status in isa_status().items() if status == "usable"]
    return {"isas": isas, "backends": ["packed"] + ["blas"] * _blas_loads()}


cdef bint _blas_loads() except -1:
    """Whether a plan for BLAS can be had, told by one."""
    cdef lf_layer layer
    cdef lf_plan *plan = NULL
    memset(&layer, 0, sizeof(layer))
    layer.kind = _lf.LF_ELEMENTWISE
    layer.input_size = layer.output_size = 1
    cdef int status = _lf.lf_plan_new(&layer, 1, _lf.LF_F32, _lf.LF_BLAS, NULL, 1, &plan)
    _lf.lf_plan_free(plan)
    if status != _lf.LF_NO_BLAS:
        _check(status, None)
    return status == _lf.LF_OK


def activate(activation, x, isa=None):
    """Apply one activation by the engine's kernels to a float32 or float64 array (for tests)."""
    cdef cnp.ndarray y = np.array(as_real(x, np.result_type(x, np.float32), "x"), order="C")
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
