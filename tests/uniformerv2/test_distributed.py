"""A process that is alone answers what many would agree on. Several: test_train_ranks.py."""

from typing import Any

import pytest
import torch

from k710.errors import StageError
from k710.machine import usable_cores
from uniformerv2.distributed import Ranks

ALONE = Ranks(0, 1, 1, torch.device("cpu"))


def test_alone_its_own_word_counts() -> None:
    assert ALONE.is_first
    assert ALONE.any_of(True, False) == [True, False]
    values = torch.tensor([1.0, 3.0])
    assert ALONE.mean(values).tolist() == [1.0, 3.0] and ALONE.mean(values).dtype == torch.float64
    assert ALONE.by_first(lambda: "done") == "done"


@pytest.mark.parametrize("kind", [StageError, ZeroDivisionError])
def test_what_the_first_one_raises_is_raised(kind: type[Exception]) -> None:
    def fail() -> Any:
        raise kind("no more")

    with pytest.raises(kind, match="no more"):
        ALONE.by_first(fail)


def test_cores_are_shared_by_the_processes_of_a_machine() -> None:
    assert ALONE.share_of_cores() == usable_cores()
    assert Ranks(3, 2000, 1000, torch.device("cpu")).share_of_cores() == 1
