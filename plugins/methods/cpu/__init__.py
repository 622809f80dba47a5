"""Loops compiled for a CPU. Whoever calls them has a plain form besides: `sae/fast_paths.py` and `matching_pursuit.py`
alone say when they are used.
"""
