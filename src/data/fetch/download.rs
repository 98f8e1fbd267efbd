//! A download over HTTP that resumes where an earlier one stopped.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use ureq::Agent;
use ureq::http::StatusCode;
use ureq::tls::TlsConfig;

use super::{proxy, trust};
use crate::data::error::DataError;
use crate::data::fetch::checksum::sha256_of_file;
use crate::data::progress::Progress;

/// Short, so that a machine without internet access soon tries the next source.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout for one connection; the next one resumes.
const BODY_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// Most connections per call, as long as each one delivers something.
const CONNECTIONS: u32 = 5;
/// Keeps a server from filling the disk.
const MAX_LEN: u64 = 1 << 30;

/// Downloads `url`, appending to what the file `partial` already holds, until it has the expected sum.
///
/// # Errors
///
/// [`DataError::Download`] if the server cannot be reached or sends something else. What was received stays in
/// `partial` for the next call, unless it is complete and wrong.
pub(super) fn download(url: &str, sha256: &str, partial: &Path) -> Result<(), DataError> {
    let agent = agent(url)?;
    loop {
        let resumed = length(partial) > 0;
        receive_all(&agent, url, partial)?;
        let got = sha256_of_file(partial)?;
        if got == sha256 {
            return Ok(());
        }
        fs::remove_file(partial).map_err(DataError::io("remove", partial))?;
        let reason = format!("wrong SHA-256 sum: expected {sha256}, got {got}");
        if !resumed {
            return Err(failed(url, reason));
        }
        log::warn!("{url}: {reason}; starting again from the first byte");
    }
}

/// An HTTP agent for `url`, with the proxy and certificates that this machine's network needs.
fn agent(url: &str) -> Result<Agent, DataError> {
    let proxy = proxy::of(url, &proxy::environment).map_err(|reason| failed(url, reason))?;
    let tls = TlsConfig::builder().root_certs(trust::root_certs()).build();
    let config = Agent::config_builder()
        .proxy(proxy)
        .tls_config(tls)
        .timeout_resolve(Some(CONNECT_TIMEOUT))
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_recv_response(Some(RESPONSE_TIMEOUT))
        .timeout_recv_body(Some(BODY_TIMEOUT))
        .build();
    Ok(Agent::new_with_config(config))
}

/// Reconnects after a broken connection, but not after one that delivered nothing.
fn receive_all(agent: &Agent, url: &str, partial: &Path) -> Result<(), DataError> {
    let mut connection = 1;
    loop {
        let before = length(partial);
        let Err(error) = receive(agent, url, partial) else {
            return Ok(());
        };
        if connection == CONNECTIONS || length(partial) <= before {
            return Err(error);
        }
        log::warn!("{error}; resuming at byte {}", length(partial));
        connection += 1;
    }
}

/// One connection: requests the bytes that `partial` lacks and appends them.
fn receive(agent: &Agent, url: &str, partial: &Path) -> Result<(), DataError> {
    let start = length(partial);
    let mut request = agent.get(url);
    if start > 0 {
        request = request.header("Range", format!("bytes={start}-"));
    }
    let mut response = match request.call() {
        Ok(response) => response,
        // There is nothing after `start`: the checksum shows whether the file is complete.
        Err(ureq::Error::StatusCode(416)) => return Ok(()),
        Err(error) => {
            let reason = format!("{error}{}", trust::advice(&error));
            return Err(failed(url, reason));
        }
    };

    let resumes = response.status() == StatusCode::PARTIAL_CONTENT;
    let start = if resumes { start } else { 0 };
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .append(resumes)
        .truncate(!resumes)
        .open(partial)
        .map_err(DataError::io("open", partial))?;

    let body = response.body_mut();
    let expected = body.content_length().map(|length| start + length);
    let mut progress = expected.map(|expected| Progress::of_bytes(url, expected));
    let mut reader = body.as_reader();
    let mut done = start;
    let mut buffer = vec![0; 1 << 16];
    while done < MAX_LEN {
        let count = reader
            .read(&mut buffer)
            .map_err(|error| failed(url, error.to_string()))?;
        if count == 0 {
            break;
        }
        file.write_all(&buffer[..count])
            .map_err(DataError::io("write", partial))?;
        done += count as u64;
        if let Some(progress) = &mut progress {
            progress.set(done);
        }
    }
    match expected {
        Some(expected) if done < expected => {
            Err(failed(url, format!("got {done} of {expected} bytes")))
        }
        _ => Ok(()),
    }
}

/// The length of a file, or 0 if it does not exist.
fn length(path: &Path) -> u64 {
    File::open(path)
        .and_then(|file| file.metadata())
        .map_or(0, |metadata| metadata.len())
}

