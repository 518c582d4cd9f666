"""Arrays told apart in C: what nearly every call passes goes past arrays.py, which has the rules and the messages.

Included by _engine.pyx.
"""


cdef bint _is_plain(value, int typenum) noexcept:
    """Whether arrays.py would hand ``value`` on as it is: aligned, native, of this type, its last axis contiguous."""
    if type(value) is not cnp.ndarray:
        return False
    cdef cnp.ndarray array = value
    return cnp.PyArray_TYPE(array) == typenum and cnp.PyArray_ISBEHAVED_RO(array) and (
        cnp.PyArray_IS_C_CONTIGUOUS(array)
        or (array.ndim > 0 and array.strides[array.ndim - 1] == cnp.PyArray_ITEMSIZE(array))
    )


cdef bint _are_lengths(value, int64_t batch, int64_t time) noexcept:
    """Whether ``value`` is what ``as_lengths`` would make of it."""
    if not _is_plain(value, cnp.NPY_INT64):
        return False
    cdef cnp.ndarray array = value
    if array.ndim != 1 or array.shape[0] != batch:
        return False
    cdef const int64_t *lengths = <const int64_t *>cnp.PyArray_DATA(array)
    cdef int64_t row
    for row in range(batch):
        if not 0 <= lengths[row] <= time:
            return False
    return True


cdef bint _is_plain_output(value, int typenum, int ndim, const cnp.npy_intp *shape) noexcept:
    """Whether ``usable_output`` would take ``value`` because it is just what the engine would make."""
    if type(value) is not cnp.ndarray:
        return False
    cdef cnp.ndarray array = value
    return cnp.PyArray_TYPE(array) == typenum and cnp.PyArray_ISCARRAY(array) and array.ndim == ndim and \
        cnp.PyArray_CompareLists(array.shape, shape, ndim)


cdef bint _meets_any(cnp.ndarray array, list others):
    """Whether the span of memory from the first to the last byte of ``array`` meets that of any other."""
    cdef size_t begin, end, other_begin, other_end
    _span(array, &begin, &end)
    for other in others:
        _span(other, &other_begin, &other_end)
        if begin < other_end and other_begin < end:
            return True
    return False


cdef void _span(cnp.ndarray array, size_t *begin, size_t *end):
    """Addresses of the first byte of ``array`` and past the last one; none where it is empty."""
    begin[0] = end[0] = <size_t>cnp.PyArray_DATA(array)
    if cnp.PyArray_SIZE(array) == 0:
        return
    cdef cnp.npy_intp reach
    cdef int axis
    for axis in range(array.ndim):
        reach = array.strides[axis] * (array.shape[axis] - 1)
        if reach < 0:
            begin[0] += reach
        else:
            end[0] += reach
    end[0] += cnp.PyArray_ITEMSIZE(array)


cdef inline char *_part_of(cnp.ndarray array, int64_t offset) noexcept:
    return NULL if array is None else cnp.PyArray_BYTES(array) + offset
