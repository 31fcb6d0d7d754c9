"""tidemark: finds the tidemark in PTA-stained osteochondral micro-CT scans."""

__version__ = "0.1.0"
