from .predictions import (
    ClassAccuracy as ClassAccuracy,
    Confusion as Confusion,
    class_accuracies as class_accuracies,
    confusions as confusions,
)
from .scoring import Scores as Scores
