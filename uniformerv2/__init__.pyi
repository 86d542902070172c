from .config import Config as Config
from .data import Batch as Batch, Loader as Loader
from .dataset import (
    ViewIndex as ViewIndex,
    read_view as read_view,
    shorten_openmp_spin as shorten_openmp_spin,
    train_bounds as train_bounds,
    view_frames as view_frames,
)
from .evaluate import EvalViews as EvalViews, evaluate_model as evaluate_model
from .model import UniFormerV2 as UniFormerV2
from .predict import Prediction as Prediction, predict_videos as predict_videos
from .recipe_toml import read_recipe as read_recipe
from .train import train_model as train_model
from .weights import load_model as load_model, read_checkpoint as read_checkpoint
