"""A training run as a CycloneDX 1.6 bill of materials for machine learning (ML-BOM).

The JSON is written by hand because cyclonedx-python-lib 11 has no ``modelCard``; the tests validate
it against the schema that this library ships.
"""

from typing import Any

from gifthorse.core.record import versions
from gifthorse.provenance.runs import Consumed, Named, Run


def cyclonedx(run: Run) -> dict[str, Any]:
    """The model with its files, data sets, contributors and parents."""
    data_sets = [_data_set(index, data) for index, data in enumerate(run.consumed)]
    files = [_file("file", index, named) for index, named in enumerate(_files(run.outputs))]
    parents = [_file("parent", index, named) for index, named in enumerate(_files(run.parents))]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{run.id}",
        "version": 1,
        "metadata": {
            "timestamp": run.finished,
            "tools": {
                "components": [
                    {
                        "type": "application",
                        "name": "gifthorse",
                        "version": versions().get("gifthorse", "unknown"),
                    }
                ]
            },
            "component": {
                "type": "machine-learning-model",
                "bom-ref": "model",
                "name": run.name,
                "components": files,
                "modelCard": {
                    "modelParameters": {
                        "datasets": [{"ref": data["bom-ref"]} for data in data_sets],
                    },
                    "properties": [
                        {"name": f"gifthorse:parameter:{name}", "value": str(value)}
                        for name, value in run.parameters.items()
                    ],
                },
                **_code(run),
            },
        },
        "components": [*data_sets, *parents],
        "dependencies": [
            {
                "ref": "model",
                "dependsOn": [one["bom-ref"] for one in (*data_sets, *parents)],
            },
            *({"ref": one["bom-ref"]} for one in (*data_sets, *parents)),
        ],
    }


def _data_set(index: int, data: Consumed) -> dict[str, Any]:
    return {
        "type": "data",
        "bom-ref": f"data-set-{index}",
        "name": data.name,
        "data": [
            {
                "type": "dataset",
                "name": data.name,
                "contents": {
                    "properties": [
                        {"name": "gifthorse:rfc6962Sha256", "value": data.root},
                        {"name": "gifthorse:consumed", "value": f"{data.count} of {data.size}"},
                        {"name": "gifthorse:checked", "value": data.checked},
                        *(
                            {
                                "name": f"gifthorse:contributor:{part.name or '(nobody)'}",
                                "value": f"{part.count} of {part.size}, root {part.root}",
                            }
                            for part in data.contributors
                        ),
                    ]
                },
            }
        ],
    }


def _file(kind: str, index: int, named: Named) -> dict[str, Any]:
    return {
        "type": "file",
        "bom-ref": f"{kind}-{index}",
        "name": named.name,
        "hashes": [{"alg": "SHA-256", "content": named.digest}],
    }


def _files(named: tuple[Named, ...]) -> list[Named]:
    return [one for one in named if one.name != "model"]  # that one digests tensors, not a file


def _code(run: Run) -> dict[str, Any]:
    if not run.revision:
        return {}
    commit: dict[str, Any] = {"uid": str(run.revision["commit"])}
    if run.revision["uri"]:
        commit["url"] = str(run.revision["uri"])
    return {"pedigree": {"commits": [commit]}}
