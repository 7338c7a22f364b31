# The gateway. Build: docker build -t equipoise . ; run: see compose.yaml. Mount /data for policy, keys and record.
FROM python:3.12-slim

# libgl1 and libglib2.0-0: OpenCV's, which reads text in pictures.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
RUN pip install --no-cache-dir -c constraints.txt ".[guard,postgresql]" \
    && useradd --create-home --uid 1000 equipoise \
    && mkdir /data \
    && chown equipoise /data

USER equipoise
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/health', timeout=2)"]
ENTRYPOINT ["equipoise", "guard", "serve", "--host", "0.0.0.0", "--port", "8080"]
