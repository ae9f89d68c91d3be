"""A node's HTTP address: what browsers and monitoring ask it."""
