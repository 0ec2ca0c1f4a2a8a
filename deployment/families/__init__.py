"""Several networks of one supernet in one bundle."""
