"""Proof that files and tables compute and count what the network does."""
