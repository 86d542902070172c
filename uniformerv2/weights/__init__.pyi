from .class_order import ClassOrder as ClassOrder
from .convert import remap_head as remap_head
from .image_vits import image_vit as image_vit
from .load import (
    Checkpoint as Checkpoint,
    from_reference as from_reference,
    load_model as load_model,
    read_checkpoint as read_checkpoint,
)
