"""Micro-benchmarks of single kernels, with pytest-benchmark: ``make microbench``. No test runs them."""
