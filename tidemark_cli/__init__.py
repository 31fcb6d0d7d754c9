"""tidemark: finds the tidemark in PTA-stained osteochondral micro-CT scans."""

__version__ = "0.2.0.dev0"
