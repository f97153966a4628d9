"""Scores of generated images against real ones, and the features that they rest on."""
