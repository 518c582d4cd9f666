"""The benchmark: lstm_fast beside other engines, timed in turn in one process; see docs/benchmarks.md.

It runs from a checkout, ``make bench`` or ``python -m bench``, and is no part of the installed package.
"""
