"""Runs: typed parameters, fingerprints, the seal's state, one supervised run, a batch of them.

Knows nothing of what notebooks compute.
"""
