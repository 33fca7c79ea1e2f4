# Reading on a CPU: docker build -f docker/read.Dockerfile -t nordocr .
# docker run --rm -v "$PWD:/data" nordocr read scan.tif
FROM python:3.12-slim

COPY dist/*.whl /tmp/
RUN pip install --no-cache-dir /tmp/*.whl && rm /tmp/*.whl
RUN useradd --create-home --uid 10001 reader
USER 10001
WORKDIR /data
RUN nordocr doctor --require read
ENTRYPOINT ["nordocr"]
CMD ["--help"]
