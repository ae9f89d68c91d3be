"""Doors make sessions and requests out of bytes, and bytes out of answers: one module for each protocol."""
