"""A suite's run as a report: question, answer, claims, figures, tables, techniques, and how it was measured."""
