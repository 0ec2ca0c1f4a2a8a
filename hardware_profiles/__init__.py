"""The hardware_profiles room."""
