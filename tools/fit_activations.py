"""Finds the coefficients of csrc/vmath_impl.h, and prints them as they stand there.

    python tools/fit_activations.py

Polynomials are minimax: a weighted least-squares fit whose weights are raised where the error is large, until the
error is level (Lawson 1961). It needs NumPy only, and float64 is ample.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

LIFT = 1.63671875
LN2 = np.log(2)

TANH_DEGREE = 6
TANH_SLOPE = 3.25
#: Where the leading bits of 2 + TANH_SLOPE * a change: the bounds of the eight intervals of a.
TANH_BOUNDS = (np.array([2, 3, 4, 6, 8, 12, 16, 24, 32]) - 2) / TANH_SLOPE


def minimax(x, y, weight, powers):
    """Coefficients c that make the largest ``weight * |y - sum c_k x**powers_k|`` small, and that error."""
    basis = x[:, None] ** np.array(powers)
    scale = np.abs(basis).max(axis=0)
    share = np.full(len(x), 1 / len(x))
    best, coefficients = np.inf, None
    for _ in range(400):
        root = weight * np.sqrt(share)
        c = np.linalg.lstsq(basis / scale * root[:, None], y * root, rcond=None)[0] / scale
        error = np.abs(basis @ c - y) * weight
        if error.max() < best:
            best, coefficients = error.max(), c
        share *= error / error.max() + 1e-9
        share /= share.sum()
    return coefficients, best


def points(low, high, count=2001):
    """Points from ``low`` to ``high``, denser towards both."""
    return low + (high - low) * (1 - np.cos(np.linspace(0, np.pi, count))) / 2


def ulp(y):
    """The distance between floats near ``y``."""
    return np.ldexp(1.0, np.frexp(y)[1] - 24)


def exponential():
    """c1, c2 of (r/2) coth(r/2) = 1 + c1 r^2 + c2 r^4, such that e^r keeps its relative accuracy."""
    r = points(1e-3, LN2 / 2 * 1.0005)
    c, error = minimax(r**2, r / 2 / np.tanh(r / 2) - 1, r, [1, 2])
    print(f"e^r: {error * 2**24:.3f} * 2^-24")
    print(f"    {literal(LIFT * c[0])} {literal(LIFT * c[1])}")


def ln2_factors():
    """A number of 14 bits and a float whose product is nearest to ln 2: integers times the first are exact."""
    first = np.arange(2**13, 2**14) / 2**13
    second = np.float32(LN2 / first).astype(np.float64)
    best = np.argmin(np.abs(first * second - LN2))
    print(f"ln 2: relative error {abs(first[best] * second[best] / LN2 - 1):.1e}")
    print(f"    {literal(first[best])} {literal(second[best])}")


def tanh_interval(low, high):
    """The row of one interval: its centre, then the coefficients of tanh(centre + d) in d, lowest first."""
    if low == 0:  # tanh(a) = a + ...: small a come out as they are
        a = points(1e-4, high)
        c, error = minimax(a, np.tanh(a) - a, 1 / ulp(np.tanh(a)), range(2, TANH_DEGREE + 1))
        return [0, 0, 1, *c], error
    middle = (low + high) / 2
    a = points(low, high)
    c, error = minimax(a - middle, np.tanh(a), 1 / ulp(np.tanh(a)), range(TANH_DEGREE + 1))
    # The same polynomial about every number of few bits near the middle: at one of them its value is nearly a float.
    centres = np.arange(middle - 0.075 * (high - low), middle + 0.075 * (high - low), 2.0**-10)
    centres = np.round(centres * 2**10) / 2**10
    shifted = [np.polynomial.Polynomial(c)(np.polynomial.Polynomial([centre - middle, 1])).coef for centre in centres]
    rounding = [abs(s[0] - np.float32(s[0])) + abs(s[1] - np.float32(s[1])) * (high - low) / 2 for s in shifted]
    best = int(np.argmin(rounding))
    return [centres[best], *shifted[best]], error


def tanh():
    """The table of tanh, a column for each interval."""
    found = [tanh_interval(*bounds) for bounds in pairwise(TANH_BOUNDS)]
    print("tanh: ulps by interval", *(f"{error:.2f}" for _, error in found))
    for line in zip(*(row for row, _ in found), strict=True):
        print("    {" + ", ".join(map(literal, line)) + "},")


def literal(value):
    """The float nearest to ``value`` in C."""
    mantissa, exponent = float(np.float32(value)).hex().split("p")
    return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}p{exponent}f"


if __name__ == "__main__":
    exponential()
    ln2_factors()
    tanh()
