"""Kernels in Triton for a CUDA device. Each has a plain form in torch besides; only `sae/fast_paths.py` and
`pursuit_loops.py` decide which of the two is used, and import Triton once a tensor on such a device is met.
"""
