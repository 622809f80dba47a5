"""The kinds of cell: each module does the work of one, and knows no other."""
