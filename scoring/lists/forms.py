"""The forms of lists and their entries."""

from collections.abc import Mapping
from typing import Any

from django import forms

from scoring import served
from scoring.lists import changes
from scoring.lists.changes import Addition
from scoring.lists.files import expiry
from scoring.lists.keys import EntryRefused, subject_of
from scoring.lists.models import NOTE_LIMIT, PolicyList
from training.core.exceptions import FraudsiteError


def _subjects() -> list[tuple[str, list[tuple[str, str]]]]:
    """What a list may be about, by schema; entities first."""
    found = []
    for name, schema in served.now().schemas.items():
        found.append((name, [(f"{name}/{part}", part) for part in (*schema.entity_names, *schema.feature_names)]))
    return found


class ListForm(forms.ModelForm):
    """Makes a list, or changes what one does."""

    subject = forms.ChoiceField(label="About", choices=_subjects, help_text="The entity or field of a schema.")

    class Meta:
        model = PolicyList
        fields = ["name", "action", "max_amount", "note", "is_draft"]
        help_texts = {
            "is_draft": "It counts in backtests only, until somebody makes it live. With the name of a list it is a"
            " change of that list: its entries are added, and those that have expired take the list's own off.",
            "name": "Rules refer to the list by on_ and its name.",
            "action": "The decision about transactions that are on the list. None: only rules refer to it.",
            "max_amount": "The list does not decide about larger amounts. Empty: no limit.",
            "note": "What the list is for.",
        }

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.instance.pk:
            del self.fields["subject"]  # which a list keeps for good
            self.fields.pop("is_draft", None)
            for field in self.fields.values():
                field.show_hidden_initial = True  # what was shown, for `_meanwhile`

    def _meanwhile(self) -> list[str]:
        """What somebody else has changed since the form was shown."""
        changed = []
        for name in self.fields:
            if (sent := self.add_initial_prefix(name)) in self.data:
                shown, saved = self.fields[name].to_python(self.data[sent]), self.initial.get(name)
                if shown != saved:
                    changed.append(f"{name.replace('_', ' ')} from {_told(shown)} to {_told(saved)}")
        return changed

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        if self.instance.pk and (changed := self._meanwhile()):
            shown = {self.add_initial_prefix(name): self.initial.get(name) for name in self.fields}
            self.data = self.data.dict() | shown  # type: ignore[attr-defined]
            raise forms.ValidationError(
                f"Somebody else has changed the list since you opened it: {', '.join(changed)}. Nothing was saved. What"
                " you wrote is below: save again to replace theirs, or load the page again to drop yours."
            )
        try:
            changes.check(given.get("action", ""), given.get("max_amount"), given.get("note", ""))
            if "subject" in self.fields and "subject" in given and "name" in given:
                self.instance.schema, _, self.instance.about = given["subject"].partition("/")
                changes.check_new(self.instance.schema, given["name"], self.instance.about, is_draft=given["is_draft"])
        except FraudsiteError as refusal:
            raise forms.ValidationError(str(refusal)) from refusal
        return given


def _told(value: Any) -> str:
    return "none" if value in (None, "") else str(value)


class EntryForm(forms.Form):
    """Adds an entry to a list, by what clients send of it. `additions` are the entries, if the form is valid: one, or
    one for each client if it is about an entity of theirs and none is chosen.

    Raises:
        NoSuchSubject: the list is about nothing that the schema has.
    """

    def __init__(self, row: PolicyList, data: Any = None, *, clients: Mapping[str, int]) -> None:
        super().__init__(data)
        self._row, self._clients = row, clients
        self._subject = subject_of(row.schema, row.about)
        for part in self._subject.parts:
            self.fields[f"part_{part}"] = forms.CharField(
                label=part, max_length=600, help_text="As clients send it.", widget=_text()
            )
        if self._subject.is_own and len(clients) > 1:
            choices = [("", "every client"), *((name, name) for name in clients)]
            whose = f"Each client has its own {row.about}: the same {row.about} of two clients are two."
            self.fields["client"] = forms.ChoiceField(required=False, choices=choices, help_text=whose)
        self.fields["expires"] = forms.CharField(
            required=False,
            help_text="A day, such as 2026-12-31, to whose end in UTC it counts, or a time. Empty: never.",
            widget=_text(),
        )
        self.fields["note"] = forms.CharField(label="Reason", max_length=NOTE_LIMIT, widget=_text())

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        if self.errors:
            return given
        try:
            sent = {part: given[f"part_{part}"] for part in self._subject.parts}
            chosen = given.get("client")
            keys = self._subject.keys_of(sent, [self._clients[chosen]] if chosen else self._clients.values())
            until = expiry(given["expires"], may_be_past=self._row.is_draft)
            self.additions = [Addition(key, until, given["note"], client=client) for key, client in keys.items()]
        except EntryRefused as refusal:
            self.add_error("expires" if refusal.part == "expires" else f"part_{refusal.part}", str(refusal))
        return given


def _text() -> forms.TextInput:
    return forms.TextInput(attrs={"class": "vTextField", "autocomplete": "off"})


class FileForm(forms.Form):
    file = forms.FileField(help_text="CSV in UTF-8.")
