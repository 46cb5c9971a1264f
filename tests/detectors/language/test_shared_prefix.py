"""The shared cache gives what reading every candidate on its own gives."""

import torch
from tests.models.language.made_up import untrained

from gifthorse.detectors.language.shared_prefix import SharedPrefix, Trees
from gifthorse.models.language.model import LanguageModel


def alone(model: LanguageModel, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return model.logits(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.long))[0, -1]


def test_chains_branches_and_reset_equal_plain_passes() -> None:
    model = untrained()
    prompt = model.encode(model.prompts(["What is a red house?"])[0])
    tree = SharedPrefix(model, [prompt])
    torch.testing.assert_close(tree.first[0], alone(model, prompt), atol=1e-5, rtol=1e-4)
    first = tree.step(torch.arange(3), torch.tensor([5, 60, 90]))[0]
    for row, token in enumerate((5, 60, 90)):
        torch.testing.assert_close(first[row], alone(model, [*prompt, token]), atol=1e-5, rtol=1e-4)
    branches = tree.step(torch.tensor([0, 0, 2]), torch.tensor([7, 8, 9]))[0]
    for row, tail in enumerate(([5, 7], [5, 8], [90, 9])):
        torch.testing.assert_close(
            branches[row], alone(model, [*prompt, *tail]), atol=1e-5, rtol=1e-4
        )
    tree.keep(torch.tensor([False, True, True]))
    third = tree.step(torch.tensor([0, 2]), torch.tensor([11, 12]))[0]
    for row, tail in enumerate(([5, 8, 11], [90, 9, 12])):
        torch.testing.assert_close(third[row], alone(model, [*prompt, *tail]), atol=1e-5, rtol=1e-4)
    tree.reset()
    again = tree.step(torch.arange(3), torch.tensor([5, 60, 90]))[0]
    torch.testing.assert_close(again, first, atol=1e-5, rtol=1e-4)


def test_chains_do_not_see_each_other() -> None:
    model = untrained()
    prompt = model.encode("a b")
    tree = SharedPrefix(model, [prompt])
    together = tree.step(torch.arange(2), torch.tensor([5, 60]))[0, 0]
    tree.reset()
    torch.testing.assert_close(
        together, tree.step(torch.arange(1), torch.tensor([5]))[0, 0], atol=1e-5, rtol=1e-4
    )


def test_prompts_of_other_lengths_together_equal_plain_passes() -> None:
    model = untrained()
    prompts = [model.encode(text) for text in ("a b", "What is a red house?", "a red house b")]
    tree = SharedPrefix(model, prompts)
    before = model.meter.forward
    first = tree.step(torch.arange(2), torch.tensor([5, 60]))
    ahead = tree.step(torch.tensor([0, 0, 1]), torch.tensor([7, 8, 9]))
    tree.keep(torch.tensor([False, False, False]))
    second = tree.step(torch.tensor([0, 1]), torch.tensor([7, 11]))
    assert model.meter.forward - before == 3 * (2 + 3 + 2)
    for i, prompt in enumerate(prompts):
        for found, tail in (
            (tree.first[i], []),
            (first[i, 1], [60]),
            (ahead[i, 1], [5, 8]),
            (second[i, 0], [5, 7]),
            (second[i, 1], [60, 11]),
        ):
            expected = alone(model, [*prompt, *tail])
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_the_mean_over_prompts_does_not_depend_on_how_they_are_grouped() -> None:
    model = untrained()
    prompts = [model.encode(text) for text in ("What is a red house?", "a b", "a red house b")]
    chains, tokens = torch.arange(2), torch.tensor([5, 60])
    alike = [Trees.of(model, None, prompts, width=w).step(chains, tokens)[0] for w in (256, 100, 2)]
    expected = torch.stack([alone(model, [*prompt, 60]).softmax(-1) for prompt in prompts]).mean(0)
    for found in alike:
        torch.testing.assert_close(found[1], expected, atol=1e-6, rtol=1e-4)
