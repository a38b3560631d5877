"""All settings, read once from the environment; docs/settings.md lists every variable and a test holds it to that."""

from pathlib import Path
from typing import Any

from celery.schedules import crontab
from django.core.exceptions import ImproperlyConfigured

from fraudsite.env import (
    boolean,
    broker_url,
    choice,
    database_url,
    day,
    directory,
    file,
    integer,
    number,
    pairs,
    read_file,
    redis_url,
    refuse_misspelt,
    secret,
    text,
    texts,
    web_address,
)
from fraudsite.fixed_settings import *  # noqa: F403
from fraudsite.fixed_settings import CELERY_TASK_TIME_LIMIT, LOGGING, PROBE_PATHS
from fraudsite.sign_on import configuration as sign_on
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
# This machine's copies of the bundles in the store, and how many bytes they may have together.
BUNDLES_DIR = VAR_DIR / "models"
BUNDLES_LIMIT_BYTES = integer("BUNDLES_LIMIT_BYTES", 2_147_483_648, 1_024, 1_099_511_627_776)
# Files of reviews. All web servers must share it.
ATTACHMENTS_DIR = directory("ATTACHMENTS_DIR", VAR_DIR / "attachments")
# Uploads, results and bundles: a directory that all machines share, or a bucket, s3://bucket/prefix.
STORAGE_URL = text("STORAGE_URL", str(VAR_DIR / "storage"))
STORAGE_OPTIONS = {
    "endpoint": text("STORAGE_ENDPOINT", ""),
    "key": text("STORAGE_KEY", ""),
    "secret": text("STORAGE_SECRET", ""),
}
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

# --- database --------------------------------------------------------------------------------------------------------
DATABASES = {"default": database_url("DATABASE_URL", VAR_DIR / "fraudsite.sqlite3")}
DATABASE_SILENCE_S = integer("DATABASE_SILENCE_S", 5, 1, 3_600)
DATABASE_CONNECT_TIMEOUT_S = integer("DATABASE_CONNECT_TIMEOUT_S", 3, 1, 60)
# When PostgreSQL ends a statement, or a transaction that does nothing; 0: never.
DATABASE_STATEMENT_TIMEOUT_S = integer("DATABASE_STATEMENT_TIMEOUT_S", 0, 0, 86_400)
DATABASE_IDLE_TRANSACTION_S = integer("DATABASE_IDLE_TRANSACTION_S", 300, 0, 86_400)
DATABASE_BEHIND_POOLER = boolean("DATABASE_BEHIND_POOLER", default=False)
# How long a migration may make others wait for a table, and for how long it tries again.
MIGRATE_LOCK_WAIT_MS = integer("MIGRATE_LOCK_WAIT_MS", 300, 10, 60_000)
MIGRATE_PATIENCE_S = integer("MIGRATE_PATIENCE_S", 300, 0, 86_400)
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
        given = DATABASES["default"]["OPTIONS"]
        DATABASES["default"]["OPTIONS"] = {
            "connect_timeout": DATABASE_CONNECT_TIMEOUT_S,
            "tcp_user_timeout": DATABASE_SILENCE_S * 1000,
            "keepalives_idle": DATABASE_SILENCE_S,
            "keepalives_interval": 1,
            "keepalives_count": 3,
        } | given
        # The server, too, has to notice that a machine is gone, whose transactions hold histories that others wait for:
        # by default it takes two hours. A pooler refuses these.
        if not DATABASE_BEHIND_POOLER:
            ours = {
                "tcp_keepalives_idle": DATABASE_SILENCE_S,
                "tcp_keepalives_interval": 1,
                "tcp_keepalives_count": 3,
                "idle_in_transaction_session_timeout": f"{DATABASE_IDLE_TRANSACTION_S}s",
                "statement_timeout": f"{DATABASE_STATEMENT_TIMEOUT_S}s",
            }
            options = " ".join(f"-c {name}={value}" for name, value in ours.items())
            DATABASES["default"]["OPTIONS"]["options"] = f"{options} {given.get('options', '')}".strip()
        # Threads of a web process share a pool (see fraudsite/web.py); other processes keep one connection.
        if pool_size := integer("DATABASE_POOL_SIZE", 0, 0, 1_000):
            DATABASES["default"]["OPTIONS"]["pool"] = {"min_size": 1, "max_size": pool_size, "timeout": 2}
        else:
            DATABASES["default"]["CONN_MAX_AGE"] = DATABASE_CONN_MAX_AGE_S
        DATABASES["default"]["CONN_HEALTH_CHECKS"] = True

