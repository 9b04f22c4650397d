"""A chaos run: real nodes, faults from a seed, and a judgement of what they left behind."""
