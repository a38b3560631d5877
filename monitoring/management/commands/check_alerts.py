from typing import Any

from django.core.management.base import BaseCommand

from monitoring.alerts import evaluating
from monitoring.alerts.conditions import Verdict

WORDS = {
    Verdict.BREACH: "beyond the level",
    Verdict.CALM: "calm",
    Verdict.BETWEEN: "between both levels",
    Verdict.UNKNOWN: "unknown",
}


class Command(BaseCommand):
    help = "Judge all rules of alerts once, as the regular task does, and print what they found."

    def handle(self, *args: Any, **options: Any) -> None:
        found = evaluating.evaluate(everything=True)
        for finding in sorted(found, key=lambda each: (not each.is_open, each.rule.name, each.subject.key)):
            of = ", ".join(str(part) for part in finding.subject if part)
            fires = self.style.ERROR("FIRES") if finding.is_open else "     "
            words = [finding.rule.name, *([of] if of else []), finding.shown, WORDS[finding.verdict]]
            self.stdout.write(f"{fires} {'; '.join(words)}")
        fire = sum(finding.is_open for finding in found)
        self.stdout.write(f"{len(found)} looked at, {fire} of them fire{'s' * (fire == 1)}.")
