"""A virtual network and clock for the node's own code: same seed, same trace."""
