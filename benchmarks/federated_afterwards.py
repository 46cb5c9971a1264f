"""After an attack on plain averaging: does an ordinary audit find it, and does removal mend it?

    python benchmarks/federated_afterwards.py [--seeds 2 3 4]

Digits, 20 clients, 4 attackers in rounds 10 to 24 of 40, α = .5. Prints two tables in Markdown: the
verdicts of ordinary detectors about the final model, the clean twin beside the attacked ones; and
clean accuracy / attack success rate of the model when the four are taken out of it.
"""

import argparse
from functools import partial

from gifthorse.auditing.audit import audit
from gifthorse.core.rng import child_rng
from gifthorse.core.rounds_record import TrialSpec
from gifthorse.core.types import Verdict
from gifthorse.federated.afterwards import healed
from gifthorse.federated.removal import replay
from gifthorse.federated.rounds import TrialResult, context_of, methods, run_trial
from gifthorse.federated.world import World, build_world, client_name
from gifthorse.models.flat_model import flat_classifier

DETECTORS = ("neural_cleanse", "mm_bd", "universality", "linear_weights")
ATTACKS = ("none", "model_replacement", "train_and_scale")
BAD = [client_name(number) for number in range(4)]


def verdicts(world: World, result: TrialResult) -> list[str]:
    model = flat_classifier(
        result.model,
        world.learner.layout,
        network="perceptron",
        image_shape=world.image_shape,
        class_names=world.class_names,
    )
    found = []
    for name in DETECTORS:
        record = audit(model, trusted="digits", detectors=(name,))
        word = record.verdict.value
        if record.verdict is Verdict.FLAGGED:
            evidence = record.findings[0].evidence
            named = evidence.suspects[:1] if evidence is not None else ()
            word += " (right class)" if named == (world.backdoor.target,) else " (another class)"
        found.append(word)
    return found


def removal(world: World, result: TrialResult) -> list[str]:
    spec = result.record.spec

    def rates(model) -> str:  # type: ignore[no-untyped-def]
        accuracy, success = world.clean_accuracy(model), world.attack_success(model)
        return f"{100 * accuracy:.1f} / {100 * success:.1f}"

    context = partial(context_of, spec, world)
    replayed = replay(result.initial, result.stored, methods(spec)[0], context, without=BAD)
    fresh = world.learner.initial(child_rng(spec.seed, "network"))
    return [
        rates(result.model),
        rates(replayed),
        rates(healed(spec, world, replayed, BAD, 3)),
        rates(healed(spec, world, result.model, BAD, 3)),
        rates(healed(spec, world, fresh, BAD, 3)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 4])
    options = parser.parse_args()
    audits, mended = [], []
    for attack in ATTACKS:
        for seed in options.seeds:
            spec = TrialSpec(data="digits", attack=attack, seed=seed)
            world = build_world(spec)
            result = run_trial(spec, keep_updates=True, world=world)
            success = f"{100 * result.record.rounds[-1].attack_success:.0f}"
            audits.append([attack, str(seed), success, *verdicts(world, result)])
            if attack != "none":
                mended.append([attack, str(seed), *removal(world, result)])
    titles = (
        ["attack", "seed", "ASR at the end", *DETECTORS],
        [
            *("attack", "seed", "final model", "replayed without the four"),
            *("and 3 rounds of the others", "3 rounds more without removal", "3 rounds from none"),
        ],
    )
    for title, rows in zip(titles, (audits, mended), strict=True):
        print("| " + " | ".join(title) + " |\n|" + "---|" * len(title))
        print("\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n", flush=True)


if __name__ == "__main__":
    main()
