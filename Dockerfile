# SecondRead in a container: the code belongs to root and is read only, the state lies in /var/lib/secondread. Built
# from the root of the checkout: docker build -t secondread . (Linux x86-64, for which requirements.lock was made).

FROM python:3.12-slim-bookworm AS packages
RUN python -m venv /opt/secondread/.venv
COPY requirements.lock /tmp/requirements.lock
RUN /opt/secondread/.venv/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r /tmp/requirements.lock

FROM python:3.12-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /var/lib/secondread --shell /usr/sbin/nologin secondread \
 && install --directory --mode 0700 --owner secondread --group secondread /var/lib/secondread /backups
COPY --from=packages /opt/secondread/.venv /opt/secondread/.venv
WORKDIR /opt/secondread
COPY LICENSE app.py pyproject.toml requirements.txt ./
COPY .streamlit .streamlit
COPY docs docs
COPY weights weights
COPY core core
COPY pages pages
COPY train train
# Nobody may write them later, and every start would compile them anew.
RUN /opt/secondread/.venv/bin/python -m compileall -q core pages train

ENV PATH=/opt/secondread/.venv/bin:$PATH \
    HOME=/var/lib/secondread \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SECONDREAD_STATE_DIR=/var/lib/secondread \
    STREAMLIT_SERVER_ADDRESS=0.0.0.0
# Outside the container only the proxy reaches the port: publish none.
EXPOSE 8501
VOLUME /var/lib/secondread
USER 10001:10001
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8501/healthz', timeout=5)"]
CMD ["python", "-m", "streamlit", "run", "app.py"]
