"""The fault lab: a workload on real nodes, faults from a seed, the history of it all, and a checker with a verdict."""
