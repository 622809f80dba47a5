"""The rounding errors of bfloat16 that screening on a CPU and on a card reckons with."""

UNIT = 2.0**-8
"""Half of the distance from 1 to the next number in bfloat16: the relative error of rounding to it."""
RELATIVE = 2 * UNIT * (1 + 4 * UNIT)
"""The part of a product's error in bfloat16 that grows with its value there, relative to that value."""
