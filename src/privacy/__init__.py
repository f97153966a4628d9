"""Whether generated images copy the images that a generator learnt from."""
