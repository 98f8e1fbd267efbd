//! `fetch` on a company's network: through a proxy, to a server whose certificate the company signed.

mod program;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::thread::{JoinHandle, spawn};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use program::{program, text};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

/// The home page of CIFAR-10, which the company's server pretends to be.
const HOST: &str = "www.cs.toronto.edu";

/// What the network saw of one connection.
struct Seen {
    /// What the proxy was asked for, `CONNECT host:port`.
    connect: String,
    /// What was asked for inside of TLS, `GET path`; `None` if the certificate was refused.
    get: Option<String>,
}

/// A proxy on this machine that leads every connection to a server with a certificate for [`HOST`].
struct Network {
    address: String,
    /// The certificate of the authority that signed the server's, as PEM.
    authority: String,
    thread: JoinHandle<Seen>,
}

impl Network {
    /// Answers one connection.
    fn start() -> Self {
        let (authority, config) = certified_server();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let thread = spawn(move || answer(listener.accept().unwrap().0, config));
        Self {
            address,
            authority,
            thread,
        }
    }
}

/// An authority's certificate as PEM, and a server with a certificate for [`HOST`] that the authority signed.
fn certified_server() -> (String, Arc<ServerConfig>) {
    let authority_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(params, authority_key);

    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .unwrap();
    (pem(authority.der()), Arc::new(config))
}

fn pem(certificate: &CertificateDer) -> String {
    let text = BASE64_STANDARD.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

/// One connection to the proxy and, inside of it, to the server, which has no such file.
fn answer(mut stream: TcpStream, config: Arc<ServerConfig>) -> Seen {
    let connect = first_words(&mut stream).unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    let connection = ServerConnection::new(config).unwrap();
    let mut stream = StreamOwned::new(connection, stream);
    let get = first_words(&mut stream);
    if get.is_some() {
        stream
            .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
    }
    Seen { connect, get }
}

/// Reads a request's head and returns the first two words of it.
fn first_words(stream: &mut impl Read) -> Option<String> {
    // A byte at a time: what comes after the head is not for this reader.
    let mut lines = BufReader::with_capacity(1, stream).lines();
    let first = lines.next()?.ok()?;
    lines
        .take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty()))
        .count();
    Some(first.split(' ').take(2).collect::<Vec<_>>().join(" "))
}

/// A folder to fetch into, and an npm that notes what it was told of the network.
struct Machine {
    folder: TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(machine.path("bin")).unwrap();
        let npm = machine.path("bin/npm");
        let script = format!(
            "#!/bin/sh\nprintf %s \"$https_proxy\" >'{proxy}'\ncat \"$NODE_EXTRA_CA_CERTS\" >'{authorities}'\n\
             echo 'no such package' >&2\nexit 1\n",
            proxy = machine.path("npm_proxy").display(),
            authorities = machine.path("npm_authorities").display(),
        );
        program::executable::write(&npm, script.as_bytes());
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// `fetch` with nothing of this process's network settings.
    fn fetch(&self) -> Command {
        let mut command = program(&["fetch", "--data-dir", text(&self.path("data"))]);
        for name in ["SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS"] {
            command.env_remove(name);
        }
        for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
            command.env_remove(name).env_remove(name.to_uppercase());
        }
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", text(&self.path("bin"))));
        command
    }
}

/// The message of a `fetch` that failed, as it must: no server here has the data.
fn message(output: Output) -> String {
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{message}");
    message
}

#[test]
fn a_certificate_of_an_unknown_authority_is_refused_with_advice() {
    let (network, machine) = (Network::start(), Machine::new());
    let output = machine
        .fetch()
        .env("HTTPS_PROXY", &network.address)
        .output();
    let message = message(output.unwrap());
    assert!(message.contains("SSL_CERT_FILE"), "{message}");
    let seen = network.thread.join().unwrap();
    assert_eq!(seen.connect, format!("CONNECT {HOST}:443"));
    assert_eq!(seen.get, None);
}

#[test]
fn an_authority_in_ssl_cert_file_or_ssl_cert_dir_is_trusted_and_npm_is_told_of_it() {
    for variable in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
        let (network, machine) = (Network::start(), Machine::new());
        fs::create_dir(machine.path("certificates")).unwrap();
        let mut named = machine.path("certificates/company.pem");
        fs::write(&named, &network.authority).unwrap();
        if variable == "SSL_CERT_DIR" {
            named.pop();
        }
        let proxy = format!("http://{}", network.address);
        let output = machine
            .fetch()
            .env(variable, named)
            .env("all_proxy", &proxy)
            .output();
        let message = message(output.unwrap());
        assert!(message.contains("404"), "{message}");
        let seen = network.thread.join().unwrap();
        let get = seen.get.unwrap();
        assert_eq!(get, "GET /~kriz/cifar-10-binary.tar.gz");

        assert_eq!(machine.read("npm_proxy"), proxy);
        let told: String = machine.read("npm_authorities").split_whitespace().collect();
        let expected: String = network.authority.split_whitespace().collect();
        assert_eq!(told, expected);
    }
}

#[test]
fn a_file_of_authorities_that_is_not_there_is_named() {
    let (network, machine) = (Network::start(), Machine::new());
    let output = machine
        .fetch()
        .env("SSL_CERT_FILE", "/no/such/file.pem")
        .env("https_proxy", &network.address)
        .output();
    let message = message(output.unwrap());
    assert!(message.contains("'/no/such/file.pem'"), "{message}");
    network.thread.join().unwrap();
}

#[test]
fn a_wrong_address_of_a_proxy_is_named_by_its_variable_and_not_shown() {
    let output = Machine::new()
        .fetch()
        .env("HTTPS_PROXY", "ftp://me:secret@host")
        .env("NO_PROXY", "elsewhere.example")
        .output();
    let message = message(output.unwrap());
    let reason = "HTTPS_PROXY is not a valid proxy address";
    assert!(message.contains(reason), "{message}");
    assert!(!message.contains("secret"), "{message}");
}
