from . import contact_sheet as contact_sheet
from . import overlay as overlay
from . import preview as preview
from . import scores as scores
from . import style as style
