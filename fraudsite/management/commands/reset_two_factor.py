from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.core.management import BaseCommand, CommandError

from fraudsite import two_factor


class Command(BaseCommand):
    help = "Removes the second factor of somebody who lost the device and all recovery codes."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username", metavar="USERNAME")

    def handle(self, *, username: str, **_: Any) -> None:
        user = User.objects.filter(username=username).first()
        if user is None:
            raise CommandError(f"There is no account {username}.")
        two_factor.remove(user)
        self.stdout.write(f"{username} signs in with the password alone, until another second factor is set up.")
