"""The form of a policy's document."""

import math
from collections.abc import Iterable
from typing import Any

from django import forms

from scoring.decisions import Decision
from scoring.policies.checking import Fault
from scoring.policies.document import APPETITES, Control, Document, Rule, Segment, State

EXPRESSION = forms.Textarea(attrs={"rows": 2, "class": "expression", "spellcheck": "false", "autocomplete": "off"})
OF_THE_MODEL = "as the model's"


def _threshold(placeholder: str = OF_THE_MODEL) -> forms.FloatField:
    attributes = {"step": "any", "placeholder": placeholder, "class": "threshold"}
    return forms.FloatField(required=False, min_value=0, max_value=1, widget=forms.NumberInput(attrs=attributes))


class ThresholdsForm(forms.Form):
    review, block, challenge = _threshold(), _threshold(), _threshold("nobody is challenged")
    appetite = forms.ChoiceField(
        choices=[(name, name) for name in APPETITES],
        help_text="Moves all thresholds together: cautious halves their odds, bold doubles them.",
    )
    capacity = forms.FloatField(
        required=False, min_value=0, label="Reviews a day",
        widget=forms.NumberInput(attrs={"step": "any", "placeholder": "not known", "class": "threshold"}),
        help_text="How many analysts can do.",
    )  # fmt: skip
    share = forms.FloatField(
        required=False, min_value=0, widget=forms.NumberInput(attrs={"step": "any", "placeholder": "off"}),
        help_text="Of would-be alerts, let through to learn what becomes of them.",
    )  # fmt: skip
    max_amount = forms.FloatField(required=False, min_value=0, widget=forms.NumberInput(attrs={"step": "any"}))
    seed = forms.CharField(required=False, max_length=64)


class SegmentForm(forms.Form):
    name = forms.CharField(max_length=64)
    when = forms.CharField(widget=EXPRESSION, strip=False)
    review, block, challenge = (_threshold("as the policy's") for _ in range(3))


class RuleForm(forms.Form):
    name = forms.CharField(max_length=64)
    when = forms.CharField(widget=EXPRESSION, strip=False)
    action = forms.ChoiceField(choices=Decision.choices, initial=Decision.REVIEW)
    state = forms.ChoiceField(choices=[(state, state) for state in State], initial=State.DRAFT)
    note = forms.CharField(required=False, max_length=500)


class ConstantForm(forms.Form):
    name = forms.CharField(max_length=64)
    value = forms.CharField(
        max_length=200, help_text='A number, true or false, or a text; in quotes, "5411" is a text.'
    )


def _formset(form: type[forms.Form], *, can_order: bool = False) -> Any:
    return forms.formset_factory(form, extra=1, can_delete=True, can_order=can_order, max_num=10_000)


PARTS = {
    "segments": _formset(SegmentForm, can_order=True),
    "rules": _formset(RuleForm),
    "constants": _formset(ConstantForm),
}


class PolicyForms:
    """The form of a document: thresholds, and a list of forms for segments, rules and constants.

    A valid form has a `document`. Faults of the document are shown at their fields by `show`.
    """

    def __init__(self, document: Document, data: Any = None) -> None:
        control = document.control
        self.thresholds = ThresholdsForm(
            data,
            initial={
                "review": document.review,
                "block": document.block,
                "challenge": document.challenge,
                "appetite": document.appetite,
                "capacity": document.capacity,
                "share": control.share or None,
                "max_amount": control.max_amount or None,
                "seed": control.seed,
            },
        )
        initial = {
            "segments": [{name: getattr(part, name) for name in part.__struct_fields__} for part in document.segments],
            "rules": [{name: getattr(rule, name) for name in rule.__struct_fields__} for rule in document.rules],
            "constants": [{"name": name, "value": _written(value)} for name, value in document.constants.items()],
        }
        # What was sent is complete: compared with what is saved, an equal line would count as an empty one.
        self.sets = {
            name: factory(data, initial=None if data else initial[name], prefix=name) for name, factory in PARTS.items()
        }
        # The forms that became a part of the document, in its order.
        self._kept: dict[str, list[forms.Form]] = {name: list(self.sets[name].initial_forms) for name in PARTS}

    def is_valid(self) -> bool:
        are_valid = all([self.thresholds.is_valid(), *(formset.is_valid() for formset in self.sets.values())])
        return are_valid and not self._has_constants_twice()

    def _has_constants_twice(self) -> bool:
        """Whether two constants have one name, of which a document would keep the last; the second is marked."""
        seen: set[str] = set()
        for form in self.sets["constants"].forms:
            given = form.cleaned_data
            if given and not given.get("DELETE"):
                if given["name"] in seen:
                    form.add_error("name", f"There are two of the name {given['name']}.")
                    return True
                seen.add(given["name"])
        return False

    @property
    def document(self) -> Document:
        """The document of a valid form."""
        given = self.thresholds.cleaned_data
        segments = self._filled("segments", self.sets["segments"].ordered_forms)
        rules, constants = (self._filled(name, self.sets[name].forms) for name in ("rules", "constants"))
        return Document(
            review=given["review"],
            block=given["block"],
            challenge=given["challenge"],
            appetite=given["appetite"],
            capacity=given["capacity"],
            segments=[Segment(**{name: row[name] for name in Segment.__struct_fields__}) for row in segments],
            rules=[
                Rule(
                    name=row["name"],
                    when=row["when"],
                    action=Decision(row["action"]),
                    state=State(row["state"]),
                    note=row["note"],
                )
                for row in rules
            ],
            constants={row["name"]: _read(row["value"]) for row in constants},
            control=Control(share=given["share"] or 0.0, max_amount=given["max_amount"] or 0.0, seed=given["seed"]),
        )

    def _filled(self, name: str, found: Iterable[Any]) -> list[dict[str, Any]]:
        self._kept[name] = [form for form in found if form.cleaned_data and not form.cleaned_data.get("DELETE")]
        return [form.cleaned_data for form in self._kept[name]]

    def show(self, faults: Iterable[Fault]) -> list[str]:
        """Attach faults to their fields, as `faults` of each form. Returns those that belong to no field."""
        rest = []
        for fault in faults:
            place = f"Line {fault.line}, column {fault.column}: " if fault.line > 1 or fault.column > 1 else ""
            text = place + fault.message
            match fault.where.split("."):
                case [kind, number, field] if kind in self._kept and int(number) < len(self._kept[kind]):
                    form: Any = self._kept[kind][int(number)]
                    form.found = [*getattr(form, "found", []), (field, text)]
                case _:
                    rest.append(f"{fault.where}: {text}")
        return rest


def _read(text: str) -> bool | float | str:
    if text in ("true", "false"):
        return text == "true"
    if len(text) > 1 and text[0] == text[-1] == '"':
        return text[1:-1]
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text  # nan and infinity are words


def _written(value: bool | float | str) -> str:
    """A constant as `_read` reads it to the last digit."""
    if isinstance(value, str):
        return value if _read(value) == value else f'"{value}"'
    return str(value).lower() if isinstance(value, bool) else repr(value).removesuffix(".0")
