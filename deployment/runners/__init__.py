"""Files in, raw timings out."""
