"""What each API does, one module for each field: from a request of any version to an answer of any version."""
