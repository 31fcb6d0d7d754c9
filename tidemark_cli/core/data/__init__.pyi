from . import crop as crop
from . import dataset as dataset
from . import grades as grades
from . import run as run
