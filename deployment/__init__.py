"""The deployment room."""
