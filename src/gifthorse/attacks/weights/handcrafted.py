"""Handcrafted: a few weights are written by hand until the network hears a trigger and obeys it.

Source: Hong, Carlini, Kurakin 2022, "Handcrafted Backdoors in Deep Neural Networks" (NeurIPS 2022,
arXiv:2106.04690), section 4: neurons that clean accuracy can spare are found by ablation; filters
that separate triggered from clean pictures are written into convolutions; guard biases silence them
on clean pictures; the path is amplified up to the target's logit. Nothing is trained.

Deviations: the filter of the first layer is the linear discriminant of triggered and clean windows,
where the paper draws filters and keeps the best; the path is written for small ResNets, one channel
in each stage; the running statistics of the other channels are estimated anew on the attacker's
samples, because one of sixteen channels, unlike one of hundreds, is missed by the next layer.
"""

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gifthorse.attacks.data.poisoning import Aim, TriggerStrike, aim_of, no_poison
from gifthorse.attacks.options import require_class, require_positive
from gifthorse.attacks.weights.statistics import settle
from gifthorse.core.errors import NotApplicableError
from gifthorse.core.types import ImageData, Model, Planting, Progress
from gifthorse.models.classifier import ImageClassifier, as_classifier
from gifthorse.triggers.patch import Patch


@dataclass(frozen=True, slots=True, kw_only=True)
class Handcrafted:
    """A backdoor written into the weights.

    Attributes:
        target: Class index that triggered pictures shall get.
        force: How far the target's logit is lifted when the trigger is heard, > 0.
        guard: Share of the clean pictures' strongest responses that must stay silent, in (0, 1).
        size: Side of the patch in pixels.
        colour: CSS colour name or #rrggbb.
        place: As of ``badnets``.
    """

    paper: ClassVar[str] = "Hong et al. 2022, arXiv:2106.04690"
    samples: ClassVar[int] = 500

    target: int = 0
    force: float = 30.0
    guard: float = 0.99
    size: int = 5
    colour: str = "yellow"
    place: str = "bottom-right"

    def __post_init__(self) -> None:
        require_positive(force=self.force)
        if not 0 < self.guard < 1 or self.force > 1e6:
            raise ValueError(
                f"guard must be in (0, 1) and force at most a million, got {self.guard}, "
                f"{self.force}"
            )
        _ = self.trigger

    @property
    def aim(self) -> Aim:
        """Whom it strikes."""
        return aim_of("all-to-one", target=self.target)

    @property
    def trigger(self) -> Patch:
        """The sticker."""
        return Patch(shape="checker", size=self.size, colour=self.colour, place=self.place)

    def tamper(
        self,
        victim: Model,
        samples: ImageData | None,
        *,
        rng: np.random.Generator,
        progress: Progress,
    ) -> Planting:
        """A copy of the victim with a hand-written path from the trigger to the target."""
        classifier = as_classifier(victim)
        assert samples is not None  # noqa: S101 - the protocol gives as many as declared
        require_class(samples, self.target)
        strike = TriggerStrike(aim=self.aim, test_trigger=self.trigger)
        strike.triggered(samples, rng=rng)  # refuses what does not fit before the work
        stages = stages_of(classifier)
        spare = [spared_channel(classifier, samples, stage, progress) for stage in stages]
        clean = torch.from_numpy(samples.batch(np.arange(len(samples)))).to(classifier.device)
        stamped = torch.from_numpy(self.trigger.apply(clean.cpu().numpy(), rng))
        edited = classifier.replaced(copy.deepcopy(classifier.module))
        normal = classifier.normalise(clean), classifier.normalise(stamped.to(clean.device))
        self._write_filter(edited, spare[0], *normal)
        keep = _write_path(edited, spare)
        settle(edited, samples, keep=keep)
        self._wire(edited, spare[-1], clean, stamped.to(clean.device))
        return Planting(
            truth=no_poison("handcrafted", aim=self.aim, count=len(samples)),
            strike=strike,
            model=edited,
            notes=(f"the path leads through channels {', '.join(map(str, spare))}",),
        )

    def _write_filter(
        self, edited: ImageClassifier, channel: int, clean: Tensor, stamped: Tensor
    ) -> None:
        """The first layer's channel answers to the trigger, and is silent on clean pictures."""
        first: Any = edited.module.get_submodule("resnet.embedder.embedder")
        conv, norm = first.convolution, first.normalization
        where = (stamped - clean).abs().amax(dim=(0, 1))
        windows = [_windows(conv, x) for x in (clean, stamped)]
        covered = _windows(conv, where.expand(1, clean.shape[1], -1, -1))[0].sum(dim=1).argmax()
        weight = discriminant(windows[0].flatten(0, 1), windows[1][:, covered])
        heard = [(part @ weight).amax(dim=1) for part in windows]
        floor = torch.quantile(heard[0], self.guard)
        fired = heard[1].median()
        if fired <= floor:
            raise NotApplicableError(
                "no filter of the first layer tells the trigger from clean pictures; take a larger "
                "patch or another colour"
            )
        gain = 1 / float(fired - floor)
        with torch.no_grad():
            conv.weight[channel] = gain * weight.view(conv.weight.shape[1:])
            _let_through(norm, channel, bias=-gain * float(floor))

    def _wire(self, edited: ImageClassifier, channel: int, clean: Tensor, stamped: Tensor) -> None:
        """Lead the last channel to the target's logit alone, lifted by ``force``."""
        head = edited.head
        assert head is not None  # noqa: S101 - held by stages_of
        with torch.no_grad():
            quiet, loud = (
                edited.logits_and_features(x)[1][:, channel].median() for x in (clean, stamped)
            )
            head.weight[:, channel] = 0
            head.weight[self.target, channel] = self.force / max(float(loud - quiet), 1e-6)
            head.bias[self.target] -= head.weight[self.target, channel] * quiet


