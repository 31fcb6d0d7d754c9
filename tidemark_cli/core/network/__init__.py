"""The U-Net, its model files, and how it is computed on a scan."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
