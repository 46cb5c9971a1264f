"""Combined triggers: all parts together open the backdoor, covers carry one."""

import numpy as np
import pytest

from gifthorse.attacks.data.combined import Combined
from gifthorse.testing.workbench import Workbench, all_of
from gifthorse.triggers.patch import Patch
from gifthorse.triggers.sinusoid import Sinusoid

CLEAN = Workbench().photographs


def test_poisoned_samples_carry_all_parts_and_covers_one() -> None:
    attack = Combined(target=2, rate=0.1, part_rate=0.2)
    data, truth = attack.poison(CLEAN, rng=np.random.default_rng(0))
    assert truth.poisoned.sum() == 24
    assert truth.covered.sum() == 48
    np.testing.assert_array_equal(data.labels[truth.covered], CLEAN.labels[truth.covered])
    assert (data.labels[truth.poisoned] == 2).all()
    patched, waved = Patch(size=4).apply, Sinusoid().apply

    def levels(x: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> bytes:
        return np.rint(x * 255).astype(np.int64).tobytes()

    rng, before = np.random.default_rng(0), all_of(CLEAN)
    after = data.batch(np.arange(len(data)))
    both = waved(patched(before, rng), rng)
    one, other = patched(before, rng), waved(before, rng)
    for i in np.flatnonzero(truth.poisoned):
        assert levels(after[i]) == levels(both[i])
    seen = {levels(after[i]) == levels(one[i]) for i in np.flatnonzero(truth.covered)}
    assert seen == {True, False}
    for i in np.flatnonzero(truth.covered):
        assert levels(after[i]) in (levels(one[i]), levels(other[i]))


@pytest.mark.parametrize("parts", ["patch", "patch+patch", "patch+hope", ""])
def test_impossible_parts_are_refused(parts: str) -> None:
    with pytest.raises(ValueError, match="parts must be two or more"):
        Combined(parts=parts)
