"""A deterministic simulation of whole clusters: the real replicas, a simulated clock, network and disk."""
