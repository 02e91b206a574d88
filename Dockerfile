# The image of `idemproxy run --config /etc/idemproxy/idemproxy.yaml`, with the versions that were tested.
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY tests/requirements.txt locked.txt
COPY idemproxy idemproxy
RUN python -m venv /opt/idemproxy \
    && /opt/idemproxy/bin/pip install --no-cache-dir --constraint locked.txt . \
    && /opt/idemproxy/bin/pip uninstall --yes pip setuptools

FROM python:3.11-slim
COPY --from=build /opt/idemproxy /opt/idemproxy
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin idemproxy \
    && install -d -o idemproxy -g idemproxy /var/lib/idemproxy
ENV PATH=/opt/idemproxy/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    IDEMPROXY_HEALTH=http://127.0.0.1:9090/healthz
USER idemproxy
# Where a SQLite store with a relative path goes.
WORKDIR /var/lib/idemproxy
VOLUME /var/lib/idemproxy
EXPOSE 8080 9090
# Needs `admin: 0.0.0.0:9090` in the configuration, or IDEMPROXY_HEALTH with another address.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(os.environ['IDEMPROXY_HEALTH'], timeout=2)"]
ENTRYPOINT ["idemproxy"]
CMD ["run", "--config", "/etc/idemproxy/idemproxy.yaml"]
