FROM python:3.11-slim-bookworm AS packages
RUN python -m venv /venv
COPY requirements.txt /
# Wheels only, so no compiler is needed; the one package that has none is plain Python.
RUN /venv/bin/pip install --no-cache-dir --only-binary :all: --no-binary dpd-components --requirement /requirements.txt
COPY clients/python /client
RUN /venv/bin/pip install --no-cache-dir --no-deps /client

FROM python:3.11-slim-bookworm
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 VAR_DIR=/var/lib/fraudsite
# The code belongs to root, and the process may write to VAR_DIR only.
RUN useradd --system --uid 10001 --home-dir /var/lib/fraudsite fraudsite \
    && install --directory --owner fraudsite /var/lib/fraudsite
COPY --from=packages /venv /venv
COPY . /app
WORKDIR /app
USER 10001
VOLUME /var/lib/fraudsite
EXPOSE 8000
# Of the web server; the other processes have checks of their own in docker-compose.yml.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
CMD ["python", "-m", "fraudsite.web", "--host", "0.0.0.0", "--port", "8000", \
     "--respawn-failed-workers", "--workers-kill-timeout", "30"]
