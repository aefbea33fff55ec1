# The service alone: no torch, no compiler and no pip in the last stage.
#   docker build -t isoserve .                    the processor
#   docker build -t isoserve:gpu --target gpu .   CUDA 13, the one onnxruntime-gpu is built for
#   --build-arg EXTRAS=otel,grpc                  with traces and gRPC; review is the third for serving
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY isoserve isoserve
COPY models models
COPY service service
COPY training training
RUN python3 -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

# What the project needs comes before its code, so that a change of code reuses these layers.
FROM ${BASE_IMAGE} AS wanted
ARG EXTRAS=""
WORKDIR /wanted
COPY pyproject.toml ./
RUN python3 -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
extras = [project['optional-dependencies'][name] for name in '${EXTRAS}'.replace(',', ' ').split()]; \
print(*sum(extras, project['dependencies']), sep='\n')" > wanted.txt

FROM ${BASE_IMAGE} AS packages
WORKDIR /packages
RUN python3 -m venv --without-pip /opt/isoserve
COPY constraints.txt ./
COPY --from=wanted /wanted/wanted.txt ./
RUN python3 -m pip --python /opt/isoserve/bin/python install --no-cache-dir \
        --constraint constraints.txt --requirement wanted.txt
COPY --from=wheel /wheels wheels
RUN python3 -m pip --python /opt/isoserve/bin/python install --no-cache-dir --no-deps wheels/*.whl \
    && python3 -m pip --python /opt/isoserve/bin/python check \
    && find /opt/isoserve -type d -name tests -prune -exec rm -r {} + \
    # What prepares models, not what runs them: 9 MB.
    && for part in quantization tools transformers; do \
        rm -r /opt/isoserve/lib/python3*/site-packages/onnxruntime/$part; done

FROM ${BASE_IMAGE} AS gpu-packages
WORKDIR /packages
RUN python3 -m venv --without-pip /opt/isoserve
COPY constraints.txt constraints-gpu.txt ./
COPY --from=wanted /wanted/wanted.txt ./
# The same, but for the runtime: onnxruntime-gpu brings the module of the same name, and its extras
# bring CUDA and cuDNN, so that of the machine only the driver is used.
RUN sed -i 's/^onnxruntime\b/onnxruntime-gpu[cuda,cudnn]/' wanted.txt \
    && sed -i 's/^onnxruntime\b/onnxruntime-gpu/' constraints.txt \
    && python3 -m pip --python /opt/isoserve/bin/python install --no-cache-dir \
        --constraint constraints.txt --constraint constraints-gpu.txt --requirement wanted.txt
COPY --from=wheel /wheels wheels
RUN python3 -m pip --python /opt/isoserve/bin/python install --no-cache-dir --no-deps wheels/*.whl \
    && find /opt/isoserve -type d -name tests -prune -exec rm -r {} + \
    && ln -s /opt/isoserve/lib/python3*/site-packages/nvidia /opt/isoserve/nvidia

FROM ${BASE_IMAGE} AS gpu
COPY --from=gpu-packages /opt/isoserve /opt/isoserve
COPY model_repository /models
ENV PATH=/opt/isoserve/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    ISOSERVE_LOG_FORMAT=json \
    ISOSERVE_ACCESS_LOG=true \
    ISOSERVE_HOST=0.0.0.0 \
    ISOSERVE_PORT=8000 \
    ISOSERVE_REPOSITORY=/models \
    ISOSERVE_DEVICE=cuda \
    LD_LIBRARY_PATH=/opt/isoserve/nvidia/cu13/lib:/opt/isoserve/nvidia/cudnn/lib \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", \
    "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"ISOSERVE_PORT\"]}/healthz/ready', timeout=4)"]
ENTRYPOINT ["isoserve"]
CMD ["serve"]

FROM ${BASE_IMAGE} AS cpu
COPY --from=packages /opt/isoserve /opt/isoserve
# Baked in, so that the image serves by itself; a volume on /models takes its place.
COPY model_repository /models
ENV PATH=/opt/isoserve/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    ISOSERVE_LOG_FORMAT=json \
    ISOSERVE_ACCESS_LOG=true \
    ISOSERVE_HOST=0.0.0.0 \
    ISOSERVE_PORT=8000 \
    ISOSERVE_REPOSITORY=/models
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-c", \
    "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"ISOSERVE_PORT\"]}/healthz/ready', timeout=4)"]
ENTRYPOINT ["isoserve"]
CMD ["serve"]
