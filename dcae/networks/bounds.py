"""Numbers inside the networks' blocks, which every way of evaluating them shares. Nothing here imports torch."""

GATE_BOUND = 4.0
"""Largest gate of a gated unit; the smallest is 0."""
QUERY_BOUND = 8.0
"""Largest magnitude of a query of the dictionary attention."""
KERNEL = 3
"""Side of the depthwise convolutions."""
LEAST_PROBABILITY = 1e-9
"""Smallest probability of a symbol, in training and in the encoder's search."""
