//! The certificate authorities that a download trusts: Mozilla's, which come with the program, and the machine's own.
//!
//! The machine's own are the system's, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name. A company whose network
//! signs with a certificate of its own puts it there.

use std::fs;
use std::io;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::CertificateError;
use ureq::tls::{Certificate, RootCerts};

/// Mozilla's authorities, for machines that have none, and the machine's own.
pub(super) fn root_certs() -> RootCerts {
    let found = rustls_native_certs::load_native_certs();
    for error in found.errors.iter().filter(|_| is_named()) {
        log::warn!("SSL_CERT_FILE or SSL_CERT_DIR: {error}");
    }
    webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .chain(&found.certs)
        .map(|certificate| Certificate::from_der(certificate).to_owned())
        .into()
}

fn is_named() -> bool {
    ["SSL_CERT_FILE", "SSL_CERT_DIR"]
        .iter()
        .any(|name| std::env::var_os(name).is_some())
}

/// Writes the machine's own authorities to `path` as PEM, for programs that do not look for them.
pub(super) fn write_pem(path: &Path) -> io::Result<()> {
    let mut pem = String::new();
    for certificate in rustls_native_certs::load_native_certs().certs {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in BASE64_STANDARD.encode(&certificate).as_bytes().chunks(64) {
            pem.extend(line.iter().map(|byte| char::from(*byte)));
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    fs::write(path, pem)
}

/// What to do about `error`, if it is a certificate that nobody trusted has signed.
pub(super) fn advice(error: &ureq::Error) -> &'static str {
    let cause = match error {
        ureq::Error::Rustls(cause) => Some(cause),
        ureq::Error::Io(cause) => cause.get_ref().and_then(|cause| cause.downcast_ref()),
        _ => None,
    };
    match cause {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            " (if your network has a certificate authority of its own, name its PEM file in SSL_CERT_FILE)"
        }
        _ => "",
    }
}
