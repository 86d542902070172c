from .log import read_log as read_log
from .optim import learning_rate as learning_rate, parameter_groups as parameter_groups
