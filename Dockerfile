# `make docker` builds the binary first and fills in the arguments. By hand:
#   make build && docker build --build-arg ARCH=amd64 -t listen_exporter .
# With leases in etcd: `make docker FORM=etcd`, or
#   make build-etcd && docker build --build-arg ARCH=amd64 --build-arg FORM=-etcd -t listen_exporter:etcd .
FROM scratch

ARG ARCH="amd64"
ARG OS="linux"
ARG FORM=""
ARG VERSION="unknown"
ARG REVISION="unknown"
ARG CREATED="1970-01-01T00:00:00Z"

LABEL org.opencontainers.image.title="listen_exporter" \
      org.opencontainers.image.description="Prometheus exporter for the ports a Linux host listens on" \
      org.opencontainers.image.url="https://github.com/listen-exporter/listen_exporter" \
      org.opencontainers.image.source="https://github.com/listen-exporter/listen_exporter" \
      org.opencontainers.image.documentation="https://github.com/listen-exporter/listen_exporter/blob/main/README.md" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"

COPY --chmod=0644 LICENSE .build/${OS}-${ARCH}${FORM}/THIRD_PARTY_LICENSES /
COPY --chmod=0755 .build/${OS}-${ARCH}${FORM}/listen_exporter /bin/listen_exporter

# A number, so that Kubernetes can check runAsNonRoot. The exporter needs no user name, no capability, no shell and no
# writable file but that of --state.file, which needs a volume.
USER 65534:65534
EXPOSE 10190
ENTRYPOINT ["/bin/listen_exporter"]
