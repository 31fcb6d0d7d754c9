from . import anatomy as anatomy
from . import phantom as phantom
from . import scanner as scanner
from . import texture as texture
from . import tissue as tissue
