//! The side of the processes other than the first: each call is a question to process 0.

use std::io;
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pjrt::{KeyValueStore, StoreError, StoreErrorKind};

use super::address::Address;
use super::beats::Pulse;
use super::message::{self, Answer, Hello, MOST, Request};

/// How long one address may take to answer, and process 0 beyond the time that it was asked to wait.
const PATIENCE: Duration = Duration::from_secs(20);

/// The shortest that it may take.
const SHORTEST: Duration = Duration::from_millis(1);

/// Between two tries to reach process 0, which may start later.
const RETRY: Duration = Duration::from_millis(200);

/// The values that process 0 has.
pub struct Client {
    address: Address,
    hello: Hello,
    /// Open connections that nobody uses. A call that waits keeps its own, so that others need not wait for it.
    idle: Mutex<Vec<TcpStream>>,
}

/// Why there is no connection.
enum Unconnected {
    /// Process 0 does not want this process, and says why.
    Refused(StoreError),
    /// Nobody answers, or somebody else.
    Silent(io::Error),
}

impl From<io::Error> for Unconnected {
    fn from(error: io::Error) -> Self {
        Self::Silent(error)
    }
}

impl Client {
    /// Connects to process 0 at `address` as the process that `hello` says, and tries again `until` then.
    ///
    /// # Errors
    /// [`StoreErrorKind::Refused`] with what process 0 says; [`StoreErrorKind::TimedOut`] with what went wrong last.
    pub fn connect(address: &Address, hello: Hello, until: Instant) -> Result<Self, StoreError> {
        loop {
            match open(address, &hello, until) {
                Ok(stream) => {
                    return Ok(Self {
                        address: address.clone(),
                        hello,
                        idle: Mutex::new(vec![stream]),
                    });
                }
                Err(Unconnected::Refused(reason)) => return Err(reason),
                // A try at the very end would have no time, and say nothing but that.
                Err(Unconnected::Silent(reason)) if Instant::now() + RETRY >= until => {
                    let reason = reason.to_string();
                    return Err(StoreError::new(StoreErrorKind::TimedOut, reason));
                }
                Err(Unconnected::Silent(_)) => thread::sleep(RETRY),
            }
        }
    }

    /// A connection for beats alone.
    pub fn pulse(&self) -> Result<Pulse, StoreError> {
        let pulse = Pulse::over(self.open()?);
        pulse.map_err(|error| self.lost(&error))
    }

    /// Asks process 0, which may take `wait` to answer.
    fn ask(&self, request: &Request, wait: Duration) -> Answer {
        let bytes = request.encode();
        if bytes.len() > MOST {
            let message = format!(
                "a value of {} bytes with its key is too much; expected at most {MOST}",
                bytes.len()
            );
            return Err(StoreError::new(StoreErrorKind::Full, message));
        }
        let idle = self.idle().pop();
        let mut stream = match idle {
            Some(stream) => stream,
            None => self.open()?,
        };
        let answer =
            exchange(&mut stream, &bytes, wait + PATIENCE).map_err(|error| self.lost(&error))?;
        self.idle().push(stream);
        answer
    }

    /// One more connection.
    fn open(&self) -> Result<TcpStream, StoreError> {
        let opened = open(&self.address, &self.hello, Instant::now() + PATIENCE);
        opened.map_err(|error| match error {
            Unconnected::Refused(reason) => reason,
            Unconnected::Silent(reason) => self.lost(&reason),
        })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self, reason: &io::Error) -> StoreError {
        let message = format!(
            "process 0 at {} has ended, or the network to it ({reason}); see what it said last",
            self.address
        );
        StoreError::new(StoreErrorKind::Lost, message)
    }
}

impl KeyValueStore for Client {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let (key, value) = (key.to_vec(), value.to_vec());
        self.ask(&Request::Put { key, value }, Duration::ZERO)
            .map(drop)
    }

    fn get(&self, key: &[u8], timeout: Duration) -> Result<Vec<u8>, StoreError> {
        let key = key.to_vec();
        let milliseconds = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        self.ask(&Request::Get { key, milliseconds }, timeout)
    }

    fn try_get(&self, key: &[u8]) -> Result<Vec<u8>, StoreError> {
        let key = key.to_vec();
        self.ask(&Request::TryGet { key }, Duration::ZERO)
    }
}

/// A connection to process 0, which has taken note of this process. It takes no longer than `until` then, but for the time
/// that it takes to look up the name.
fn open(address: &Address, hello: &Hello, until: Instant) -> Result<TcpStream, Unconnected> {
    // A system refuses to wait for no time at all.
    let left = || {
        let left = until.saturating_duration_since(Instant::now());
        left.clamp(SHORTEST, PATIENCE)
    };
    let mut reason = io::Error::other("the name leads to no address");
    for address in address.resolve()? {
        match TcpStream::connect_timeout(&address, left()) {
            // Where nobody listens yet, at a port that the system has just given to this end too.
            Ok(stream) if stream.local_addr()? == stream.peer_addr()? => {
                reason = io::ErrorKind::ConnectionRefused.into();
            }
            Ok(mut stream) => {
                let hello = Request::Hello(hello.clone()).encode();
                let answer = exchange(&mut stream, &hello, left())?;
                return answer.map(|_| stream).map_err(Unconnected::Refused);
            }
            Err(error) => reason = error,
        }
    }
    Err(reason.into())
}

/// Sends a request and receives the answer, within `wait`.
fn exchange(stream: &mut TcpStream, request: &[u8], wait: Duration) -> io::Result<Answer> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(wait))?;
    message::send(stream, request)?;
    let answer = message::receive(stream, MOST + 1).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::other("the connection was closed"),
        io::ErrorKind::WouldBlock => io::Error::other("it does not answer"),
        _ => error,
    })?;
    let answer = message::decode_answer(&answer);
    answer.ok_or_else(|| io::Error::other("what answers is no such program"))
}
