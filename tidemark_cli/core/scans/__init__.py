"""Scans read and written: TIFF, ITK formats, folders of slices."""
