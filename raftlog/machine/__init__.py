"""Replicated state machines: what one is, what it gives out, and the one host that runs it over a replica. Pure."""
