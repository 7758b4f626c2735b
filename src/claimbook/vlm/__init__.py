"""Vision-language models: encoders, training, metrics, and one file per technique.

Pure functions on tensors. Knows nothing of paths, notebooks or the log.
"""