# --- broker and workers ----------------------------------------------------------------------------------------------
REDIS_URL = redis_url("REDIS_URL", "redis://127.0.0.1:6379/0")
# A peer that neither answers nor resets must not block a process, so every wait for Redis has a limit.
REDIS_TIMEOUTS = {"socket_connect_timeout": 2, "socket_timeout": 5, "health_check_interval": 10}
# Of `rediss://` and `sentinels://`: whose certificates are trusted (without a file, whose this machine trusts), and the
# certificate that is shown to servers that want one.
REDIS_TLS = {
    "ssl_cert_reqs": "required",
    "ssl_ca_certs": file("REDIS_TLS_CA_FILE"),
    "ssl_certfile": file("REDIS_TLS_CERTIFICATE_FILE"),
    "ssl_keyfile": file("REDIS_TLS_KEY_FILE"),
}
if not REDIS_URL.startswith(("rediss:", "sentinels:")) and any(
    REDIS_TLS[part] for part in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
):
    raise ImproperlyConfigured("There is a file for TLS, but REDIS_URL has none: write rediss:// or sentinels://.")
# Of `sentinel://`: the name of the primary there, and what connects to the Sentinels themselves.
REDIS_SENTINEL_NAME = text("REDIS_SENTINEL_NAME", "fraudsite")
REDIS_SENTINEL_OPTIONS = {
    "socket_connect_timeout": 1,
    "socket_timeout": 1,
    "username": text("REDIS_SENTINEL_USER", "") or None,
    "password": text("REDIS_SENTINEL_PASSWORD", "") or None,
}

