"""The engine: it neither prints nor knows a screen."""
