# The server: compiled sources, production dependencies and a nats-server for when NATS_URL is unset.
#   docker build -t windshift .
#   docker run --read-only -p 8080:8080 -p 8088:8088 -e NATS_URL=nats://… windshift
#   docker run --read-only -p 8080:8080 -p 8088:8088 -v windshift:/data windshift
# Nothing native is compiled, so both build stages run on the builder's own platform, whatever the image is for.

FROM --platform=$BUILDPLATFORM node:24-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
COPY tools tools
RUN --mount=type=cache,target=/root/.npm npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY src src
RUN npm run build

# Without the optional packages: they hold a Node and a nats-server, and the image has its own of both.
FROM --platform=$BUILDPLATFORM node:24-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
RUN --mount=type=cache,target=/root/.npm \
    npm ci --omit=dev --omit=optional --workspaces=false --ignore-scripts

FROM nats:2.14-alpine AS nats

FROM node:24-slim
LABEL org.opencontainers.image.title="windshift" \
      org.opencontainers.image.description="Event streams and state for backend services: a gRPC server on NATS JetStream" \
      org.opencontainers.image.licenses="MIT"

# Writable for whoever the container runs as: a named volume takes the folder's owner over when it is first mounted.
# There is no VOLUME here on purpose. It would put an anonymous volume below /data, and the server could no longer tell
# that nobody meant to keep the events.
RUN install -d -o node -g node /data

COPY --from=nats /usr/local/bin/nats-server /usr/local/bin/nats-server
WORKDIR /app
COPY --from=dependencies /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY package.json LICENSE ./
COPY proto proto

ENV NODE_ENV=production \
    WINDSHIFT_IMAGE=true \
    NATS_DATA_DIR=/data
# A number, so that Kubernetes can see that it is not root.
USER 1000:1000
EXPOSE 8080 8088
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --start-interval=1s \
    CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.HEALTH_PORT || 8088}/healthz`).then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "/app/dist/bin.js"]
