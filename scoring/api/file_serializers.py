"""Describes files in the OpenAPI document. These serializers parse and write nothing."""

from rest_framework import serializers

from scoring.api.reads.serializers import NEXT
from scoring.files.models import Format, Mode, State


class FileSerializer(serializers.Serializer):
    """A file of transactions, and how far it is."""

    id = serializers.UUIDField()
    name = serializers.CharField(allow_blank=True)
    state = serializers.ChoiceField(choices=State.choices)
    mode = serializers.ChoiceField(choices=Mode.values)
    schema = serializers.CharField()
    format = serializers.ChoiceField(choices=Format.values)
    size_bytes = serializers.IntegerField(help_text="As it was sent.")
    sha256 = serializers.CharField(help_text="Of the file as it was sent.")
    rows = serializers.IntegerField(allow_null=True, help_text="Null until the file was read.")
    rows_done = serializers.IntegerField(help_text="Scored or refused.")
    scored = serializers.IntegerField()
    refused = serializers.IntegerField()
    rows_per_second = serializers.FloatField(allow_null=True)
    eta_s = serializers.FloatField(allow_null=True, help_text="Seconds until it is done, at the rate so far.")
    detail = serializers.CharField(allow_null=True, help_text="Why it was refused, failed or waits.")
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    expires_at = serializers.DateTimeField(allow_null=True, help_text="When its results are deleted.")


class ListedFileSerializer(FileSerializer):
    """A file, with the fields that were asked for."""

    def get_fields(self) -> dict[str, serializers.Field]:
        fields = super().get_fields()
        for field in fields.values():
            field.required = False
        return fields


class FilePageSerializer(serializers.Serializer):
    results = ListedFileSerializer(many=True)
    next = serializers.CharField(allow_null=True, help_text=NEXT)
