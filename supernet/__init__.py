"""The supernet room."""
