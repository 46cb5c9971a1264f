"""A manifest as Croissant 1.0 metadata (MLCommons): samples and people, for data-set tools."""

from typing import Any

from gifthorse.provenance.manifest import Manifest
from gifthorse.provenance.reading.folder import file_digest

_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_MOST_PEOPLE = 1000


def croissant(manifest: Manifest, *, licence: str | None = None, url: str | None = None) -> Any:
    """The data set, its contributors as creators, and the manifest's list as a record set.

    Args:
        manifest: Of the data set.
        licence: A URL or SPDX identifier, if known.
        url: Where the data set is described, if anywhere.

    Raises:
        DataError: The list of samples cannot be read.
    """
    head = manifest.head
    people = [part.name for part in head.contributors if part.name][:_MOST_PEOPLE]
    found = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": head.name,
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "description": (
            f"{head.size} samples of {len(head.contributors)} contributors. "
            f"Root of the manifest (RFC 6962, SHA-256): {head.root}"
        ),
        "datePublished": head.created,
        "creator": [{"@type": "sc:Person", "name": name} for name in people],
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": "samples.jsonl",
                "name": "samples.jsonl",
                "description": "One line a sample: id, contributor, label, SHA-256.",
                "contentUrl": "samples.jsonl",
                "encodingFormat": "application/jsonlines",
                "sha256": file_digest(manifest.place / "samples.jsonl").hex(),
            }
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "samples",
                "name": "samples",
                "key": {"@id": "samples/id"},
                "field": [
                    _field(place, name)
                    for place, name in enumerate(("id", "contributor", "label", "digest"))
                ],
            }
        ],
    }
    return found | {
        name: value for name, value in (("license", licence), ("url", url)) if value is not None
    }


def _field(place: int, name: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"samples/{name}",
        "name": name,
        "dataType": "sc:Text",
        "source": {
            "fileObject": {"@id": "samples.jsonl"},
            "extract": {"jsonPath": f"$[{place}]"},
        },
    }
