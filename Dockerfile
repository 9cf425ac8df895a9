# Serves ONNX bundles over HTTP: the base install and the extra `serve`, no training framework.
#
#   docker build -t kzoo .
#   docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD/bundles:/bundles:ro" kzoo
FROM python:3.11-slim

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY kzoo kzoo
COPY export export
COPY apps apps
RUN pip install --no-cache-dir ".[serve]"

RUN useradd --create-home kzoo
USER kzoo
WORKDIR /home/kzoo

EXPOSE 8000
HEALTHCHECK CMD python -c "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health')"
# Every address, because in a container loopback cannot be reached from outside; `-p` says who may.
CMD ["kzoo", "serve", "/bundles", "--host", "0.0.0.0", "--port", "8000"]
