"""The kinds of cell: each module does the work of one and knows no other.

A stage is `run(cells, session)`: it does the cells of one group together and reports each as it ends. What it raises
counts against the cells that have not ended.
"""
