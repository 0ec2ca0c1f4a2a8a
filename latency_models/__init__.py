"""The latency_models room."""
