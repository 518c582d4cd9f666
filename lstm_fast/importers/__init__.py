"""From files and live models to :class:`~lstm_fast.spec.ModelSpec`."""
