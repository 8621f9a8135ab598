# SecondRead with what a cluster needs (docs/cluster.md): first `docker build -t secondread .`, then, also from the root
# of the checkout, `docker build -t secondread-cluster -f deploy/cluster.Dockerfile .`
FROM secondread
USER root
COPY requirements-cluster.txt requirements.lock /tmp/
# The lock without its hashes is a constraint: nothing that the product runs on changes.
RUN sed -n '/^[a-z0-9]/s/ \\$//p' /tmp/requirements.lock > /tmp/constraints.txt \
 && /opt/secondread/.venv/bin/pip install --no-cache-dir --only-binary :all: \
    -r /tmp/requirements-cluster.txt -c /tmp/constraints.txt
USER 10001:10001
