"""Planning: what users write becomes a checked suite, and the suite becomes cells with keys."""
