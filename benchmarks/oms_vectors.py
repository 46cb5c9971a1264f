"""The published vectors of OpenSSF Model Signing: which verify, which are refused, and why.

    git clone --depth 1 https://github.com/sigstore/model-transparency
    git clone --depth 1 https://github.com/ossf/model-signing-spec
    python benchmarks/oms_vectors.py --model-transparency model-transparency \
        --spec model-signing-spec

For model-transparency each signature of `scripts/tests` is verified with what its own scripts trust
(key, CA, identity), then with something else that must be refused. The specification's vectors come
without the files that they sign, so there the bundle alone is judged. Nothing is fetched.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gifthorse.core.errors import TrustError
from gifthorse.provenance.bundles import bundle_signers, read_bundle
from gifthorse.provenance.envelope import read_statement
from gifthorse.provenance.keys import generate_key
from gifthorse.provenance.oms_claims import parse_oms
from gifthorse.provenance.policy import Policy, build_policy
from gifthorse.provenance.verify import verify

IDENTITY = {
    "identity": "stefanb@us.ibm.com",
    "issuer": "https://sigstore.verify.ibm.com/oauth2",
}
OURS_TO_IGNORE = ["ignore-me"]
REFUSED_ON_PURPOSE = {"v0.2.0-certificate": "it signs something else than DSSE says"}


def policy(signer: dict[str, Any], folder: Path) -> Policy:
    rule = {"models": "*", "signers": ["them"], "allow_unsigned": OURS_TO_IGNORE}
    content = {"schema": 1, "signer": [{"name": "them", **signer}], "rule": [rule]}
    return build_policy(content, source="the vector's trust", folder=folder)


def trusted(keys: Path, kind: str) -> Policy:
    if kind == "certificate":
        return policy({"ca": "ca-cert.pem", "subject": "intermediate-ca"}, keys)
    if kind == "sigstore":
        return policy(IDENTITY, keys)
    return policy({"key": "signing-key-pub.pem"}, keys)


def strangers(keys: Path, kind: str) -> Iterator[tuple[str, Policy]]:
    if kind == "certificate":
        yield "another subject", policy({"ca": "ca-cert.pem", "subject": "somebody"}, keys)
        yield (
            "another CA",
            policy({"ca": "signing-key-cert.pem", "subject": "intermediate-ca"}, keys),
        )
    elif kind == "sigstore":
        yield "another identity", policy({**IDENTITY, "identity": "a@b.c"}, keys)
        yield "another issuer", policy({**IDENTITY, "issuer": "https://accounts.google.com"}, keys)
    else:
        other = generate_key("ecdsa-p256").public
        yield "another key", policy({"key": other.pem.decode()}, keys)


def judged(path: Path, trust: Policy, signature: Path, now: datetime | None = None) -> str:
    try:
        found = verify(path, policy=trust, signature=signature, now=now)
    except TrustError as error:
        return f"refused: {error}"
    return f"verified, {len(found.files)} file(s)"


def row(source: str, name: str, expected: str, got: str) -> bool:
    fits = got.startswith(expected)
    print(f"| {source} | {name} | {expected} | {'' if fits else 'WRONG: '}{got[:150]} |")
    return fits


def transparency(root: Path) -> Iterator[bool]:
    place = root / "scripts" / "tests"
    keys = place / "keys" / "certificate"
    for signature in sorted(place.glob("v*/model.sig")):
        name = signature.parent.name
        kind = name.split("-", 1)[1]
        # Two old ones sign a single file.
        single = name in ("v0.3.1-elliptic-key", "v1.0.0-elliptic-key")
        path = signature.parent / "signme-1" if single else signature.parent
        expected = "refused" if name in REFUSED_ON_PURPOSE else "verified"
        got = judged(path, trusted(keys, kind), signature)
        yield row("model-transparency", name, expected, got)
        for what, trust in strangers(keys, kind):
            got = judged(path, trust, signature)
            yield row("model-transparency", f"{name}, {what}", "refused", got)
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch) / name
            shutil.copytree(signature.parent, copy)
            with (copy / "signme-1").open("ab") as file:
                file.write(b"x")
            changed = copy / "signme-1" if single else copy
            got = judged(changed, trusted(keys, kind), copy / "model.sig")
            yield row("model-transparency", f"{name}, a file changed", "refused", got)
        if kind == "certificate":
            then = datetime(2040, 1, 1, tzinfo=UTC)
            got = judged(path, trusted(keys, kind), signature, then)
            yield row("model-transparency", f"{name}, in 2040", "refused", got)


def specification(root: Path, keys: Path | None) -> Iterator[bool]:
    for path in sorted((root / "test-vectors" / "v1.0").glob("*/*.json")):
        kind = path.name.split(".")[0].replace("key", "elliptic-key")
        got = "read"
        try:
            bundle = read_bundle(path.read_bytes())
            if keys is not None and path.parent.name == "valid":
                bundle_signers(bundle, trusted(keys, kind), datetime.now(UTC))
                got = "read, and signed by whom it should"
            parse_oms(read_statement(bundle.payload))
        except TrustError as error:
            got = f"refused: {error}"
        expected = "read" if path.parent.name == "valid" else "refused"
        yield row("specification", f"{path.parent.name}/{path.name}", expected, got)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model-transparency", type=Path, help="a clone of the repository")
    parser.add_argument("--spec", type=Path, help="a clone of the repository")
    options = parser.parse_args()
    print("| source | vector | expected | outcome |\n|---|---|---|---|")
    outcomes: list[bool] = []
    keys = None
    if options.model_transparency:
        keys = options.model_transparency / "scripts" / "tests" / "keys" / "certificate"
        outcomes += transparency(options.model_transparency)
    if options.spec:
        outcomes += specification(options.spec, keys)
    print(f"\n{sum(outcomes)} of {len(outcomes)} as they should")
    return 0 if all(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
