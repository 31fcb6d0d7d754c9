from . import devices as devices
from . import greylevels as greylevels
from . import inference as inference
from . import planes as planes
from . import unet as unet
