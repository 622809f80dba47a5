"""Campaigns of faults: damage, kills, limits and odd command lines against a small suite, by a seed."""
