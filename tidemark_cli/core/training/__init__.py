"""Training of networks, on a dataset or on phantoms."""
