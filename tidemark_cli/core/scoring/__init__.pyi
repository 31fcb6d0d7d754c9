from . import distances as distances
from . import pairs as pairs
from . import score_files as score_files
from . import scores as scores
from . import zones as zones
