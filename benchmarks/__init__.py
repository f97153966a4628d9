"""Measurements of speed and memory, each as a ratio against a plain baseline in the same run."""
