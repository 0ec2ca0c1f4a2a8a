"""The strategies room."""
