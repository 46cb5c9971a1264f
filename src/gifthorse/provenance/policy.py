"""`trust.toml`: who may sign what.

The file is checked against a schema; a misspelt field is an error, and so is anything that would
make a rule weaker than it reads: one key under two names, a threshold that cannot be met, a signer
that does not exist. There is no default rule: what no rule matches is refused.
"""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from gifthorse.core.errors import TrustError, TrustInputError
from gifthorse.provenance.authorities import (
    CertifiedSigner,
    IdentifiedSigner,
    read_certificates,
)
from gifthorse.provenance.claims import SignatureFormat
from gifthorse.provenance.keys import PublicKey, parse_public_key, read_public_key

_MAX_BYTES = 4 << 20
_DIGEST = re.compile(r"(sha256|blake3):[0-9a-f]{64}")
_KEYID = re.compile(r"[0-9a-f]{64}")
_SIGNER_FIELDS = ("key", "ca", "subject", "identity", "issuer", "trust_root")
_SIGNER_KINDS = ({"key"}, {"ca", "subject"}, {"identity", "issuer"})
Text = Annotated[str, Field(min_length=1, max_length=4096)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class SignerEntry(_Strict):
    """Someone who signs: known by a key, by a certificate of a CA, or by an identity (sigstore)."""

    name: Text
    key: Text | None = Field(
        default=None, description="File with a public key (relative to the policy), or PEM text."
    )
    ca: Text | None = Field(default=None, description="File with the CA's certificates, in PEM.")
    subject: Text | None = Field(
        default=None, description="Whom the certificate must be for: a name in it, or its subject."
    )
    identity: Text | None = Field(default=None, description="Mail address or URI of the signer.")
    issuer: Text | None = Field(default=None, description="URL of the provider that vouches.")
    trust_root: Text | None = Field(
        default=None, description="File with a sigstore trust root; default the public one's."
    )

    @model_validator(mode="after")
    def _one_kind(self) -> "SignerEntry":
        given = {name for name in _SIGNER_FIELDS if getattr(self, name) is not None}
        if given - {"trust_root"} not in _SIGNER_KINDS or (
            "trust_root" in given and "identity" not in given
        ):
            raise ValueError(
                f"{self.name!r} needs exactly one of: key; ca and subject; identity and issuer"
            )
        return self


class Rule(_Strict):
    """What must hold for models of some names."""

    models: Text = Field(default="*", description="Pattern of signed names, like acme/*.")
    signers: tuple[Text, ...] = Field(min_length=1, strict=False)
    threshold: int = Field(default=1, ge=1, description="How many of the signers must have signed.")
    minimum_version: Text | None = Field(default=None, description="Refuse older ones (PEP 440).")
    signatures: tuple[SignatureFormat, ...] = Field(default=("dsse", "oms"), strict=False)
    files: tuple[Text, ...] = Field(
        default=("*",), strict=False, description="Patterns of file names that may be there."
    )
    allow_unsigned: tuple[Text, ...] = Field(
        default=(), strict=False, description="Files or directories that may lie there unsigned."
    )

    @field_validator("minimum_version")
    @classmethod
    def _version(cls, value: str | None) -> str | None:
        if value is not None:
            Version(value)
        return value

    @model_validator(mode="after")
    def _reachable(self) -> "Rule":
        if len(set(self.signers)) != len(self.signers):
            raise ValueError("a signer is listed twice")
        if self.threshold > len(self.signers):
            raise ValueError(f"threshold {self.threshold} of {len(self.signers)} signers")
        return self


class Revoked(_Strict):
    """Keys and contents that are refused whatever a signature says."""

    keys: tuple[Text, ...] = Field(default=(), strict=False, description="Key ids (64 hex digits).")
    digests: tuple[Text, ...] = Field(
        default=(), strict=False, description="sha256:… or blake3:… of a model or one of its files."
    )

    @field_validator("keys")
    @classmethod
    def _keyids(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for key in value:
            if not _KEYID.fullmatch(key):
                raise ValueError(f"{key[:80]!r} is no key id; expected 64 lower-case hex digits")
        return value

    @field_validator("digests")
    @classmethod
    def _digests(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for digest in value:
            if not _DIGEST.fullmatch(digest):
                raise ValueError(f"{digest[:80]!r} is no digest; expected sha256:… or blake3:…")
        return value


class PolicyFile(_Strict):
    """The content of `trust.toml`."""

    schema_version: Literal[1] = Field(alias="schema")
    signer: tuple[SignerEntry, ...] = Field(min_length=1, strict=False)
    rule: tuple[Rule, ...] = Field(min_length=1, strict=False)
    revoked: Revoked = Revoked()

    @model_validator(mode="after")
    def _names(self) -> "PolicyFile":
        names = [signer.name for signer in self.signer]
        if len(set(names)) != len(names):
            raise ValueError("two signers have the same name")
        for rule in self.rule:
            for name in rule.signers:
                if name not in names:
                    raise ValueError(f"rule for {rule.models!r} names an unknown signer {name!r}")
        return self


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A checked policy with its keys read.

    Attributes:
        source: Where it came from, for messages.
        keys: Signer name → key.
        certified: Signer name → CA and subject.
        identified: Signer name → identity and issuer.
        rules: The first whose pattern matches a signed name counts.
    """

    source: str
    keys: dict[str, PublicKey]
    rules: tuple[Rule, ...]
    certified: dict[str, CertifiedSigner] = field(default_factory=dict)
    identified: dict[str, IdentifiedSigner] = field(default_factory=dict)
    revoked: Revoked = field(default_factory=Revoked)

    def rule_for(self, model: str) -> Rule:
        """The rule that a signed name falls under.

        Raises:
            TrustError: None does.
        """
        for rule in self.rules:
            if fnmatchcase(model, rule.models):
                return rule
        raise TrustError(f"{self.source} has no rule for a model signed as {model!r}")

    def check_version(self, rule: Rule, version: str | None) -> None:
        """Refuse a version that is older than the rule wants, or that cannot be compared.

        Raises:
            TrustError: It is too old, missing, or no PEP 440 version.
        """
        if rule.minimum_version is None:
            return
        if version is None:
            raise TrustError(
                f"the signature names no version; {self.source} wants at least "
                f"{rule.minimum_version} (sign with --version)"
            )
        try:
            old = Version(version) < Version(rule.minimum_version)
        except InvalidVersion as error:
            raise TrustError(f"the signed version {version!r} cannot be compared") from error
        if old:
            raise TrustError(
                f"the signed version {version} is older than {rule.minimum_version}, the least "
                f"that {self.source} accepts: an old model was put in the place of a newer one?"
            )


def read_policy(path: Path | str) -> Policy:
    """Read and check a policy file.

    Raises:
        TrustInputError: Missing, not TOML, or not a valid policy.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise TrustInputError(f"cannot read the policy {path}: {error}") from error
    if len(data) > _MAX_BYTES:
        raise TrustInputError(f"the policy {path} is larger than {_MAX_BYTES >> 20} MiB")
    try:
        content = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise TrustInputError(f"the policy {path} is not TOML: {error}") from error
    return build_policy(content, source=str(path), folder=path.parent)


def build_policy(content: dict[str, Any], *, source: str, folder: Path) -> Policy:
    """Check a policy's content.

    Args:
        content: As parsed from TOML.
        source: Names the policy in errors.
        folder: What its file names are relative to.

    Raises:
        TrustInputError: It is not a valid policy.
    """
    try:
        parsed = PolicyFile.model_validate(content)
    except (ValidationError, InvalidVersion, RecursionError) as error:
        raise TrustInputError(f"{source} is not a valid policy: {_explain(error)}") from error
    keys: dict[str, PublicKey] = {}
    owners: dict[str, str] = {}
    for signer in parsed.signer:
        if signer.key is None:
            continue
        key = _key(signer.name, signer.key, folder)
        if owners.setdefault(key.keyid, signer.name) != signer.name:
            raise TrustInputError(
                f"{source}: {owners[key.keyid]!r} and {signer.name!r} are the same key; it would "
                "count twice towards a threshold"
            )
        keys[signer.name] = key
    return Policy(
        source=source,
        keys=keys,
        rules=parsed.rule,
        certified={
            one.name: CertifiedSigner(ca=read_certificates(folder / one.ca), subject=one.subject)
            for one in parsed.signer
            if one.ca is not None and one.subject is not None
        },
        identified={
            one.name: IdentifiedSigner(
                identity=one.identity,
                issuer=one.issuer,
                trust_root=None if one.trust_root is None else folder / one.trust_root,
            )
            for one in parsed.signer
            if one.identity is not None and one.issuer is not None
        },
        revoked=parsed.revoked,
    )


def policy_for_keys(
    keys: Sequence[PublicKey], *, threshold: int = 1, allow_unsigned: Sequence[str] = ()
) -> Policy:
    """The policy "so many of these keys have signed it, whatever its name".

    Raises:
        TrustInputError: The threshold cannot be met, or a key occurs twice.
    """
    if len({key.keyid for key in keys}) != len(keys):
        raise TrustInputError("the same key was given twice")
    if not 1 <= threshold <= len(keys):
        raise TrustInputError(f"a threshold of {threshold} cannot be met by {len(keys)} key(s)")
    names = {f"{key.kind} {key.keyid[:16]}": key for key in keys}
    rule = Rule(signers=tuple(names), threshold=threshold, allow_unsigned=tuple(allow_unsigned))
    return Policy(source="the given keys", keys=names, rules=(rule,))


def _key(name: str, key: str, folder: Path) -> PublicKey:
    if "-----BEGIN" in key:
        return parse_public_key(key.encode(), f"the key of {name!r}")
    return read_public_key(folder / key)


def _explain(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    says = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        says = "there is no such field; is it misspelt?"
    return f"{place}: {says}" if place else says
