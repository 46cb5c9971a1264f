"""The shared cache gives what reading every candidate on its own gives."""

import torch
from tests.models.language.made_up import untrained

from gifthorse.detectors.language.shared_prefix import SharedPrefix
from gifthorse.models.language.model import LanguageModel


def alone(model: LanguageModel, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return model.logits(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.long))[0, -1]


def test_chains_branches_and_reset_equal_plain_passes() -> None:
    model = untrained()
    prompt = model.encode(model.prompts(["What is a red house?"])[0])
    tree = SharedPrefix(model, prompt)
    torch.testing.assert_close(tree.first, alone(model, prompt), atol=1e-5, rtol=1e-4)
    first = tree.step(torch.arange(3), torch.tensor([5, 60, 90]))
    for row, token in enumerate((5, 60, 90)):
        torch.testing.assert_close(first[row], alone(model, [*prompt, token]), atol=1e-5, rtol=1e-4)
    branches = tree.step(torch.tensor([0, 0, 2]), torch.tensor([7, 8, 9]))
    for row, tail in enumerate(([5, 7], [5, 8], [90, 9])):
        torch.testing.assert_close(
            branches[row], alone(model, [*prompt, *tail]), atol=1e-5, rtol=1e-4
        )
    tree.keep(torch.tensor([False, True, True]))
    third = tree.step(torch.tensor([0, 2]), torch.tensor([11, 12]))
    for row, tail in enumerate(([5, 8, 11], [90, 9, 12])):
        torch.testing.assert_close(third[row], alone(model, [*prompt, *tail]), atol=1e-5, rtol=1e-4)
    tree.reset()
    again = tree.step(torch.arange(3), torch.tensor([5, 60, 90]))
    torch.testing.assert_close(again, first, atol=1e-5, rtol=1e-4)


def test_chains_do_not_see_each_other() -> None:
    model = untrained()
    prompt = model.encode("a b")
    tree = SharedPrefix(model, prompt)
    together = tree.step(torch.arange(2), torch.tensor([5, 60]))[0]
    tree.reset()
    torch.testing.assert_close(
        together, tree.step(torch.arange(1), torch.tensor([5]))[0], atol=1e-5, rtol=1e-4
    )
