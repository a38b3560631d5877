"""All settings, read once from the environment; docs/settings.md lists every variable and a test holds it to that."""

from pathlib import Path

from celery.schedules import crontab
from kombu import Exchange, Queue

from fraudsite.env import (
    boolean,
    choice,
    database_url,
    day,
    directory,
    integer,
    number,
    read_file,
    redis_url,
    refuse_misspelt,
    secret,
    text,
    texts,
)
from fraudsite.fixed_settings import *  # noqa: F403
from training.core import places

BASE_DIR = Path(__file__).resolve().parent.parent
read_file("ENV_FILE", BASE_DIR / ".env")

# --- where things live -----------------------------------------------------------------------------------------------
VAR_DIR = directory("VAR_DIR", BASE_DIR / "var")
DATASETS_DIR = VAR_DIR / "datasets"
SCHEMAS_DIR = directory("SCHEMAS_DIR", VAR_DIR / "schemas")
# How many values of a file, rows times columns, `schema draft` looks at.
DRAFT_VALUES = integer("DRAFT_VALUES", 20_000_000, 1_000, 1_000_000_000)
EVENT_TIME_EARLIEST = day("EVENT_TIME_EARLIEST", "2000-01-01")
BUNDLES_DIR = VAR_DIR / "models"
# Files of reviews. All web servers must share it.
ATTACHMENTS_DIR = directory("ATTACHMENTS_DIR", VAR_DIR / "attachments")
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    "attachments": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": ATTACHMENTS_DIR, "file_permissions_mode": 0o600, "directory_permissions_mode": 0o700},
    },
}

# --- Django ----------------------------------------------------------------------------------------------------------
DEBUG = boolean("DEBUG", default=False)
SECRET_KEY = secret("SECRET_KEY", VAR_DIR / "secret_key")
ALLOWED_HOSTS = texts("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = texts("CSRF_TRUSTED_ORIGINS", [])
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
]

