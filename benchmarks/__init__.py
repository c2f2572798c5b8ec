"""How fast this package is beside others; ``python -m benchmarks --help``, and docs/performance.md for the results."""
