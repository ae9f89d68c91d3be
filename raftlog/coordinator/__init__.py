"""Consumer groups of one partition of `__consumer_offsets`: members, generations, committed offsets. Pure."""
