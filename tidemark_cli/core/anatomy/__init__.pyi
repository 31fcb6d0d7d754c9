from . import bone_end as bone_end
from . import bone_grey as bone_grey
from . import confidence as confidence
from . import heights as heights
from . import mask as mask
from . import offset as offset
from . import plug as plug
from . import surface as surface
