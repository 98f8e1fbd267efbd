//! The certificate authorities that a download trusts: Mozilla's, which come with the program, and the machine's.
//!
//! The machine's authorities are the system's, or those named by `SSL_CERT_FILE` and `SSL_CERT_DIR`. A company whose
//! network signs with its own certificate adds it there.

use std::fs;
use std::io;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::CertificateError;
use ureq::tls::{Certificate, RootCerts};

/// Mozilla's authorities, for machines that have none, and the machine's.
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

/// Writes the machine's authorities to `path` as PEM, for programs that do not look for them.
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

/// Advice to append to `error`, if its cause is a certificate from an untrusted authority.
pub(super) fn advice(error: &ureq::Error) -> &'static str {
    let cause = match error {
        ureq::Error::Rustls(cause) => Some(cause),
        ureq::Error::Io(cause) => cause.get_ref().and_then(|cause| cause.downcast_ref()),
        _ => None,
    };
    match cause {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            " (if your network has its own certificate authority, set SSL_CERT_FILE to its PEM file)"
        }
        _ => "",
    }
}
