"""The folder that a chosen network becomes."""
