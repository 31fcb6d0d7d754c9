"""tidemark: finds the tidemark in PTA-stained osteochondral micro-CT scans.

Do the work of the commands from Python, on files or arrays; heavy libraries are loaded on first use:

    import tidemark_cli as tidemark

    found = tidemark.segment("sample.tif")
    tidemark.write("mask.tif", found.mask, found.stats["voxel_um"])
    tidemark.preview("sample.tif", found)
"""

import lazy_loader as lazy

__version__ = "0.2.0.dev0"

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
