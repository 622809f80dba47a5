"""What a plugin of each kind must have, and what it is given: a file each."""
