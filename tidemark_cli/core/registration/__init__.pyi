from . import refine as refine
from . import register as register
from . import search as search
from . import transform as transform
