"""Synthetic plugs: their tissue, the scanner, and the scans with their true masks."""
