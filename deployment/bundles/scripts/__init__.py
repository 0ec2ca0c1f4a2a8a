"""Scripts that every bundle carries: `verify.py` and `benchmark.py`.

They run on any machine with Python 3.8 or newer, onnxruntime and numpy, and import nothing else.
"""