CELERY_BROKER_URL = broker_url(REDIS_URL)
PENDING_SWEEP_S = number("PENDING_SWEEP_S", 5.0, 0.1, 3_600.0)
BATCH_FILE_SWEEP_S = number("BATCH_FILE_SWEEP_S", 5.0, 0.1, 3_600.0)
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
# For how many days other rows are kept, 0 standing for ever, and at which hour, in UTC, older ones are deleted.
TRANSACTION_RETENTION_DAYS = integer("TRANSACTION_RETENTION_DAYS", 0, 0, 36_500)
SHADOW_SCORE_RETENTION_DAYS = integer("SHADOW_SCORE_RETENTION_DAYS", 0, 0, 36_500)
ATTACHMENT_RETENTION_DAYS = integer("ATTACHMENT_RETENTION_DAYS", 0, 0, 36_500)
# How old decisions may become that are archived for training when their transactions are deleted; 0: none is archived.
TRAINING_ARCHIVE_DAYS = integer("TRAINING_ARCHIVE_DAYS", 1_825, 0, 36_500)
HISTORY_RETENTION_DAYS = integer("HISTORY_RETENTION_DAYS", 0, 0, 36_500)
RETENTION_HOUR = integer("RETENTION_HOUR", 1, 0, 23)
# The rows of one step, and for how long a task goes on with steps before it makes room for others.
RETENTION_STEP_ROWS = integer("RETENTION_STEP_ROWS", 1_000, 1, 10_000)
# The days of a partition, where the tables are partitioned.
PARTITION_DAYS = integer("PARTITION_DAYS", 30, 1, 366)
RETENTION_LIMIT_S = number("RETENTION_LIMIT_S", 20.0, 0.1, 60.0)
SCORE_COUNTS_INTERVAL_S = number("SCORE_COUNTS_INTERVAL_S", 60.0, 1.0, 60.0)
ROLLUP_INTERVAL_S = number("ROLLUP_INTERVAL_S", 5.0, 1.0, 60.0)
# A minute with more answers is counted once, when it is over: each run would read all of them again until then.
ROLLUP_BUSY_MINUTE = integer("ROLLUP_BUSY_MINUTE", 10_000, 1, 10_000_000)
# How often an open dashboard asks again, at most; rarer where its steps are longer.
DASHBOARD_REFRESH_S = integer("DASHBOARD_REFRESH_S", 10, 1, 300)
# For how long roll-ups of minutes and of hours are kept; those of days are kept for ever.
ROLLUP_MINUTES_DAYS = integer("ROLLUP_MINUTES_DAYS", 7, 3, 365)
ROLLUP_HOURS_DAYS = integer("ROLLUP_HOURS_DAYS", 100, 32, 3_650)
OUTCOMES_INTERVAL_S = number("OUTCOMES_INTERVAL_S", 300.0, 5.0, 3_600.0)
DRIFT_INTERVAL_S = number("DRIFT_INTERVAL_S", 60.0, 5.0, 86_400.0)
ALERTS_INTERVAL_S = number("ALERTS_INTERVAL_S", 30.0, 1.0, 3_600.0)
# Of alerts: how often a route gets a message, when what still fires is told again, and how long a message is tried.
ALERT_GROUP_S = number("ALERT_GROUP_S", 300.0, 0.0, 86_400.0)
ALERT_REPEAT_H = number("ALERT_REPEAT_H", 4.0, 0.1, 8_760.0)
ALERT_RETRY_H = number("ALERT_RETRY_H", 24.0, 0.0, 720.0)
SHADOW_INTERVAL_S = number("SHADOW_INTERVAL_S", 5.0, 0.1, 3_600.0)
COMPARISON_INTERVAL_S = number("COMPARISON_INTERVAL_S", 5.0, 0.1, 3_600.0)
SHADOW_BEHIND_S = integer("SHADOW_BEHIND_S", 3_600, 10, 604_800)
TRAINING_SILENCE_S = integer("TRAINING_SILENCE_S", 60, 15, 86_400)
TRAINING_TIME_LIMIT_S = integer("TRAINING_TIME_LIMIT_S", 86_400, 60, 2_592_000)
# Labels: how old a decision is before its outcome counts as known.
LABEL_MATURITY_DAYS = number("LABEL_MATURITY_DAYS", 45.0, 0.0, 3_650.0)
if 0 < TRANSACTION_RETENTION_DAYS < LABEL_MATURITY_DAYS:
    raise ImproperlyConfigured(
        "TRANSACTION_RETENTION_DAYS must be 0, for ever, or at least LABEL_MATURITY_DAYS: until then the outcomes of "
        "decisions are counted."
    )
