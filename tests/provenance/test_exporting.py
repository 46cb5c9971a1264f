"""Exports are valid by the validators of the formats themselves, and say what the run says."""

import json
from pathlib import Path

import numpy as np
import pytest

from gifthorse.provenance.documents import read_document, statement_in
from gifthorse.provenance.exporting.croissant import croissant
from gifthorse.provenance.exporting.cyclonedx import cyclonedx
from gifthorse.provenance.exporting.spdx import spdx
from gifthorse.provenance.manifest import Manifest
from gifthorse.provenance.recording import Recorder
from gifthorse.provenance.runs import Run, run_of

from .examples import PEOPLE, listed


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return listed(tmp_path / "m")


@pytest.fixture
def run(tmp_path: Path, manifest: Manifest) -> Run:
    for name in ("parent", "model"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(name.encode())
        (tmp_path / name / "config.json").write_text("{}")
    recorder = Recorder(
        manifest,
        parameters={"epochs": 3, "learning_rate": 0.1, "resumed": False},
        parents=[tmp_path / "parent"],
        code=Path(__file__).parent,
    )
    recorder.consume(np.arange(20))
    place = recorder.attest(tmp_path / "model", digest="sha256:" + "ab" * 32)
    return run_of(statement_in(read_document(place)))


def test_cyclonedx_is_valid(run: Run) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    validator = JsonStrictValidator(SchemaVersion.V1_6)
    made = cyclonedx(run)
    assert validator.validate_str(json.dumps(made)) is None
    assert made["metadata"]["component"]["type"] == "machine-learning-model"
    properties = made["components"][0]["data"][0]["contents"]["properties"]
    assert {"name": "gifthorse:rfc6962Sha256", "value": run.consumed[0].root} in properties
    assert {"name": "gifthorse:consumed", "value": "20 of 30"} in properties
    # The validator must be able to fail.
    made["metadata"]["component"]["modelCard"]["modelParameters"]["datasets"] = [{"ref": 1}]
    assert validator.validate_str(json.dumps(made)) is not None


def test_spdx_is_valid(run: Run) -> None:
    from io import BytesIO

    from spdx_python_model import v3_0_1

    made = spdx(run)
    objects = v3_0_1.SHACLObjectSet()
    v3_0_1.JSONLDDeserializer().read(BytesIO(json.dumps(made).encode()), objects)
    (trained,) = [
        one
        for one in objects.foreach_type(v3_0_1.Relationship)
        if str(one.relationshipType).endswith("trainedOn")
    ]
    assert isinstance(trained.from_, v3_0_1.ai_AIPackage)
    assert trained.from_.name == "model"
    (data,) = trained.to
    assert isinstance(data, v3_0_1.dataset_DatasetPackage)
    assert data.name == "signs"
    assert {getattr(one, "name", "") for one in data.originatedBy} == set(PEOPLE)
    # Written again, so that properties which every element must have are checked too.
    written = BytesIO()
    v3_0_1.JSONLDSerializer().write(objects, written)
    again = json.loads(written.getvalue())
    assert len(again["@graph"]) == len(made["@graph"])
    del made["@graph"][-1]["creationInfo"]
    broken = v3_0_1.SHACLObjectSet()
    v3_0_1.JSONLDDeserializer().read(BytesIO(json.dumps(made).encode()), broken)
    with pytest.raises(ValueError, match="required"):
        v3_0_1.JSONLDSerializer().write(broken, BytesIO())
    made["@graph"][2]["software_primaryPurpose"] = "nonsense"
    with pytest.raises(ValueError, match="nonsense"):
        v3_0_1.JSONLDDeserializer().read(
            BytesIO(json.dumps(made).encode()), v3_0_1.SHACLObjectSet()
        )


@pytest.mark.filterwarnings("ignore")  # mlcroissant and rdflib warn about themselves
def test_croissant_is_valid(manifest: Manifest) -> None:
    import mlcroissant

    made = croissant(manifest, licence="CC-BY-4.0", url="https://example.org/signs")
    (manifest.place / "croissant.json").write_text(json.dumps(made))
    found = mlcroissant.Dataset(manifest.place / "croissant.json")
    assert not found.metadata.issues.errors
    assert {person.name for person in found.metadata.creators} == set(PEOPLE)
    made["recordSet"][0]["field"][0]["source"]["fileObject"]["@id"] = "missing"
    (manifest.place / "croissant.json").write_text(json.dumps(made))
    with pytest.raises(mlcroissant.ValidationError):
        mlcroissant.Dataset(manifest.place / "croissant.json")
