"""What is kept on disk, and where the cells of a plan stand."""
