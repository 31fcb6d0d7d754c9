"""Predictions scored against true masks."""
