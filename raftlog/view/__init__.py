"""What is shown of a cluster: by the command line with `--json`, and under /api/ at a node's HTTP address."""
