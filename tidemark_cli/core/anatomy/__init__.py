"""What is in a scan: the plug, its bone end, the hard tissue, the tidemark and the numbers on it."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
