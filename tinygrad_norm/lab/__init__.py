"""Experiments: what the command line runs, as functions. Import the module you want: ``tinygrad_norm.lab.compare``."""