MIDDLEWARE = [
    "fraudsite.middleware.RequestIdMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "fraudsite.middleware.HostMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "fraudsite.audit.views_seen.AuditMiddleware",
    "fraudsite.two_factor.TwoFactorMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]

# See fraudsite/wsgi.py and asgi.py: a subset of the above for API calls, by the beginning of their path, and for
# predict calls, by their path.
MACHINE_MIDDLEWARE = [
    "fraudsite.middleware.RequestIdMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "fraudsite.middleware.HostMiddleware",
]
MACHINE_PATHS = ("/predict", "/api/v1/predict", "/api/v1/labels")
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

# --- database --------------------------------------------------------------------------------------------------------
DATABASES = {"default": database_url("DATABASE_URL", VAR_DIR / "fraudsite.sqlite3")}
DATABASE_SILENCE_S = integer("DATABASE_SILENCE_S", 5, 1, 3_600)
DATABASE_BEHIND_POOLER = boolean("DATABASE_BEHIND_POOLER", default=False)
DATABASE_CONN_MAX_AGE_S = integer("DATABASE_CONN_MAX_AGE_S", 600, 0, 86_400)
match DATABASES["default"]["ENGINE"]:
    case "django.db.backends.sqlite3":
        # A 2xx answer promises that the row survives a power cut: hence FULL, not WAL's usual NORMAL.
        DATABASES["default"]["CONN_MAX_AGE"] = DATABASE_CONN_MAX_AGE_S
        DATABASES["default"]["OPTIONS"] = {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
        }
    case "django.db.backends.postgresql":
        # A server that is cut off neither answers nor resets, so every wait for it needs a limit.
        DATABASES["default"]["OPTIONS"] = {
            "connect_timeout": 3,
            "tcp_user_timeout": DATABASE_SILENCE_S * 1000,
            "keepalives_idle": DATABASE_SILENCE_S,
            "keepalives_interval": 1,
            "keepalives_count": 3,
        } | DATABASES["default"]["OPTIONS"]
        # Threads of a web process share a pool (see fraudsite/wsgi.py); other processes keep one connection.
        if pool_size := integer("DATABASE_POOL_SIZE", 0, 0, 1_000):
            DATABASES["default"]["OPTIONS"]["pool"] = {"min_size": 1, "max_size": pool_size, "timeout": 2}
        else:
            DATABASES["default"]["CONN_MAX_AGE"] = DATABASE_CONN_MAX_AGE_S
        DATABASES["default"]["CONN_HEALTH_CHECKS"] = True

# --- broker and workers ----------------------------------------------------------------------------------------------
REDIS_URL = redis_url("REDIS_URL", "redis://127.0.0.1:6379/0")
# A peer that neither answers nor resets must not block a process, so every wait for Redis has a limit.
REDIS_TIMEOUTS = {"socket_connect_timeout": 2, "socket_timeout": 5, "health_check_interval": 10}

REALTIME_QUEUE = "realtime"
BULK_QUEUE = "bulk"
TRAINING_QUEUE = "training"

CELERY_BROKER_URL = REDIS_URL
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
PENDING_SWEEP_S = number("PENDING_SWEEP_S", 5.0, 0.1, 3_600.0)
LABEL_SWEEP_S = number("LABEL_SWEEP_S", 10.0, 0.1, 3_600.0)
DUE_SWEEP_S = number("DUE_SWEEP_S", 10.0, 0.1, 3_600.0)
DUE_LIMIT = integer("DUE_LIMIT", 1_000, 1, 100_000)
# The random sample of approved traffic: its share, the most reviews of one day, and what the draw depends on.
SAMPLE_SHARE = number("SAMPLE_SHARE", 0.0, 0.0, 1.0)
SAMPLE_DAILY_LIMIT = integer("SAMPLE_DAILY_LIMIT", 100, 1, 100_000)
SAMPLE_SEED = text("SAMPLE_SEED", "sample")
SAMPLE_INTERVAL_S = number("SAMPLE_INTERVAL_S", 30.0, 1.0, 3_600.0)
REFUSALS_INTERVAL_S = number("REFUSALS_INTERVAL_S", 5.0, 0.1, 3600.0)
# For how long counts of rules, refusals and scores are kept.
COUNTS_RETENTION_DAYS = integer("COUNTS_RETENTION_DAYS", 90, 1, 3_650)
SCORE_COUNTS_INTERVAL_S = number("SCORE_COUNTS_INTERVAL_S", 60.0, 1.0, 60.0)
ROLLUP_INTERVAL_S = number("ROLLUP_INTERVAL_S", 5.0, 1.0, 60.0)
DRIFT_INTERVAL_S = number("DRIFT_INTERVAL_S", 60.0, 5.0, 86_400.0)
SHADOW_INTERVAL_S = number("SHADOW_INTERVAL_S", 5.0, 0.1, 3_600.0)
COMPARISON_INTERVAL_S = number("COMPARISON_INTERVAL_S", 5.0, 0.1, 3_600.0)
SHADOW_BEHIND_S = integer("SHADOW_BEHIND_S", 3_600, 10, 604_800)
TRAINING_SILENCE_S = integer("TRAINING_SILENCE_S", 60, 15, 86_400)
TRAINING_TIME_LIMIT_S = integer("TRAINING_TIME_LIMIT_S", 86_400, 60, 2_592_000)
# Labels: how old a decision is before its outcome counts as known.
LABEL_MATURITY_DAYS = number("LABEL_MATURITY_DAYS", 45.0, 0.0, 3_650.0)
# What the nightly retraining does with a model that is better than the champion, and at which hour, in UTC, it begins.
RETRAINING = choice("RETRAINING", "off", ("off", "propose", "promote"))
RETRAINING_HOUR = integer("RETRAINING_HOUR", 3, 0, 23)
RETRAINING_SNAPSHOTS_KEPT = integer("RETRAINING_SNAPSHOTS_KEPT", 7, 1, 1_000)
# The tasks that are not in the `tasks.py` of an app.
CELERY_IMPORTS = ("scoring.reviews.tasks", "scoring.learning.tasks")
CELERY_BEAT_SCHEDULE = {
    # A message that waited longer than its interval is stale: the next one has been sent.
    task: {"task": task, "schedule": interval_s, "options": {"expires": interval_s}}
    for task, interval_s in {
        "monitoring.tasks.update_rollups": ROLLUP_INTERVAL_S,
        "monitoring.tasks.measure_drift": DRIFT_INTERVAL_S,
        "scoring.tasks.resend_pending": PENDING_SWEEP_S,
        "scoring.tasks.count_scores": SCORE_COUNTS_INTERVAL_S,
        "scoring.tasks.delete_old_counts": 3_600.0,
        "scoring.reviews.tasks.attach_labels": LABEL_SWEEP_S,
        "scoring.reviews.tasks.act_on_late": DUE_SWEEP_S,
        "scoring.reviews.tasks.draw_sample": SAMPLE_INTERVAL_S,
        "scoring.tasks.score_shadows": SHADOW_INTERVAL_S,
        "training.tasks.compare_waiting": COMPARISON_INTERVAL_S,
    }.items()
}
if RETRAINING != "off":
    CELERY_BEAT_SCHEDULE["scoring.learning.tasks.retrain"] = {
        "task": "scoring.learning.tasks.retrain",
        "schedule": crontab(hour=str(RETRAINING_HOUR), minute="0"),
        "options": {"expires": 3_600.0},
    }
CELERY_BEAT_SCHEDULER = "fraudsite.beat.Scheduler"
CELERY_BEAT_SCHEDULE_FILENAME = str(VAR_DIR / "beat-schedule")
# When a dead worker's messages are redelivered. Longer than any task may run, otherwise slow tasks would run twice.
CELERY_BROKER_TRANSPORT_OPTIONS = REDIS_TIMEOUTS | {"visibility_timeout": CELERY_TASK_TIME_LIMIT + 60}

# --- scoring ---------------------------------------------------------------------------------------------------------
# The default is the schema of transactions that name none.
SCHEMAS = places.names_in([places.PACKAGE / "schemas", SCHEMAS_DIR])
DEFAULT_SCHEMA = choice("DEFAULT_SCHEMA", "ulb", SCHEMAS)
# The key for the tokens of cards, terminals and other entities, whose identifiers are never stored.
ENTITY_HASH_KEY = secret("ENTITY_HASH_KEY", VAR_DIR / "entity_hash_key")
# Rates of exchange: how old one may be, what happens to an amount whose rate is older, and how long a web process keeps
# them in memory.
RATES_MAX_AGE_DAYS = number("RATES_MAX_AGE_DAYS", 7.0, 0.01, 36_500.0)
RATES_POLICY = choice("RATES_POLICY", "refuse", ("refuse", "last"))
RATES_CACHE_S = number("RATES_CACHE_S", 5.0, 0.1, 3_600.0)
# Threads of a web process for pages, lists and everything else except predict calls, which need none.
WEB_THREADS = integer("WEB_THREADS", 16, 1, 1_000)
PREDICT_DEADLINE_MS = integer("PREDICT_DEADLINE_MS", 1_000, 10, 60_000)
PREDICT_BODY_LIMIT_BYTES = integer("PREDICT_BODY_LIMIT_BYTES", 65_536, 1_024, 1_048_576)
PREDICT_CLOCK_SKEW_S = integer("PREDICT_CLOCK_SKEW_S", 300, 0, 86_400)
# The answer when no worker answers in time: "refuse" is 503, "rules" is a decision without a score.
FALLBACK_POLICY = choice("FALLBACK_POLICY", "refuse", ("refuse", "rules"))
FALLBACK_REVIEW_AMOUNT = number("FALLBACK_REVIEW_AMOUNT", 100.0, 0.0, 1e12)
GATEWAY_QUEUE_LIMIT = integer("GATEWAY_QUEUE_LIMIT", 1_024, 1, 100_000)
GATEWAY_BATCH_LIMIT = integer("GATEWAY_BATCH_LIMIT", 256, 1, 256)
# After this time a batch under way counts as slow and the next one is sent, up to so many in all.
GATEWAY_SLOW_MS = integer("GATEWAY_SLOW_MS", 50, 0, 60_000)
GATEWAY_BATCHES_UNDER_WAY = integer("GATEWAY_BATCHES_UNDER_WAY", 4, 1, 64)
# After this many batches without a reply the workers count as gone, until one of them answers again.
GATEWAY_SILENCE_LIMIT = integer("GATEWAY_SILENCE_LIMIT", 3, 1, 1_000)
BATCH_LIMIT = integer("BATCH_LIMIT", 1_000, 1, 10_000)
BATCH_BODY_LIMIT_BYTES = integer("BATCH_BODY_LIMIT_BYTES", 2_097_152, 1_024, 67_108_864)
BATCH_DEADLINE_MS = integer("BATCH_DEADLINE_MS", 10_000, 10, 60_000)
BATCH_CHUNK = integer("BATCH_CHUNK", 500, 1, 1_000)
BATCH_QUEUE_LIMIT = integer("BATCH_QUEUE_LIMIT", 64, 1, 10_000)
# Labels in one call, and how long one that comes before its transaction waits for it.
LABEL_BATCH_LIMIT = integer("LABEL_BATCH_LIMIT", 5_000, 1, 10_000)
LABEL_IMPORT_LIMIT_BYTES = integer("LABEL_IMPORT_LIMIT_BYTES", 67_108_864, 1_024, 4_294_967_296)
LABEL_WAIT_DAYS = number("LABEL_WAIT_DAYS", 30.0, 0.0, 3_650.0)
# A stored transaction without a score is sent again after this time, then after longer and longer waits.
PENDING_RETRY_S = number("PENDING_RETRY_S", 10.0, 0.1, 3_600.0)
PENDING_WAIT_LIMIT_S = number("PENDING_WAIT_LIMIT_S", 300.0, 0.1, 86_400.0)
PENDING_ATTEMPTS_LIMIT = integer("PENDING_ATTEMPTS_LIMIT", 8, 1, 15)
PENDING_RESEND_LIMIT = integer("PENDING_RESEND_LIMIT", 10_000, 1, 1_000_000)
RETRY_AFTER_S = integer("RETRY_AFTER_S", 1, 1, 3_600)
MODEL_THREADS = integer("MODEL_THREADS", 1, 1, 256)
MODEL_REFRESH_S = number("MODEL_REFRESH_S", 1.0, 0.0, 60.0)
BACKTESTS_LIMIT = integer("BACKTESTS_LIMIT", 4, 1, 100)
# How many of the latest transactions the editor tries a rule on.
POLICY_MATCHES_TRIED = integer("POLICY_MATCHES_TRIED", 5_000, 100, 100_000)
CONTROL_SHARE_LIMIT = number("CONTROL_SHARE_LIMIT", 0.05, 0.0, 0.5)
# Whether a second person has to approve a policy before it goes live.
POLICY_APPROVAL_REQUIRED = boolean("POLICY_APPROVAL_REQUIRED", default=False)
POLICY_RULES_LIMIT = integer("POLICY_RULES_LIMIT", 500, 1, 10_000)
POLICY_EXPRESSION_LIMIT = integer("POLICY_EXPRESSION_LIMIT", 1_000, 10, 10_000)
LISTS_LIMIT = integer("LISTS_LIMIT", 50, 1, 1_000)
LIST_ENTRIES_LIMIT = integer("LIST_ENTRIES_LIMIT", 1_000_000, 1, 10_000_000)
LIST_IMPORT_LIMIT_BYTES = integer("LIST_IMPORT_LIMIT_BYTES", 268_435_456, 1_024, 4_294_967_296)
# The share of the traffic that shadows score.
SHADOW_SHARE = number("SHADOW_SHARE", 1.0, 0.0, 1.0)
API_KEY_CACHE_S = number("API_KEY_CACHE_S", 1.0, 0.0, 1.0)
REASONS_PER_ALERT = integer("REASONS_PER_ALERT", 3, 0, 10)
# How long a page or a call waits for a worker to explain a score, and how many versions besides the champions a worker
# process keeps in memory for that.
EXPLAIN_DEADLINE_MS = integer("EXPLAIN_DEADLINE_MS", 10_000, 10, 60_000)
EXPLAIN_VERSIONS_KEPT = integer("EXPLAIN_VERSIONS_KEPT", 2, 1, 100)
READY_TIMEOUT_MS = integer("READY_TIMEOUT_MS", 2_000, 10, 60_000)

# --- models ----------------------------------------------------------------------------------------------------------
# Bundles are signed with this key; machines that train and machines that score must share it.
BUNDLE_SIGNING_KEY = secret("BUNDLE_SIGNING_KEY", VAR_DIR / "bundle_signing_key")

# --- monitoring ------------------------------------------------------------------------------------------------------
DRIFT_MIN_SAMPLES = integer("DRIFT_MIN_SAMPLES", 500, 50, 1_000_000)
DRIFT_MAX_SAMPLES = integer("DRIFT_MAX_SAMPLES", 5_000, 50, 1_000_000)
# Requests with this token may read /metrics; without a token, only staff may.
METRICS_TOKEN = secret("METRICS_TOKEN", None)

# --- pages and their safety ------------------------------------------------------------------------------------------
LOGIN_URL = "admin:login"
# How long a review is claimed by the analyst who opened it.
REVIEW_CLAIM_S = integer("REVIEW_CLAIM_S", 300, 0, 86_400)
# For how long a review that was handed over waits for the colleague alone.
REVIEW_HAND_OVER_S = integer("REVIEW_HAND_OVER_S", 28_800, 0, 2_592_000)
# The longest time for which a review is left out of the queue.
SNOOZE_LIMIT_DAYS = integer("SNOOZE_LIMIT_DAYS", 90, 1, 3_650)
# Whether a decision on an alert needs a reason from the list.
REVIEW_REASON_REQUIRED = boolean("REVIEW_REASON_REQUIRED", default=False)
# The share of decided reviews on which another analyst gives an opinion, too.
SECOND_OPINION_SHARE = number("SECOND_OPINION_SHARE", 0.0, 0.0, 1.0)
# The size of a file that is attached to a review, and how many a review may have.
ATTACHMENT_LIMIT_BYTES = integer("ATTACHMENT_LIMIT_BYTES", 10_485_760, 1_024, 1_073_741_824)
ATTACHMENTS_LIMIT = integer("ATTACHMENTS_LIMIT", 20, 0, 1_000)
# How long a label can be undone without a reason.
UNDO_S = integer("UNDO_S", 10, 0, 3_600)
# The most rows that "Select all" selects. The page holds their keys, and the confirmation sends each as a field.
MASS_ACTION_LIMIT = integer("MASS_ACTION_LIMIT", 1_000, 1, 10_000)
# What the panels of a case's page show at most, and how long a query of one may take.
CASE_TIMELINE_ROWS = integer("CASE_TIMELINE_ROWS", 150, 1, 1_000)
CASE_TIMELINE_DAYS = integer("CASE_TIMELINE_DAYS", 60, 1, 3_650)
CASE_LINKS_LIMIT = integer("CASE_LINKS_LIMIT", 25, 1, 500)
CASE_SIMILAR_SEARCHED = integer("CASE_SIMILAR_SEARCHED", 300, 1, 10_000)
CASE_PANEL_TIMEOUT_MS = integer("CASE_PANEL_TIMEOUT_MS", 500, 1, 60_000)
# Views of the review list that a person may keep.
SAVED_VIEWS_LIMIT = integer("SAVED_VIEWS_LIMIT", 50, 0, 1_000)
SEARCH_RECENT_ROWS = integer("SEARCH_RECENT_ROWS", 100_000, 1, 10_000_000)
SEARCH_RESULTS_LIMIT = integer("SEARCH_RESULTS_LIMIT", 1_000, 1, 10_000)
DATA_UPLOAD_MAX_NUMBER_FIELDS = MASS_ACTION_LIMIT + 1_000
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
# By account and address together, so that a stranger who guesses passwords cannot lock out the account's owner.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = integer("LOGIN_FAILURE_LIMIT", 5, 1, 1_000)
AXES_COOLOFF_TIME = integer("LOGIN_COOLOFF_MINUTES", 15, 1, 1_440) / 60
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False
AXES_LOCKOUT_TEMPLATE = "429.html"
AXES_CLIENT_IP_CALLABLE = "fraudsite.middleware.client_address"

HTTPS = boolean("HTTPS", default=False)
BEHIND_PROXY = boolean("BEHIND_PROXY", default=False)
# Whether people without a second factor see nothing but the page where they set one up.
TWO_FACTOR_REQUIRED = boolean("TWO_FACTOR_REQUIRED", default=False)
OTP_TOTP_ISSUER = "Fraudsite"
OTP_ADMIN_HIDE_SENSITIVE_DATA = True
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [rf"\A{path[1:]}\Z" for path in PROBE_PATHS]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_PROXY else None
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_HTTPONLY = True
STATIC_URL = "/static/"

# --- logs ------------------------------------------------------------------------------------------------------------
LOG_LEVEL = choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))
LOGGING["root"]["level"] = LOG_LEVEL  # noqa: F405

refuse_misspelt()
