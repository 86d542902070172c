from .class_order import ClassOrder as ClassOrder
from .convert import remap_head as remap_head
from .image_vits import image_vit as image_vit
from .load import Checkpoint as Checkpoint
from .load import from_reference as from_reference
from .load import load_model as load_model
