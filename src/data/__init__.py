"""From archives or phantoms to image files, and from image files to arrays."""
