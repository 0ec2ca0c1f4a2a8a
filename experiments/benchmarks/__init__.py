"""The experiments/benchmarks room."""
