"""Experiment on whether generated images improve a classifier of real images."""
