"""Layers and losses that several systems share.

Dimension letters used in every docstring of the package: `b` batch, `n` words, `t` sub-word tokens, `r` regions or
objects, `p` patches, `d` width, `h` heads, `c` classes, `k` knowledge items.
"""