fn failed(url: &str, reason: String) -> DataError {
    DataError::Download {
        url: url.to_string(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::{TcpListener, TcpStream};
    use std::path::PathBuf;
    use std::thread::{JoinHandle, spawn};

    use super::*;
    use crate::system::sha256;

    const CONTENT: &[u8] = b"0123456789abcdef";

    /// How the server handles one connection.
    #[derive(Clone, Copy)]
    enum Answer {
        /// Sends what was asked for.
        All,
        /// Disconnects after that many bytes.
        Cut(usize),
        /// Sends everything, ignoring the requested range.
        IgnoreRange,
    }

    /// Serves `CONTENT` once for each answer; the thread returns the `Range` headers that it saw.
    fn serve(answers: &'static [Answer]) -> (String, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/file", listener.local_addr().unwrap());
        let server = spawn(move || {
            let connections = answers
                .iter()
                .map(|answer| (listener.accept().unwrap().0, answer));
            connections
                .map(|(stream, answer)| serve_once(stream, *answer))
                .collect()
        });
        (url, server)
    }

    fn serve_once(mut stream: TcpStream, answer: Answer) -> String {
        let range = BufReader::new(&stream)
            .lines()
            .map(Result::unwrap)
            .take_while(|line| !line.is_empty())
            .find_map(|line| {
                line.to_lowercase()
                    .strip_prefix("range: ")
                    .map(str::to_string)
            })
            .unwrap_or_default();
        let start = range
            .strip_prefix("bytes=")
            .map_or(0, |range| range.trim_end_matches('-').parse().unwrap());
        let (status, body) = match answer {
            Answer::All | Answer::Cut(_) if start >= CONTENT.len() => {
                ("416 Range Not Satisfiable", &[][..])
            }
            Answer::All | Answer::Cut(_) if start > 0 => ("206 Partial Content", &CONTENT[start..]),
            _ => ("200 OK", CONTENT),
        };
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let sent = match answer {
            Answer::Cut(bytes) => bytes.min(length),
            _ => length,
        };
        stream.write_all(&body[..sent]).unwrap();
        range
    }

    /// A folder, and the path of a file in it that holds `content`.
    fn partial(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.partial");
        fs::write(&path, content).unwrap();
        (folder, path)
    }

    #[test]
    fn a_broken_connection_is_resumed_where_it_broke() {
        let (url, server) = serve(&[Answer::Cut(5), Answer::Cut(4), Answer::All]);
        let (_folder, path) = partial(b"");
        download(&url, &sha256::sum(CONTENT), &path).unwrap();
        assert_eq!(fs::read(path).unwrap(), CONTENT);
        assert_eq!(server.join().unwrap(), ["", "bytes=5-", "bytes=9-"]);
    }

    #[test]
    fn a_later_call_goes_on_with_what_an_earlier_one_left() {
        let (url, server) = serve(&[Answer::All]);
        let (_folder, path) = partial(&CONTENT[..7]);
        download(&url, &sha256::sum(CONTENT), &path).unwrap();
        assert_eq!(fs::read(path).unwrap(), CONTENT);
        assert_eq!(server.join().unwrap(), ["bytes=7-"]);
    }

    #[test]
    fn a_server_without_ranges_sends_the_file_again() {
        let (url, server) = serve(&[Answer::IgnoreRange]);
        let (_folder, path) = partial(&CONTENT[..7]);
        download(&url, &sha256::sum(CONTENT), &path).unwrap();
        assert_eq!(fs::read(path).unwrap(), CONTENT);
        server.join().unwrap();
    }

    #[test]
    fn a_complete_partial_file_is_kept() {
        let (url, server) = serve(&[Answer::All]);
        let (_folder, path) = partial(CONTENT);
        download(&url, &sha256::sum(CONTENT), &path).unwrap();
        assert_eq!(server.join().unwrap(), ["bytes=16-"]);
    }

    #[test]
    fn a_partial_file_with_other_content_is_started_again() {
        let (url, server) = serve(&[Answer::All, Answer::All]);
        let (_folder, path) = partial(b"garbage");
        download(&url, &sha256::sum(CONTENT), &path).unwrap();
        assert_eq!(fs::read(path).unwrap(), CONTENT);
        assert_eq!(server.join().unwrap(), ["bytes=7-", ""]);
    }

    #[test]
    fn another_file_than_expected_is_refused_and_removed() {
        let (url, server) = serve(&[Answer::All]);
        let (_folder, path) = partial(b"");
        let error = download(&url, &sha256::sum(b"other"), &path).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "cannot download {url}: wrong SHA-256 sum: expected {}, got {}",
                sha256::sum(b"other"),
                sha256::sum(CONTENT)
            )
        );
        assert!(!path.exists());
        server.join().unwrap();
    }

    #[test]
    fn a_server_that_sends_nothing_is_not_asked_again() {
        let (url, server) = serve(&[Answer::Cut(0)]);
        let (_folder, path) = partial(b"");
        assert!(download(&url, &sha256::sum(CONTENT), &path).is_err());
        server.join().unwrap();
    }
}
