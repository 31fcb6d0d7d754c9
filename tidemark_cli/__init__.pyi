from .api import load_models, preview, read, register, resample, score, segment, write
from .core.errors import (
    AssetError,
    ContentError,
    DatasetError,
    DeviceError,
    FormatError,
    ModelError,
    OutputError,
    ScanError,
    StackError,
    TidemarkError,
)
from .core.phantoms.phantom import Phantom, draw_phantom
from .core.registration.register import Registration
from .core.scans.volume import Volume
from .core.scoring.scores import SampleScore
from .core.segmentation import Segmentation

__version__: str
__all__ = [
    "AssetError",
    "ContentError",
    "DatasetError",
    "DeviceError",
    "FormatError",
    "ModelError",
    "OutputError",
    "Phantom",
    "Registration",
    "SampleScore",
    "ScanError",
    "Segmentation",
    "StackError",
    "TidemarkError",
    "Volume",
    "draw_phantom",
    "load_models",
    "preview",
    "read",
    "register",
    "resample",
    "score",
    "segment",
    "write",
]
