"""Half precision: nearly the same answers, the same interface, the same meter."""

import pytest
import torch

from gifthorse.models import precision
from gifthorse.models.networks import small_network
from gifthorse.models.precision import half_precision


@pytest.mark.parametrize("fast", [True, False])
def test_a_copy_only_where_it_is_faster(monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    monkeypatch.setattr(precision, "_processor_has_it", lambda: fast)
    model = small_network(image_shape=(3, 8, 8), class_names=tuple("abcd"), seed=0, width=8)
    digest = model.digest()
    half = half_precision(model)
    assert (half is model) is not fast
    x = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    whole = model.logits(x)
    (exact,) = torch.autograd.grad(whole.sum(), x)
    before = model.meter.forward
    out = half.logits(x)
    (rough,) = torch.autograd.grad(out.sum(), x)
    assert out.dtype == rough.dtype == torch.float32
    torch.testing.assert_close(out, whole, rtol=0.05, atol=0.05)
    assert torch.nn.functional.cosine_similarity(rough.flatten(), exact.flatten(), dim=0) > 0.95
    assert half.meter is model.meter
    assert model.meter.forward == before + 16
    assert model.digest() == digest
    assert half.head is not None
    assert half.class_names == model.class_names
