from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "fraudsite.audit"
    verbose_name = "Audit trail"

    def ready(self) -> None:
        from fraudsite.audit import receivers

        receivers.connect()
