"""Ctrl-C in a long call, though the GIL is released; included by _engine.pyx."""

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1
    bint Py_IsInitialized() noexcept nogil

#: Seconds between two looks for Ctrl-C.
cdef double POLL_SECONDS = 0.03


cdef struct Poll:
    bint begun
    double next
    PyObject *error


cdef int _poll(void *context) noexcept nogil:
    """Ask Python for pending signals now and then; an exception from a handler is kept for the caller.

    The first question comes as the call begins, when there is nothing to ask yet: a short call never reads the clock.
    Once the interpreter ends, nobody is left to ask: a thread of its own may still be here, and must not touch Python.
    """
    cdef Poll *poll = <Poll *>context
    cdef timespec now
    if not poll.begun:
        poll.begun = True
        return 0
    clock_gettime(CLOCK_MONOTONIC, &now)
    cdef double seconds = <double>now.tv_sec + 1e-9 * <double>now.tv_nsec
    if poll.next == 0:
        poll.next = seconds + POLL_SECONDS
    if seconds < poll.next:
        return 0
    poll.next = seconds + POLL_SECONDS
    return _ask_python(poll) if Py_IsInitialized() else 0


cdef int _ask_python(Poll *poll) noexcept with gil:
    """A function of its own: Cython has one with Python variables take the GIL whichever way it returns."""
    try:
        PyErr_CheckSignals()
    except BaseException as error:
        Py_INCREF(error)
        poll.error = <PyObject *>error
        return 1
    return 0
