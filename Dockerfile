# Service and page on CPU: not root, writes to /tmp only. Every step is a make target that also runs without Docker.
#   docker build --tag brain-mri-tumor .   or   docker compose up
# By tag until `make pin` writes the digest that the registry has today; all packages below have locked hashes.
FROM python:3.12-slim-bookworm
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 bundle
WORKDIR /opt/bundle
COPY Makefile setup.cfg pyproject.toml README.md LICENSE ./
COPY requirements requirements
COPY bundle bundle
COPY configs configs
COPY scripts scripts
COPY models models
COPY docs/data_license.txt docs/data_license.txt
RUN make install
USER 10001
ENV PATH=/opt/bundle/.app/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 MPLCONFIGDIR=/tmp
EXPOSE 8000 8501
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s CMD ["python", "-m", "bundle", "health", "--port", "8000"]
# any address but a loopback one needs BUNDLE_TOKEN
CMD ["python", "-m", "bundle", "serve", "--host", "0.0.0.0", "--port", "8000"]
