"""Files that compute in int8, in whole or block by block."""
