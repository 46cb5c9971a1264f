"""What a third party learns from a file of proofs, given what they trust."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gifthorse.provenance.contributions import covers, vouches
from gifthorse.provenance.documents import signers, statement_in
from gifthorse.provenance.keys import PublicKey
from gifthorse.provenance.proofs import DataSetProof, Proof, consumed_by
from gifthorse.provenance.runs import Run, run_of


@dataclass(slots=True, kw_only=True)
class Trust:
    """Whom and what someone trusts.

    Attributes:
        roots: Roots of data sets, in hexadecimal.
        trainers: Keys of those whose statements about training runs count, by name.
        contributors: The key of each contributor who must have signed their part.
    """

    roots: frozenset[str] = frozenset()
    trainers: Mapping[str, PublicKey] = field(default_factory=dict)
    contributors: Mapping[str, PublicKey] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Checked:
    """The outcome.

    Attributes:
        faults: What does not hold; nothing of the proof may be used then.
        facts: What holds.
        open: What holds only if one believes the file, because nobody trusted vouched for it.
    """

    faults: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)


def check(proof: Proof, trust: Trust) -> Checked:
    """Check every path, and who vouches for the roots and the runs."""
    done = Checked(faults=proof.faults())
    if done.faults:
        return done
    runs = [(run_of(statement_in(document)), document) for document in proof.runs]
    vouched = set(trust.roots)
    for run, document in runs:
        who = signers(document, trust.trainers)
        if who:
            vouched |= {data.root for data in run.consumed}
            done.facts.append(f"the statement about {run.name} is signed by {', '.join(who)}")
        else:
            done.open.append(f"the statement about {run.name} (run {run.id}): no trusted signature")
    for one in proof.data_sets:
        if one.root not in vouched:
            done.open.append(f"the root of {one.name}: nobody trusted vouched for {one.root}")
        done.facts.append(f"{len(one.samples)} samples are in {one.name}, root {one.root}")
        _check_contributors(one, trust, done)
        for run, _ in runs:
            count = consumed_by(run, one)
            if count:
                done.facts.append(f"{count} of them were consumed for {run.name}: {_files(run)}")
    return done


def _check_contributors(one: DataSetProof, trust: Trust, done: Checked) -> None:
    for part in one.contributors:
        count = sum(sample.contributor == part.name for sample in one.samples)
        name = part.name or "(nobody)"
        fact = f"{count} of the {part.size} that {name} supplied"
        key = trust.contributors.get(part.name)
        if key is not None:
            if part.envelope is not None and vouches(part.envelope, part, key):
                fact += f", as {name} signed"
            else:
                done.faults.append(f"{name} did not sign this part with the key that you gave")
        elif part.envelope is not None and covers(part.envelope, part):
            fact += "; a signature is there, but no key to check it with"
        done.facts.append(fact)


def _files(run: Run) -> str:
    return ", ".join(
        f"{out.name} sha256:{out.digest[:16]}…" for out in run.outputs if out.is_weights
    )
