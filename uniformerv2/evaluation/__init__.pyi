from .predictions import ClassAccuracy as ClassAccuracy
from .predictions import Confusion as Confusion
from .predictions import class_accuracies as class_accuracies
from .predictions import confusions as confusions
from .scoring import Scores as Scores
