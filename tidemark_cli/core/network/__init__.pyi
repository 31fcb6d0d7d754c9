from . import devices as devices
from . import fused as fused
from . import greylevels as greylevels
from . import inference as inference
from . import models as models
from . import passes as passes
from . import planes as planes
from . import unet as unet
