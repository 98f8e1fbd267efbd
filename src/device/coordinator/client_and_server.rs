//! Tests of process 0's server and of clients, which talk to each other over TCP.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use pjrt::{KeyValueStore, StoreErrorKind};

use super::address::Address;
use super::client::Client;
use super::message::{self, Hello, Request};
use super::server::Server;
use super::table;

fn at(address: &str) -> Address {
    address.parse().unwrap()
}

fn hello(process: u32) -> Hello {
    Hello {
        program: "resnet-xla".to_owned(),
        processes: 2,
        process,
        place: format!("a {process}"),
    }
}

const LONG: Duration = Duration::from_secs(60);

fn soon() -> Instant {
    Instant::now() + LONG
}

/// Process 0's values, the address at which it answers, and process 1, which asks there.
fn two() -> (Arc<table::Table>, Address, Client) {
    let listener = at("127.0.0.1:0").listen().unwrap();
    let address = at(&listener.local_addr().unwrap().to_string());
    let server = Server::start(listener, hello(0)).unwrap();
    let client = Client::connect(&address, hello(1), soon()).unwrap();
    (server.table(), address, client)
}

#[test]
fn a_call_that_waits_holds_up_no_other() {
    let (table, _, client) = two();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| client.get(b"late", LONG));
        for number in 0..20u8 {
            client.put(&[number], b"value").unwrap();
            assert_eq!(table.try_get(&[number]).unwrap(), b"value");
        }
        assert!(!waiting.is_finished());
        table.put(b"late", b"now").unwrap();
        assert_eq!(waiting.join().unwrap().unwrap(), b"now");
    });
    let large = vec![7; 5 << 20];
    client.put(b"large", &large).unwrap();
    assert!(client.get(b"large", LONG).unwrap() == large);
    let missing = client.try_get(b"missing").unwrap_err();
    assert_eq!(missing.kind, StoreErrorKind::NotFound);
    let late = client.get(b"never", Duration::from_millis(20)).unwrap_err();
    assert_eq!(late.kind, StoreErrorKind::TimedOut);
    assert!(late.message.contains("`never`"), "{late}");
}

#[test]
fn a_process_that_ends_is_named_to_those_that_wait() {
    let (table, _, client) = two();
    client.put(b"key", b"value").unwrap();
    drop(client);
    let lost = table.get(b"another", LONG).unwrap_err();
    assert_eq!(lost.kind, StoreErrorKind::Lost);
    assert!(
        lost.message.starts_with("process 1 of 2 has ended"),
        "{lost}"
    );
    assert_eq!(table.get(b"key", LONG).unwrap(), b"value");
}

#[test]
fn strangers_are_sent_away_and_disturb_nobody() {
    use std::io::{Read, Write};

    let (table, address, client) = two();
    let put = Request::Put {
        key: b"key".to_vec(),
        value: b"of a stranger".to_vec(),
    };
    let mut unannounced = Vec::new();
    message::send(&mut unannounced, &put.encode()).unwrap();
    let too_long = (message::MOST_HELLO as u32 + 1).to_le_bytes();
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 64][..],
        &too_long[..],
        &unannounced[..],
    ] {
        let mut stream = std::net::TcpStream::connect(address.to_string()).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        // It may be cut off with what it sent unread.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{answer:?}");
    }
    assert!(table.try_get(b"key").is_err());
    client.put(b"key", b"value").unwrap();
    assert_eq!(client.get(b"key", LONG).unwrap(), b"value");
    // A third one with a number that is taken is refused, and the run goes on.
    let twin = Hello {
        place: "b 1".to_owned(),
        ..hello(1)
    };
    let refused = Client::connect(&address, twin, soon()).err().unwrap();
    assert_eq!(refused.kind, StoreErrorKind::Refused);
    assert!(table.put(b"other", b"value").is_ok());
    assert_eq!(client.get(b"other", LONG).unwrap(), b"value");
}
