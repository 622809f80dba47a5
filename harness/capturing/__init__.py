"""Texts become windows, windows become rows; and rows go back into the model."""
