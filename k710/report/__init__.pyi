from .card import Card as Card, write_card as write_card
from .status import WorkStatus as WorkStatus, read_status as read_status
