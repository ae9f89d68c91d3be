"""A real Prometheus that watches a cluster under load and faults: scripts/prometheus-watch."""
