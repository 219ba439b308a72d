"""report.html: one file with the answer, figures, tables, and every item."""
