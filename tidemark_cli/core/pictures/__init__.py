"""Pictures to judge results by, and figures for papers."""
