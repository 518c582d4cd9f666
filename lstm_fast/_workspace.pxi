"""What a call borrows from its model and gives back; included by _engine.pyx."""

#: Bytes of workspaces that one model keeps for its next calls, at most; a larger one is freed after each call.
cdef size_t KEPT_WORKSPACES = 64 << 20


@cython.final
cdef class _Workspace:
    """One call's scratch memory, and the states as the core takes them."""

    cdef void *data
    cdef size_t size  # of `data`, as it was allocated
    cdef int64_t batch, time  # of the last call, which `size` is enough for
    cdef int turned  # whether all calls together had an odd number of steps
    cdef lf_state *states
    cdef _Workspace next

    def __cinit__(self, Py_ssize_t num_cells):
        self.batch = self.time = -1
        self.states = <lf_state *>_lf.lf_alloc(num_cells * sizeof(lf_state))
        if self.states == NULL:
            raise MemoryError("not enough memory for the states of a call")

    cdef int ensure(self, const lf_plan *plan, int64_t batch, int64_t time) except -1:
        """Have memory for a call of this shape; ``plan`` is always that of one model."""
        if batch == self.batch and time == self.time:
            return 0
        cdef size_t size = _lf.lf_alloc_size(_lf.lf_workspace_size(plan, batch, time))
        if size > self.size:
            _lf.lf_free(self.data)
            self.size, self.batch = 0, -1
            self.data = _lf.lf_alloc(size)
            if self.data == NULL:
                raise MemoryError("not enough memory for the workspace of a call of this shape")
            self.size = size
        self.batch, self.time = batch, time
        return 0

    def __dealloc__(self):
        _lf.lf_free(self.data)
        _lf.lf_free(self.states)


@cython.final
cdef class _Pool:
    """The workspaces that no call of a model has at the moment, linked; the GIL guards them."""

    cdef _Workspace first
    cdef size_t kept
    cdef Py_ssize_t num_cells

    cdef _Workspace borrow(self):
        cdef _Workspace workspace = self.first
        if workspace is None:
            return _Workspace(self.num_cells)
        self.first = workspace.next
        workspace.next = None
        self.kept -= workspace.size
        return workspace

    cdef void give_back(self, _Workspace workspace) noexcept:
        if workspace.size <= KEPT_WORKSPACES - self.kept:
            workspace.next = self.first
            self.first = workspace
            self.kept += workspace.size
