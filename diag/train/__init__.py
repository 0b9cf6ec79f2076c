"""One trial: a workload, or a script, trained under a probe."""