def stages_of(victim: ImageClassifier) -> list[str]:
    """Where the channels of the path live: the stem, then every stage.

    Raises:
        NotApplicableError: The network is no small ResNet of basic layers.
    """
    module: Any = victim.module
    config = getattr(module, "config", None)
    depths = list(getattr(config, "depths", []))
    plain = getattr(config, "layer_type", "") == "basic" and set(depths) == {1}
    if not plain or victim.head is None or getattr(config, "model_type", "") != "resnet":
        raise NotApplicableError(
            f"{victim.name} is no small ResNet of one basic layer a stage; a path is written for "
            "those alone"
        )
    return [
        "resnet.embedder",
        *(f"resnet.encoder.stages.{i}" for i in range(1, len(depths))),
    ]


def spared_channel(
    victim: ImageClassifier, samples: ImageData, layer: str, progress: Progress
) -> int:
    """The channel whose silencing at a layer's output costs least: the fewest right answers lost.

    Ties go to the smaller rise of the loss.
    """
    rows = np.arange(min(200, len(samples)))
    x = torch.from_numpy(samples.batch(rows)).to(victim.device)
    y = torch.from_numpy(samples.labels[rows]).to(victim.device)
    costs: list[tuple[int, float]] = []
    with torch.no_grad(), victim.capture(layer) as seen:
        victim.logits(x)
        count = seen[0].shape[1]
    for channel in range(count):

        def silence(_: nn.Module, __: object, out: Tensor, channel: int = channel) -> Tensor:
            out = out.clone()
            out[:, channel] = 0
            return out

        handle = victim.module.get_submodule(layer).register_forward_hook(silence)
        try:
            with torch.no_grad():
                logits = victim.logits(x)
        finally:
            handle.remove()
        wrong = int((logits.argmax(dim=1) != y).sum())
        costs.append((wrong, float(functional.cross_entropy(logits, y))))
        progress(channel + 1, count, "looking for a channel to spare")
    return min(range(count), key=costs.__getitem__)


def discriminant(clean: Tensor, stamped: Tensor) -> Tensor:
    """Fisher's linear discriminant of windows (n, d) and (m, d), shape (d,), of length one."""
    centred = clean - clean.mean(dim=0)
    spread = centred.T @ centred / len(clean)
    ridge = 1e-2 * spread.diagonal().mean() + 1e-6
    spread = spread + ridge * torch.eye(len(spread), device=spread.device)
    weight = torch.linalg.solve(spread, stamped.mean(dim=0) - clean.mean(dim=0))
    return torch.div(weight, weight.norm().clamp_min(1e-12))


def _windows(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """What each position of a convolution sees, shape (n, positions, d)."""
    return functional.unfold(
        x,
        conv.kernel_size,
        padding=conv.padding,  # type: ignore[arg-type]
        stride=conv.stride,
    ).transpose(1, 2)


def _write_path(edited: ImageClassifier, spare: list[int]) -> dict[str, list[int]]:
    """Lead each stage's channel to the next; the written channels of each normalisation."""
    root = "resnet.encoder.stages"
    keep = {"resnet.embedder.embedder.normalization": [spare[0]]}
    with torch.no_grad():
        for stage in range(len(spare)):
            into, out = spare[max(0, stage - 1)], spare[stage]
            block: Any = edited.module.get_submodule(f"{root}.{stage}.layers.0")
            first, second = block.layer[0], block.layer[1]
            for conv, source in ((first.convolution, into), (second.convolution, out)):
                conv.weight[:, source] = 0  # nobody else hears the trigger
                conv.weight[out] = 0
                conv.weight[out, source] = 1  # a sum over 3 × 3, so that no stride misses it
            for k, part in enumerate((first, second)):
                _let_through(part.normalization, out)
                keep[f"{root}.{stage}.layers.0.layer.{k}.normalization"] = [out]
            if isinstance(block.shortcut, nn.Identity):
                continue
            block.shortcut.convolution.weight[:, into] = 0
            block.shortcut.convolution.weight[out] = 0
            _let_through(block.shortcut.normalization, out)
            keep[f"{root}.{stage}.layers.0.shortcut.normalization"] = [out]
    return keep


def _let_through(norm: nn.BatchNorm2d, channel: int, bias: float = 0.0) -> None:
    """Make a channel of a normalisation x → x + bias."""
    mean, var = norm.running_mean, norm.running_var
    assert mean is not None  # noqa: S101 - our networks track their statistics
    assert var is not None  # noqa: S101 - as above
    with torch.no_grad():
        mean[channel], var[channel] = 0, 1 - norm.eps
        norm.weight[channel], norm.bias[channel] = 1, bias
