from . import archive as archive
from . import dataset as dataset
from . import fetch as fetch
from . import weights as weights
