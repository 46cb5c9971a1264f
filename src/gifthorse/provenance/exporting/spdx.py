"""A training run as an SPDX 3.0.1 document: a model, ``trainedOn`` its data sets.

Only the core and software profiles are claimed: the AI and data-set profiles demand licences,
which a run does not know. Where something is to be fetched is not known either; a URN of its digest
stands for it.
"""

from typing import Any

from gifthorse.provenance.runs import Consumed, Named, Run

CONTEXT = "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"
_CREATION = "_:creation"


def spdx(run: Run) -> dict[str, Any]:
    """The document, as JSON-LD."""
    base = f"urn:uuid:{run.id}"
    graph: list[dict[str, Any]] = [
        {
            "type": "CreationInfo",
            "@id": _CREATION,
            "specVersion": "3.0.1",
            "created": _time(run.finished),
            "createdBy": [f"{base}#gifthorse"],
        },
        _element("SoftwareAgent", f"{base}#gifthorse", "gifthorse"),
        _model(run, base),
    ]
    for index, data in enumerate(run.consumed):
        graph += _data_set(data, base, index, run)
    files = [one for one in run.outputs if one.name != "model"]
    graph += [_file(one, f"{base}#file-{i}", run) for i, one in enumerate(files)]
    parents = [one for one in run.parents if one.name != "model"]
    graph += [_file(one, f"{base}#parent-{i}", run) for i, one in enumerate(parents)]
    for kind, name, count in (
        ("trainedOn", "data", len(run.consumed)),
        ("contains", "file", len(files)),
        ("descendantOf", "parent", len(parents)),
    ):
        if count:
            ends = [f"{base}#{name}-{i}" for i in range(count)]
            graph.append(_relationship(base, kind, f"{base}#model", ends))
    root = f"{base}#bom"
    everything = [one["spdxId"] for one in graph if "spdxId" in one]
    graph.append(
        _element("software_Sbom", root, f"model {run.name}")
        | {
            "software_sbomType": ["build"],
            "rootElement": [f"{base}#model"],
            "element": everything,
        }
    )
    graph.append(
        _element("SpdxDocument", f"{base}#document", run.name)
        | {
            "profileConformance": ["core", "software"],
            "rootElement": [root],
            "element": [*everything, root],
        }
    )
    return {"@context": CONTEXT, "@graph": graph}


def _model(run: Run, base: str) -> dict[str, Any]:
    digest = next((one.digest for one in run.outputs if one.is_weights), run.outputs[0].digest)
    return _element("ai_AIPackage", f"{base}#model", run.name) | {
        "software_primaryPurpose": "model",
        "software_packageVersion": digest[:16],
        "software_downloadLocation": f"urn:sha256:{digest}",
        "releaseTime": _time(run.finished),
        "ai_hyperparameter": [
            {"type": "DictionaryEntry", "key": name, "value": str(value)}
            for name, value in run.parameters.items()
        ],
    }


def _data_set(data: Consumed, base: str, index: int, run: Run) -> list[dict[str, Any]]:
    people = [
        _element("Agent", f"{base}#data-{index}-contributor-{i}", part.name or "(nobody)")
        for i, part in enumerate(data.contributors)
    ]
    package = _element("dataset_DatasetPackage", f"{base}#data-{index}", data.name) | {
        "software_primaryPurpose": "data",
        "software_downloadLocation": f"urn:rfc6962-sha256:{data.root}",
        "dataset_datasetType": ["other" if data.content == "bytes" else "image"],
        "dataset_datasetSize": data.size,
        "builtTime": _time(run.started),
        "releaseTime": _time(run.started),
        "originatedBy": [person["spdxId"] for person in people],
        "comment": (
            f"{data.count} of {data.size} samples consumed; RFC 6962 root sha256:{data.root}"
        ),
    }
    return [*people, package]


def _file(named: Named, identity: str, run: Run) -> dict[str, Any]:
    return _element("software_File", identity, named.name) | {
        "software_primaryPurpose": "model" if named.is_weights else "configuration",
        "builtTime": _time(run.finished),
        "verifiedUsing": [{"type": "Hash", "algorithm": "sha256", "hashValue": named.digest}],
    }


def _relationship(base: str, kind: str, start: str, ends: list[str]) -> dict[str, Any]:
    return {
        "type": "Relationship",
        "spdxId": f"{base}#{kind}",
        "creationInfo": _CREATION,
        "relationshipType": kind,
        "from": start,
        "to": ends,
    }


def _element(kind: str, identity: str, name: str) -> dict[str, Any]:
    return {"type": kind, "spdxId": identity, "creationInfo": _CREATION, "name": name}


def _time(text: str) -> str:
    """SPDX writes UTC as Z."""
    return text.replace("+00:00", "Z")
