"""Many trials: a question, the recipes and seeds that answer it, and claims with their verdicts."""
