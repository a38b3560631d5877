from django.apps import AppConfig
from django.conf import settings


class TrainingConfig(AppConfig):
    name = "training"

    def ready(self) -> None:
        from training.core import schema

        schema.look_in(settings.SCHEMAS_DIR)
