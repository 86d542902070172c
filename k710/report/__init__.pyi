from .card import Card as Card
from .card import write_card as write_card
from .status import WorkStatus as WorkStatus
from .status import read_status as read_status
