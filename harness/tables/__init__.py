"""Records become tables, tables become boards."""
