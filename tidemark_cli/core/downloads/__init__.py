"""What comes over the network: the public dataset and sets of weights."""
