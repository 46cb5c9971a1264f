"""Says in words what a policy allows."""

from gifthorse.provenance.policy import Policy, Rule


def explain_policy(policy: Policy, *, name: str | None = None) -> list[str]:
    """One sentence a line.

    Args:
        policy: A checked policy.
        name: Explain only what holds for a model of this name.

    Raises:
        TrustError: No rule is for that name.
    """
    lines: list[str] = []
    rules = policy.rules if name is None else (policy.rule_for(name),)
    for rule in rules:
        lines += _rule(rule, name)
    used = {signer for rule in rules for signer in rule.signers}
    for signer, key in policy.keys.items():
        if signer in used:
            revoked = " (REVOKED: its signatures count for nothing)"
            lines.append(
                f"{signer} is {key.kind} key {key.keyid}"
                f"{revoked if key.keyid in policy.revoked.keys else ''}."
            )
        elif name is None:
            lines.append(f"{signer} may sign nothing: no rule names them.")
    lines += [
        f"{signer} is whoever holds a certificate for {one.subject!r} that is valid now and leads "
        "to their CA."
        for signer, one in policy.certified.items()
        if signer in used
    ]
    lines += [
        f"{signer} is {one.identity}, as {one.issuer} says (sigstore, checked offline)."
        for signer, one in policy.identified.items()
        if signer in used
    ]
    if policy.revoked.keys:
        lines.append(f"{len(policy.revoked.keys)} key(s) are revoked.")
    if policy.revoked.digests:
        lines.append(f"{len(policy.revoked.digests)} content(s) are revoked, whoever signed them.")
    lines.append("Everything else is refused: unsigned files, links, and names without a rule.")
    return lines


def _rule(rule: Rule, name: str | None) -> list[str]:
    what = f"A model signed as {name if name else rule.models!r}"
    who = ", ".join(rule.signers)
    if len(rule.signers) == 1:
        lines = [f"{what} must be signed by {who}."]
    else:
        lines = [f"{what} must be signed by {rule.threshold} of {len(rule.signers)}: {who}."]
    if rule.minimum_version is not None:
        lines.append(f"  It must name a version, {rule.minimum_version} or newer.")
    if rule.files != ("*",):
        lines.append(f"  It may hold only files named {', '.join(rule.files)}.")
    if rule.allow_unsigned:
        lines.append(f"  These may lie there unsigned: {', '.join(rule.allow_unsigned)}.")
    lines.append(f"  Signatures may be in the formats: {', '.join(rule.signatures)}.")
    return lines
