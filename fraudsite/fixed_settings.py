"""The settings that are the same in every installation. `fraudsite.settings` has those that the environment changes."""

from typing import Any

from csp.constants import NONE, SELF
from kombu import Exchange, Queue

ROOT_URLCONF = "fraudsite.urls"
WSGI_APPLICATION = "fraudsite.wsgi.application"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
FORMAT_MODULE_PATH = "fraudsite.formats"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "axes",
    "csp",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_plotly_dash.apps.DjangoPlotlyDashConfig",
    "fraudsite",  # before the admin and our apps, whose templates it replaces or extends
    "fraudsite.apps.FraudsiteAdminConfig",
    "training",
    "scoring",
    "monitoring",
    "fraudsite.audit",
    "fraudsite.sign_on",
]

MIDDLEWARE = [
    "fraudsite.middleware.RequestIdMiddleware",
    "fraudsite.middleware.TracingMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "fraudsite.middleware.HostMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "fraudsite.audit.views_seen.AuditMiddleware",
    "fraudsite.sign_on.middleware.PasswordSessionsMiddleware",
    "fraudsite.two_factor.TwoFactorMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]

# See fraudsite/wsgi.py and asgi.py: a subset of the above for API calls, by the beginning of their path, and for
# predict calls, by their path.
MACHINE_MIDDLEWARE = [
    "fraudsite.middleware.RequestIdMiddleware",
    "fraudsite.middleware.TracingMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "fraudsite.middleware.HostMiddleware",
]
MACHINE_PATHS = (
    *("/predict", "/api/v1/predict", "/api/v1/labels", "/api/v1/transactions", "/api/v1/reviews", "/api/v1/webhooks"),
    "/api/v1/batches",
)
REALTIME_PATHS = ("/predict", "/predict/", "/api/v1/predict", "/api/v1/predict/")
# Monitoring calls these by the machine's address and without TLS, so they are answered for any Host.
PROBE_PATHS = ("/healthz", "/readyz", "/metrics")

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "fraudsite.sign_on.backends.PasswordGate",
    "django.contrib.auth.backends.ModelBackend",
    "fraudsite.sign_on.backends.SignOnBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
# By account and address together, so that a stranger who guesses passwords cannot lock out the account's owner.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False
AXES_LOCKOUT_TEMPLATE = "429.html"
AXES_CLIENT_IP_CALLABLE = "scoring.clients.addresses.client_address"

REALTIME_QUEUE = "realtime"
BULK_QUEUE = "bulk"
TRAINING_QUEUE = "training"
# Data only, never pickle. Bytes travel as they are; Celery's own control messages are JSON.
CELERY_TASK_SERIALIZER = "msgpack"
CELERY_ACCEPT_CONTENT = ["msgpack", "json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_QUEUES = [
    Queue(name, Exchange(name), routing_key=name) for name in (REALTIME_QUEUE, BULK_QUEUE, TRAINING_QUEUE)
]
CELERY_TASK_DEFAULT_QUEUE = BULK_QUEUE
CELERY_TASK_ROUTES = {
    "training.tasks.compare_waiting": {"queue": BULK_QUEUE},  # takes seconds, and must not wait for a training
    "training.tasks.*": {"queue": TRAINING_QUEUE},
    "scoring.learning.tasks.retrain": {"queue": TRAINING_QUEUE},
}
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 10.0
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = True
# Loading a model on a busy machine takes longer than the 4 s after which Celery kills a new process.
CELERY_WORKER_PROC_ALIVE_TIMEOUT = 60.0
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
# By default Celery closes database connections after every task, and opening one takes longer than storing a batch.
# Instead, Django's rules for old and broken connections apply between tasks: see fraudsite/celery.py.
CELERY_DB_REUSE_MAX = 10**12
CELERY_TASK_TIME_LIMIT = 120
# The tasks that are not in the `tasks.py` of an app.
CELERY_IMPORTS = (
    "scoring.files.tasks",
    "scoring.privacy.tasks",
    "scoring.reviews.tasks",
    "scoring.learning.tasks",
    "scoring.webhooks.tasks",
    "scoring.retention.tasks",
)
CELERY_BEAT_SCHEDULER = "fraudsite.beat.Scheduler"

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["scoring.api.authentication.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["scoring.api.permissions.KeyAllows"],
    "DEFAULT_THROTTLE_CLASSES": ["scoring.api.limiting.KeyLimits"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "scoring.api.negotiation.FastNegotiation",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "scoring.api.problems.problem_response",
    "UNAUTHENTICATED_USER": None,
    "URL_FORMAT_OVERRIDE": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Fraudsite",
    "DESCRIPTION": "Scores card transactions for fraud.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.1",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "SERVE_INCLUDE_SCHEMA": False,
    "ENUM_NAME_OVERRIDES": {
        "WebhookStateEnum": "scoring.webhooks.models.WebhookEndpoint.State",
        "DeliveryStateEnum": "scoring.webhooks.models.WebhookDelivery.State",
        "FileStateEnum": "scoring.files.models.State",
        "WantedStateEnum": ["active", "paused"],
    },
    "PREPROCESSING_HOOKS": ["scoring.api.openapi.without_slash"],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "scoring.api.openapi.bodies",
        "scoring.api.openapi.shared_examples",
        "scoring.api.openapi_keys.keys",
    ],
}

# --- pages and their safety ------------------------------------------------------------------------------------------
X_FRAME_OPTIONS = "SAMEORIGIN"  # the dashboard is a frame of our own inside the admin
SILENCED_SYSTEM_CHECKS = ["security.W019"]  # which asks for DENY
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "img-src": [SELF, "data:"],
        "object-src": [NONE],
        "base-uri": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [SELF],
    }
}

STATICFILES_FINDERS = [
    "django.contrib.staticfiles.finders.FileSystemFinder",
    "django.contrib.staticfiles.finders.AppDirectoriesFinder",
    "monitoring.finders.DashFinder",
]
WHITENOISE_USE_FINDERS = True  # no collectstatic step: one less thing to forget in an upgrade
PLOTLY_DASH = {
    "view_decorator": "monitoring.access.staff_only",
    "serve_locally": True,
    "insert_demo_migrations": False,
}

# --- logs ------------------------------------------------------------------------------------------------------------
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "text": {
            "()": "scoring.telemetry.logs.TextLines",
            "format": "%(asctime)s %(levelname)s %(name)s [%(request_ids)s] %(message)s",
        },
        "json": {"()": "scoring.telemetry.logs.JsonLines"},
    },
    # A 503 is an answer that we give on purpose; its cause is logged where it arose.
    "filters": {
        "no_503": {"()": "fraudsite.middleware.No503"},
        "request_ids": {"()": "scoring.messages.request_ids.RequestIds"},
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "text", "filters": ["no_503", "request_ids"]}
    },
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {
        "django.request": {"level": "ERROR"},
        "axes": {"level": "WARNING"},
        # A line per message is more than the work itself; failures are logged by who fails.
        "celery.app.trace": {"level": "WARNING"},
        "celery.beat": {"level": "WARNING"},
        "celery.worker.strategy": {"level": "WARNING"},
        "httpx": {"level": "WARNING"},
        "kombu": {"level": "WARNING"},
        "matplotlib": {"level": "WARNING"},
    },
}
