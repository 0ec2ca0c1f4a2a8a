"""The search_spaces room."""
