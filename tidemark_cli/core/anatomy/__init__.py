"""What is in a scan: the plug, its bone end, the hard tissue, the tidemark and the numbers on it."""
