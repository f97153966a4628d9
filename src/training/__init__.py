"""How a pair of networks is trained."""
