"""Verification as one call, for scripts and tests: ``gifthorse.verify("./model", policy=…)``."""

from collections.abc import Sequence
from pathlib import Path

from gifthorse.core.errors import TrustInputError
from gifthorse.provenance.keys import PublicKey, read_public_key
from gifthorse.provenance.policy import Policy, policy_for_keys, read_policy
from gifthorse.provenance.verify import Verified
from gifthorse.provenance.verify import verify as verify_path

Key = PublicKey | Path | str


def verify(
    path: Path | str,
    *,
    policy: Policy | Path | str | None = None,
    key: Key | Sequence[Key] | None = None,
    name: str | None = None,
    signature: Path | str | None = None,
) -> Verified:
    """Check that files are, byte for byte, what someone you trust has signed.

    Whoever opens the path afterwards may find something else; `gifthorse.load` hands on the very
    bytes that were verified.

    Args:
        path: A directory or one file.
        policy: Who may sign what: ``trust.toml`` or a policy that was read.
        key: Instead of a policy: a public key that must have signed, or several of which each must.
        name: The name that must have been signed. Without it, a model that was signed properly for
            another purpose passes.
        signature: Signature file; default inside the directory or beside the file.

    Raises:
        TrustError: Anything does not hold. Its child `TrustInputError` says that the question was
            wrong.
    """
    return verify_path(
        Path(path),
        policy=trusted(policy, key),
        signature=None if signature is None else Path(signature),
        name=name,
    )


def trusted(policy: Policy | Path | str | None, key: Key | Sequence[Key] | None) -> Policy:
    """The policy that is meant: exactly one of the two is given.

    Raises:
        TrustInputError: Neither or both are given, or one cannot be read.
    """
    if (policy is None) == (key is None):
        raise TrustInputError("whom do you trust? Give either policy or key")
    if isinstance(policy, Policy):
        return policy
    if policy is not None:
        return read_policy(policy)
    keys = [key] if isinstance(key, PublicKey | Path | str) else list(key or ())
    found = [k if isinstance(k, PublicKey) else read_public_key(Path(k)) for k in keys]
    return policy_for_keys(found, threshold=len(found))
