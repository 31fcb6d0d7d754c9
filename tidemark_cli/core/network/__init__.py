"""The U-Net, its model files, and how it is computed on a scan."""
