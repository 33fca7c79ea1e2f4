# Training on CUDA: docker build -f docker/train.Dockerfile -t nordocr-train .
# docker run --rm --gpus all -v "$PWD:/data" nordocr-train train -p svtrv2-1024 --train train.lmdb
FROM nvidia/cuda:13.0.1-runtime-ubuntu24.04

# No versions: Ubuntu's archive keeps the newest one only.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/nordocr
ENV PATH=/opt/nordocr/bin:$PATH
COPY dist/*.whl /tmp/
# The version is that of the wheel.
# hadolint ignore=DL3013
RUN wheel=$(ls /tmp/*.whl) && pip install --no-cache-dir "${wheel}[train,rtx]" && rm /tmp/*.whl
RUN useradd --create-home --uid 10001 trainer
USER 10001
WORKDIR /data
RUN nordocr doctor --require train
ENTRYPOINT ["nordocr"]
CMD ["--help"]
