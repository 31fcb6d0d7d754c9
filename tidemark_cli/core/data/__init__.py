"""Datasets in the layout of the public one, and the folders of training runs."""