# What the nightly retraining does with a model that is better than the champion, and at which hour, in UTC, it begins.
RETRAINING = choice("RETRAINING", "off", ("off", "propose", "promote"))
RETRAINING_HOUR = integer("RETRAINING_HOUR", 3, 0, 23)
RETRAINING_SNAPSHOTS_KEPT = integer("RETRAINING_SNAPSHOTS_KEPT", 7, 1, 1_000)
CELERY_BEAT_SCHEDULE = {
    # A message that waited longer than its interval is stale: the next one has been sent.
    task: {"task": task, "schedule": interval_s, "options": {"expires": interval_s}}
    for task, interval_s in {
        "monitoring.tasks.update_rollups": ROLLUP_INTERVAL_S,
        "monitoring.tasks.delete_old_rollups": 3_600.0,
        "monitoring.tasks.thin_drift_reports": 3_600.0,
        "monitoring.tasks.count_outcomes": OUTCOMES_INTERVAL_S,
        "monitoring.tasks.estimate_without_labels": OUTCOMES_INTERVAL_S,
        "monitoring.tasks.measure_drift": DRIFT_INTERVAL_S,
        "monitoring.tasks.evaluate_alerts": ALERTS_INTERVAL_S,
        "monitoring.tasks.send_alerts": ALERTS_INTERVAL_S,
        "monitoring.tasks.delete_old_alert_rows": 3_600.0,
        "scoring.tasks.resend_pending": PENDING_SWEEP_S,
        "scoring.tasks.count_scores": SCORE_COUNTS_INTERVAL_S,
        "scoring.retention.tasks.delete_old_counts": 3_600.0,
        "scoring.webhooks.tasks.delete_old": 3_600.0,
        "scoring.files.tasks.keep_going": BATCH_FILE_SWEEP_S,
        "scoring.privacy.tasks.keep_going": 60.0,
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
CELERY_BEAT_SCHEDULE["scoring.retention.tasks.apply_retention"] = {
    "task": "scoring.retention.tasks.apply_retention",
    "schedule": crontab(hour=str(RETENTION_HOUR), minute="30"),
    "options": {"expires": 3_600.0},
}
CELERY_BEAT_SCHEDULE_FILENAME = str(VAR_DIR / "beat-schedule")
# When a dead worker's messages are redelivered. Longer than any task may run, otherwise slow tasks would run twice.
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = REDIS_TIMEOUTS | {"visibility_timeout": CELERY_TASK_TIME_LIMIT + 60}
if REDIS_URL.startswith("sentinel"):
    CELERY_BROKER_TRANSPORT_OPTIONS |= {
        "master_name": REDIS_SENTINEL_NAME,
        "sentinel_kwargs": REDIS_SENTINEL_OPTIONS
        | ({"ssl": True} | REDIS_TLS if REDIS_URL.startswith("sentinels:") else {}),
    }
if REDIS_URL.startswith(("rediss:", "sentinels:")):
    CELERY_BROKER_USE_SSL = REDIS_TLS  # without it kombu trusts any certificate

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
# How long a web server goes on after SIGTERM, saying that it ends.
WEB_DRAIN_S = number("WEB_DRAIN_S", 0.0, 0.0, 300.0)
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
# Transactions by Redis streams: which stream has which client's. Without one nothing is read.
STREAMS = pairs("STREAMS")
STREAM_REDIS_URL = redis_url("STREAM_REDIS_URL", REDIS_URL)
# By stream, the name of the key whose limits and schemas hold for its transactions.
STREAM_KEYS = pairs("STREAM_KEYS")
if unknown := STREAM_KEYS.keys() - STREAMS.keys():
    raise ImproperlyConfigured(f"STREAM_KEYS has {', '.join(sorted(unknown))}, which STREAMS does not have.")
STREAM_GROUP = text("STREAM_GROUP", "fraudsite")
STREAM_BATCH = integer("STREAM_BATCH", 128, 1, 1_000)
# Shorter than the silence after which a Redis counts as gone.
STREAM_BLOCK_MS = integer("STREAM_BLOCK_MS", 1_000, 1, 4_000)
STREAM_CLAIM_S = number("STREAM_CLAIM_S", 30.0, 0.1, 3_600.0)
STREAM_ATTEMPTS_LIMIT = integer("STREAM_ATTEMPTS_LIMIT", 5, 1, 100)
STREAM_KEEP_S = integer("STREAM_KEEP_S", 86_400, 0, 315_360_000)
STREAM_ANSWERS_MAXLEN = integer("STREAM_ANSWERS_MAXLEN", 100_000, 1, 100_000_000)
# Erasures: the transactions of one step, the pause after it, and how long what was counted waits to be confirmed.
ERASURE_STEP_ROWS = integer("ERASURE_STEP_ROWS", 5_000, 1, 100_000)
ERASURE_PAUSE_MS = integer("ERASURE_PAUSE_MS", 20, 0, 60_000)
ERASURE_CONFIRM_H = number("ERASURE_CONFIRM_H", 24.0, 0.01, 720.0)
# Files of transactions: their size as they are sent and unpacked, their rows, and how many a client may have under way.
BATCH_FILE_LIMIT_BYTES = integer("BATCH_FILE_LIMIT_BYTES", 2_147_483_648, 1_024, 1_099_511_627_776)
BATCH_FILE_UNPACKED_LIMIT_BYTES = integer("BATCH_FILE_UNPACKED_LIMIT_BYTES", 17_179_869_184, 1_024, 1_099_511_627_776)
BATCH_FILE_ROWS_LIMIT = integer("BATCH_FILE_ROWS_LIMIT", 10_000_000, 1, 60_000_000)
BATCH_FILES_LIMIT = integer("BATCH_FILES_LIMIT", 20, 1, 10_000)
BATCH_FILE_UPLOADS_AT_ONCE = integer("BATCH_FILE_UPLOADS_AT_ONCE", 4, 1, 1_000)
# Rows that a worker scores at a time, how many such parts of a file are scored at once, how long a worker has one to
# itself, and how often one is tried.
BATCH_FILE_CHUNK = integer("BATCH_FILE_CHUNK", 5_000, 1, 100_000)
BATCH_FILE_CHUNKS_AT_ONCE = integer("BATCH_FILE_CHUNKS_AT_ONCE", 8, 1, 1_000)
BATCH_FILE_LEASE_S = number("BATCH_FILE_LEASE_S", 60.0, 1.0, 3_600.0)
BATCH_FILE_ATTEMPTS_LIMIT = integer("BATCH_FILE_ATTEMPTS_LIMIT", 5, 1, 100)
# How long results can be read.
BATCH_FILE_KEEP_DAYS = number("BATCH_FILE_KEEP_DAYS", 7.0, 0.01, 3_650.0)
# Labels in one call, how long one that comes before its transaction waits for it, and how many of a client may wait.
LABEL_BATCH_LIMIT = integer("LABEL_BATCH_LIMIT", 5_000, 1, 10_000)
LABEL_IMPORT_LIMIT_BYTES = integer("LABEL_IMPORT_LIMIT_BYTES", 67_108_864, 1_024, 4_294_967_296)
LABEL_WAIT_DAYS = number("LABEL_WAIT_DAYS", 30.0, 0.0, 3_650.0)
LABEL_WAITING_LIMIT = integer("LABEL_WAITING_LIMIT", 100_000, 0, 10_000_000)
# The most rows of a page of a listing, and in how many rows one page looks for what no index answers.
LISTING_LIMIT = integer("LISTING_LIMIT", 1_000, 1, 10_000)
LISTING_SCAN_LIMIT = integer("LISTING_SCAN_LIMIT", 5_000, 100, 1_000_000)
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
# How often a web process writes which keys were used, of each key at most once a minute.
KEY_USES_INTERVAL_S = number("KEY_USES_INTERVAL_S", 5.0, 0.1, 3_600.0)
# For how many days before a key expires its page and the list of keys warn.
KEY_EXPIRY_WARNING_DAYS = integer("KEY_EXPIRY_WARNING_DAYS", 14, 0, 365)
# How long answers to calls with keys for tests are kept, in Redis.
SANDBOX_KEEP_S = integer("SANDBOX_KEEP_S", 86_400, 60, 2_592_000)
# What a key may do unless it says otherwise; 0 is no limit. A bucket holds what flows into it in so many seconds.
KEY_CALLS_PER_S = number("KEY_CALLS_PER_S", 10_000.0, 0.0, 1e9)
KEY_ROWS_PER_S = number("KEY_ROWS_PER_S", 50_000.0, 0.0, 1e9)
KEY_BURST_S = number("KEY_BURST_S", 2.0, 0.01, 3_600.0)
KEY_TRANSACTIONS_PER_DAY = integer("KEY_TRANSACTIONS_PER_DAY", 0, 0, 1_000_000_000)
# How often a web process tells the others, by Redis, what keys have spent.
KEY_LIMITS_INTERVAL_MS = integer("KEY_LIMITS_INTERVAL_MS", 50, 1, 10_000)
REASONS_PER_ALERT = integer("REASONS_PER_ALERT", 3, 0, 10)
# How long a page or a call waits for a worker to explain a score, and how many versions besides the champions a worker
# process keeps in memory for that.
EXPLAIN_DEADLINE_MS = integer("EXPLAIN_DEADLINE_MS", 10_000, 10, 60_000)
EXPLAIN_VERSIONS_KEPT = integer("EXPLAIN_VERSIONS_KEPT", 2, 1, 100)
# Webhooks. Targets that are private or without TLS are for tests and demos only.
WEBHOOK_PRIVATE_TARGETS = boolean("WEBHOOK_PRIVATE_TARGETS", default=False)
WEBHOOK_ENDPOINTS_LIMIT = integer("WEBHOOK_ENDPOINTS_LIMIT", 10, 1, 1_000)
# How long one attempt may take, and how many calls of one deliverer to one endpoint are under way at once.
WEBHOOK_TIMEOUT_S = number("WEBHOOK_TIMEOUT_S", 10.0, 0.1, 60.0)
WEBHOOK_CONCURRENCY = integer("WEBHOOK_CONCURRENCY", 32, 1, 1_000)
WEBHOOK_POLL_S = number("WEBHOOK_POLL_S", 0.25, 0.01, 60.0)
# The wait after the first failure, which grows to the limit, and for how long it is tried.
WEBHOOK_RETRY_S = number("WEBHOOK_RETRY_S", 5.0, 0.01, 3_600.0)
WEBHOOK_RETRY_LIMIT_S = number("WEBHOOK_RETRY_LIMIT_S", 28_800.0, 0.01, 86_400.0)
WEBHOOK_RETRY_DAYS = number("WEBHOOK_RETRY_DAYS", 3.0, 0.0, 30.0)
# How long earlier secrets sign after a rotation.
WEBHOOK_SECRET_OVERLAP_H = number("WEBHOOK_SECRET_OVERLAP_H", 24.0, 0.0, 720.0)
WEBHOOK_RETENTION_DAYS = number("WEBHOOK_RETENTION_DAYS", 30.0, 0.0, 3_650.0)
WEBHOOK_DEAD_RETENTION_DAYS = number("WEBHOOK_DEAD_RETENTION_DAYS", 90.0, 0.0, 3_650.0)
READY_TIMEOUT_MS = integer("READY_TIMEOUT_MS", 2_000, 10, 60_000)
DOCTOR_CLOCK_SKEW_S = number("DOCTOR_CLOCK_SKEW_S", 1.0, 0.1, 3_600.0)
DOCTOR_DISK_FREE_GB = number("DOCTOR_DISK_FREE_GB", 5.0, 0.0, 1_000_000.0)

# --- models ----------------------------------------------------------------------------------------------------------
# Bundles are signed with this key; machines that train and machines that score must share it.
BUNDLE_SIGNING_KEY = secret("BUNDLE_SIGNING_KEY", VAR_DIR / "bundle_signing_key")

# --- monitoring ------------------------------------------------------------------------------------------------------
DRIFT_MIN_SAMPLES = integer("DRIFT_MIN_SAMPLES", 500, 50, 1_000_000)
DRIFT_MAX_SAMPLES = integer("DRIFT_MAX_SAMPLES", 5_000, 50, 1_000_000)
# Requests with this token may read /metrics; without a token, only staff may.
METRICS_TOKEN = secret("METRICS_TOKEN", None)
# Where workers, beat and deliverers answer Prometheus; 0 is nowhere.
METRICS_PORT = integer("METRICS_PORT", 0, 0, 65_535)
METRICS_HOST = text("METRICS_HOST", "127.0.0.1")
# Where traces are sent, by OTLP over HTTP; without it none is recorded. The library reads its other OTEL_ variables.
OTEL_EXPORTER_OTLP_ENDPOINT = web_address("OTEL_EXPORTER_OTLP_ENDPOINT")
# The share of requests, entries, jobs and chunks that are recorded, and whether a caller's flag decides instead.
TRACES_SHARE = number("TRACES_SHARE", 0.01, 0.0, 1.0)
TRACES_FOLLOW_CALLERS = boolean("TRACES_FOLLOW_CALLERS", default=False)

# --- e-mail ----------------------------------------------------------------------------------------------------------
# Where pages are, for the links in messages: https://fraud.example.com
SITE_URL = text("SITE_URL", "").rstrip("/")
EMAIL_HOST = text("EMAIL_HOST", "")
EMAIL_PORT = integer("EMAIL_PORT", 587, 1, 65_535)
EMAIL_HOST_USER = text("EMAIL_USER", "")
EMAIL_HOST_PASSWORD = text("EMAIL_PASSWORD", "")
EMAIL_SECURITY = choice("EMAIL_SECURITY", "starttls", ("starttls", "tls", "none"))
EMAIL_USE_TLS, EMAIL_USE_SSL = EMAIL_SECURITY == "starttls", EMAIL_SECURITY == "tls"
EMAIL_TIMEOUT = integer("EMAIL_TIMEOUT_S", 10, 1, 60)
DEFAULT_FROM_EMAIL = text("EMAIL_FROM", "fraudsite@localhost")

# --- pages and their safety ------------------------------------------------------------------------------------------
LOGIN_URL = "admin:login"
# How long a review is claimed by the analyst who opened it.
REVIEW_CLAIM_S = integer("REVIEW_CLAIM_S", 300, 0, 86_400)
# For how long a web process keeps how many reviews each queue has: counting 100,000 takes a page's time.
QUEUE_COUNTS_S = number("QUEUE_COUNTS_S", 5.0, 0.0, 300.0)
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
AXES_FAILURE_LIMIT = integer("LOGIN_FAILURE_LIMIT", 5, 1, 1_000)
AXES_COOLOFF_TIME = integer("LOGIN_COOLOFF_MINUTES", 15, 1, 1_440) / 60

HTTPS = boolean("HTTPS", default=False)
BEHIND_PROXY = boolean("BEHIND_PROXY", default=False)
# Whether people without a second factor see nothing but the page where they set one up.
TWO_FACTOR_REQUIRED = boolean("TWO_FACTOR_REQUIRED", default=False)
OTP_TOTP_ISSUER = "Fraudsite"

# Single sign-on by OpenID Connect. Without an issuer it is off.
SSO_ISSUER = sign_on.issuer(text("SSO_ISSUER", ""))
SSO_CLIENT_ID = text("SSO_CLIENT_ID", "")
SSO_CLIENT_SECRET = text("SSO_CLIENT_SECRET", "")
SSO_SCOPES = text("SSO_SCOPES", "openid profile email")
SSO_NAME = text("SSO_NAME", "single sign-on")
# Which claim has a person's groups, and which group gives which role.
SSO_ROLES_CLAIM = text("SSO_ROLES_CLAIM", "groups")
SSO_ROLES = sign_on.roles(text("SSO_ROLES", ""))
SSO_USERNAME_CLAIM = text("SSO_USERNAME_CLAIM", "preferred_username")
SSO_LINK_BY_EMAIL = boolean("SSO_LINK_BY_EMAIL", default=False)
SSO_SESSION_LIMIT_S = integer("SSO_SESSION_LIMIT_S", 28_800, 60, 2_592_000)
SSO_SESSION_ENDS_WITH_TOKEN = boolean("SSO_SESSION_ENDS_WITH_TOKEN", default=False)
# Whether the provider's sign-in counts as one with a second factor: always, if a claim says so, or never.
SSO_SECOND_FACTOR = choice("SSO_SECOND_FACTOR", "provider", ("provider", "claim", "local"))
SSO_SECOND_FACTOR_VALUES = texts("SSO_SECOND_FACTOR_VALUES", ["mfa"])
SSO_CLOCK_SKEW_S = integer("SSO_CLOCK_SKEW_S", 60, 0, 600)
SSO_TIMEOUT_S = number("SSO_TIMEOUT_S", 5.0, 0.1, 60.0)
# Who may sign in with a password: everybody, or the accounts for emergencies alone.
PASSWORD_SIGN_IN = choice("PASSWORD_SIGN_IN", "all", ("all", "emergency"))
EMERGENCY_ACCOUNTS = texts("EMERGENCY_ACCOUNTS", [])
sign_on.check(
    issuer=SSO_ISSUER, client_id=SSO_CLIENT_ID, scopes=SSO_SCOPES, roles=SSO_ROLES, passwords=PASSWORD_SIGN_IN
)
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
LOGGING["root"]["level"] = LOG_LEVEL
LOG_FORMAT = choice("LOG_FORMAT", "text", ("text", "json"))
LOGGING["handlers"]["console"]["formatter"] = LOG_FORMAT
# What lines and traces name as the version; without it, that of pyproject.toml.
FRAUDSITE_RELEASE = text("FRAUDSITE_RELEASE", "")

refuse_misspelt()
