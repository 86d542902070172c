from .class_file import ClassFileCheck as ClassFileCheck, check_class_file as check_class_file
from .orders import (
    DATASETS as DATASETS,
    FAMILIES as FAMILIES,
    NUM_CLASSES as NUM_CLASSES,
    Dataset as Dataset,
    Family as Family,
    class_names as class_names,
    class_rows as class_rows,
    dataset_rows as dataset_rows,
    dataset_spelling as dataset_spelling,
    head_map as head_map,
    k710_order as k710_order,
    labels_sha256 as labels_sha256,
    published_spelling as published_spelling,
    resolve_label as resolve_label,
)
