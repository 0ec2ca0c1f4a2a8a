"""The fastest kernels for a target, found by timing."""
