"""Loops compiled for a CPU. Each has a plain form in torch besides; only `sae/fast_paths.py` and `pursuit_loops.py`
decide which of the two is used.
"""
