"""Certificates, made on the spot."""

import os
import ssl
import string
import subprocess
import sys

OPENSSL_CONFIG = """
[req]
distinguished_name = name
prompt = no
[name]
CN = live_api stand-in
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = IP:127.0.0.1, IP:::1, DNS:localhost, DNS:$host
"""


def make_certificate(directory: str, name: str, extensions: str, host: str, subject: str, *issuer: str) -> None:
    """Makes NAME.pem and NAME.key."""
    made = subprocess.run(
        ["openssl", "req", "-x509", "-config", "/dev/stdin", "-extensions", extensions, "-subj", f"/CN={subject}",
         "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-sha256", "-days", "3650",
         "-keyout", os.path.join(directory, f"{name}.key"), "-out", os.path.join(directory, f"{name}.pem"), *issuer],
        input=string.Template(OPENSSL_CONFIG).substitute(host=host), capture_output=True, text=True)
    if made.returncode:
        sys.exit(f"live_api: openssl could not make {name}.pem: {made.stderr}")


def tls_context(directory: str, ca: str, name: str, host: str, protocols: list[str]) -> ssl.SSLContext:
    ca_pem, ca_key = os.path.join(directory, f"{ca}.pem"), os.path.join(directory, f"{ca}.key")
    if not os.path.exists(ca_pem):
        make_certificate(directory, ca, "ca", host, f"live_api {ca}")
    make_certificate(directory, name, "server", host, host, "-CA", ca_pem, "-CAkey", ca_key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(protocols)
    context.load_cert_chain(os.path.join(directory, f"{name}.pem"), os.path.join(directory, f"{name}.key"))
    return context
