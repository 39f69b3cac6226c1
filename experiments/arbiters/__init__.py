"""Counts of a training step that share nothing with torch's dispatcher or with this package: the
built-in networks written once more in JAX, and the joint graphs that AOTAutograd makes."""
