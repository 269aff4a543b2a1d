# syntax=docker/dockerfile:1
# onecycle-search with its PostgreSQL driver and its dashboard:
#     docker build --tag onecycle-search:cpu .
#     docker build --tag onecycle-search:cuda --target cuda .
# torch's own wheels bring CUDA, so both variants stand on one base; the host of the second needs
# NVIDIA's driver and container toolkit. A study refuses another minor version of torch: build an
# image once and use it for all workers.
# Behind a mirror: `--build-arg TORCH_INDEX=URL` for the CPU wheels of torch, and
# `--secret id=pip,src=pip.conf` for all other packages. A secret stays out of the image.

FROM python:3.12.11-slim-bookworm AS base
# What both variants run in: Python, a user, a folder that may be written. No compiler.
RUN groupadd --gid 10001 onecycle \
    && useradd --uid 10001 --gid onecycle --no-create-home --home-dir /tmp onecycle \
    && install --directory --owner=onecycle --group=onecycle /data
ENV PATH=/opt/onecycle/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ONECYCLE_CACHE=/data/cache \
    XDG_DATA_HOME=/data
WORKDIR /data
ENTRYPOINT ["onecycle"]
CMD ["--help"]

FROM base AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY trainers trainers
COPY studies studies
COPY search search
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

# torch has a layer of its own: another version of this code pushes and pulls the small one only.
FROM base AS cuda
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python -m venv /opt/onecycle \
    && /opt/onecycle/bin/pip install --no-cache-dir "torch>=2.9" "torchvision>=0.24"
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    /opt/onecycle/bin/pip install --no-cache-dir "$(echo /wheel/*.whl)[postgres,dashboard]"
USER 10001:10001

FROM base AS cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python -m venv /opt/onecycle \
    && /opt/onecycle/bin/pip install --no-cache-dir \
        --index-url "$TORCH_INDEX" "torch>=2.9" "torchvision>=0.24"
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    /opt/onecycle/bin/pip install --no-cache-dir "$(echo /wheel/*.whl)[postgres,dashboard]"
USER 10001:10001
