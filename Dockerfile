# The gateway, and nothing else: no shell and no package of a distribution. `docker build --tag session-gateway .`
FROM rust:1.95-bookworm AS builder
WORKDIR /build

# Dependencies first, with a program that does nothing in place of ours: they are compiled again only when they change.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
RUN mkdir src && echo 'fn main() {}' > src/main.rs && touch src/lib.rs \
 && cargo build --locked --profile dist --bin session-gateway

COPY .askama.toml ./
COPY src src
# Cargo goes by time, and the copied files may be older than what was made of the stand-ins.
RUN touch src/main.rs src/lib.rs && cargo build --locked --profile dist --bin session-gateway

# What the program needs to run, laid out as it lies in the image: itself, the libraries it is linked to, the certificates
# of public authorities, and an unprivileged user.
RUN mkdir -p /image/etc/ssl/certs /home/nonroot \
 && cp target/dist/session-gateway /image/ \
 && ldd target/dist/session-gateway | grep -o '/[^ ]*' | xargs cp --parents --dereference --target-directory=/image \
 && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
 && echo 'nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin' > /image/etc/passwd \
 && echo 'nonroot:x:65532:' > /image/etc/group \
 && echo 'hosts: files dns' > /image/etc/nsswitch.conf

FROM scratch
COPY --from=builder /image /
COPY --from=builder --chown=65532:65532 /home/nonroot /home/nonroot
# By number, so that Kubernetes can tell that it is not root.
USER 65532:65532
# Clients, operators.
EXPOSE 8000 8001
ENTRYPOINT ["/session-gateway"]
CMD ["serve"]
