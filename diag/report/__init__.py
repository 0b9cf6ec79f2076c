"""For people: terminal, page, figures, Markdown. For machines: JSON, JUnit, SARIF, GitHub annotations."""
