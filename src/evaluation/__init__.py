"""How generated images are judged."""
