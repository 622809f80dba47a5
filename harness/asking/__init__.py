"""Requests of scorers and explainers, answered by judges, encoders and the model, and what they cost."""
