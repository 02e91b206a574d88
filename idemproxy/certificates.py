"""TLS contexts: of the listener, whose files are read again on SIGHUP, and for an https upstream, which is always verified."""

from __future__ import annotations

import ssl

from idemproxy.config.settings import ListenTls, UpstreamTls
from idemproxy.errors import StartError


def listener(files: ListenTls) -> ssl.SSLContext:
    """What clients speak TLS with. Raises StartError where the files cannot be used."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    _load(context, files.certificate, files.key, "tls.listen")
    _ask_clients(context, files)
    return context


def reload(context: ssl.SSLContext, files: ListenTls) -> None:
    """Use the files as they are now for every later handshake. Raises StartError, and changes nothing, where they cannot be used. An
    authority that clients were trusted by before stays trusted until a restart."""
    listener(files)
    _load(context, files.certificate, files.key, "tls.listen")
    _ask_clients(context, files)


def _ask_clients(context: ssl.SSLContext, files: ListenTls) -> None:
    if files.client_ca is None:
        return
    try:
        context.load_verify_locations(files.client_ca)
    except (OSError, ssl.SSLError) as error:
        raise StartError(
            f"tls.listen.client_ca: {files.client_ca} cannot be used: {_reason(error)}; name a PEM file of certificates"
        ) from error
    context.verify_mode = ssl.CERT_REQUIRED


def upstream(files: UpstreamTls) -> ssl.SSLContext:
    """What an https upstream is verified with. Raises StartError where a file cannot be used."""
    try:
        context = ssl.create_default_context(cafile=files.ca)
    except (OSError, ssl.SSLError) as error:
        raise StartError(
            f"tls.upstream.ca: {files.ca} cannot be used: {_reason(error)}; name a PEM file of certificates"
        ) from error
    context.set_alpn_protocols(["http/1.1"])
    if files.certificate is not None and files.key is not None:
        _load(context, files.certificate, files.key, "tls.upstream")
    return context


def _load(context: ssl.SSLContext, certificate: str, key: str, setting: str) -> None:
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise StartError(
            f"{setting}: {certificate} and {key} cannot be used: {_reason(error)}; name a PEM certificate chain and its private key"
        ) from error


def _reason(error: OSError) -> str:
    reason = getattr(error, "reason", None)
    return str(reason or error.strerror or "not PEM").lower().replace("_", " ")
