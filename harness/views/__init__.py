"""Boards as people see them: derived once, printed by terminal, page and W&B."""
