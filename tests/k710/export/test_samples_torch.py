"""A view in PyTorch's DataLoader: each clip once an epoch, whatever the number of workers."""

import gc
from collections import Counter

import pytest

import k710
from support.small_shards import TRAIN, all_made, name_of, rows_of

loading = pytest.importorskip("torch.utils.data")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create 9 worker processes")
@pytest.mark.parametrize("workers", [0, 2, 9])
def test_each_clip_comes_once_whatever_the_workers(workers: int) -> None:
    work = all_made()
    num_shards = len({number for (number,) in rows_of(work, "index", "shard")})
    assert 2 < num_shards < 9
    view = k710.open_view("k400/train", work=work, shuffle=5)
    loader = loading.DataLoader(view, batch_size=None, num_workers=workers)
    assert Counter(sample["__key__"] for sample in loader) == Counter(map(name_of, TRAIN))
    gc.collect()  # webdataset leaves files open: that is no matter of other tests
