"""Examples, labels, and the readers of the public data sets."""
