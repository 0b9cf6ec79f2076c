"""diag inside other people's frameworks; each file imports its framework, and `import diag` imports none of them."""
