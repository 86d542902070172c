from .local import Engine as Engine
from .local import Failed as Failed
from .local import Local as Local
from .ray import Ray as Ray
