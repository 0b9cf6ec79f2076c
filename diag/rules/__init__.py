"""What it means: from a trace to findings, one family of pathologies per file."""
