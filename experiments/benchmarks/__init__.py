"""The figures of `docs/benchmarks.md`: `python -m experiments.benchmarks.NAME [--json FILE]`."""
