"""Makes the client's models of the server's OpenAPI document:

    manage.py spectacular --format openapi-json | python clients/python/make_models.py > …/fraudsite_client/models.py

Later releases of the server may answer with more fields and other values. So the models ignore fields that they do not
know, and take any text where the document lists values.
"""

import json
import sys
from pathlib import Path
from typing import Any

from datamodel_code_generator import DataModelType, Formatter, InputFileType, LiteralType, PythonVersion, generate

# What calls answer with; everything that these refer to comes along.
ANSWERS = (
    *("BatchAnswer", "Explanation", "LabelBatchAnswer", "LabelReceipt", "Pending", "Prediction", "Problem"),
    *("File", "SecretWebhook", "Webhook"),
)
HEADER = '"""The answers of the API, made by make_models.py from the OpenAPI document. Do not edit it."""'
REFERENCE = "#/components/schemas/"


def models_of(document: dict[str, Any]) -> str:
    """The text of a module with a pydantic model for each answer in an OpenAPI document."""
    schemas = document["components"]["schemas"]
    wanted: dict[str, Any] = {}
    names = list(ANSWERS)
    while names:
        if (name := names.pop()) not in wanted:
            wanted[name] = loosened(schemas[name])
            names += referred(schemas[name])
    kept = {"openapi": document["openapi"], "info": document["info"], "paths": {}}
    made = generate(
        json.dumps(kept | {"components": {"schemas": dict(sorted(wanted.items()))}}),
        input_file_type=InputFileType.OpenAPI,
        output_model_type=DataModelType.PydanticV2BaseModel,
        target_python_version=PythonVersion.PY_311,
        enum_field_as_literal=LiteralType.All,
        strict_nullable=True,
        use_union_operator=True,
        use_standard_collections=True,
        use_schema_description=True,
        use_field_description=False,
        use_double_quotes=True,
        disable_timestamp=True,
        formatters=[Formatter.RUFF_FORMAT],
        settings_path=Path(__file__).parents[2],
        collapse_root_models=True,
        custom_file_header=HEADER,
    )
    return str(made)


def loosened(schema: Any) -> Any:
    """A schema that takes other texts beside the listed ones, and has no limits of numbers or lengths."""
    if isinstance(schema, list):
        return [loosened(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "enum" in schema:
        listed = [value for value in schema["enum"] if isinstance(value, str)]
        return {"anyOf": [{"type": "string", "enum": listed}, {"type": "string"}]} if listed else {"type": "null"}
    if isinstance(schema.get("description"), str):  # without the list of its values
        schema = schema | {"description": schema["description"].partition("\n\n* `")[0]}
    left_out = ("minimum", "maximum", "minLength", "maxLength", "pattern", "examples", "example")
    return {
        name: loosened(part)
        for name, part in schema.items()
        if name not in left_out and (name, part) != ("format", "uuid")
    }


def referred(schema: Any) -> list[str]:
    """The names of the schemas that a schema refers to."""
    if isinstance(schema, list):
        return [name for part in schema for name in referred(part)]
    if not isinstance(schema, dict):
        return []
    inner = [name for part in schema.values() for name in referred(part)]
    return inner + ([schema["$ref"].removeprefix(REFERENCE)] if isinstance(schema.get("$ref"), str) else [])


if __name__ == "__main__":
    sys.stdout.write(models_of(json.load(sys.stdin)))
