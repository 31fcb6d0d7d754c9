"""One scan of a plug laid on another."""
