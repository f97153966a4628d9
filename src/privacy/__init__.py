"""Tests of whether generated images copy the images that a generator was trained on."""
