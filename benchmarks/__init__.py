"""Benchmarks: each verifies what it compares before it times it. Figures are kept in `results/`,
what did not work in `LOG.md`."""
