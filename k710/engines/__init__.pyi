from .local import Engine as Engine, Failed as Failed, Local as Local
from .ray import Ray as Ray
