//! Process 0's side: answers the others, each connection in a thread of its own.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pjrt::{KeyValueStore, StoreError, StoreErrorKind};

use super::beats::Heard;
use super::message::{self, Answer, Hello, MOST, MOST_HELLO, Request};
use super::table::Table;
use super::watch::{self, HOSTS};
use crate::system::text;

/// The most bytes of all keys and values.
const MOST_KEPT: usize = 256 << 20;

/// How long a stranger may take to say who it is, and anybody to take an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Connections that a process may have open, one for each of its calls that wait.
const CONNECTIONS: usize = 16;

/// How long others may take to go when they have been told to.
pub const FAREWELL: Duration = Duration::from_secs(5);

/// Answers whoever connects, as long as this process lives.
pub struct Server {
    desk: Arc<Desk>,
}

/// What all connections share.
struct Desk {
    table: Arc<Table>,
    /// What process 0 says about itself.
    own: Hello,
    /// Where each process is, once it has come.
    places: Mutex<Vec<Option<String>>>,
    heard: Arc<Heard>,
}

impl Server {
    /// Answers whoever connects to `listener`; `own` is what this process says about itself, the first of several.
    ///
    /// # Errors
    /// The system starts no thread.
    pub fn start(listener: TcpListener, own: Hello) -> io::Result<Self> {
        let mut places = vec![None; own.processes as usize];
        if let Some(first) = places.first_mut() {
            *first = Some(own.place.clone());
        }
        let heard = Arc::new(Heard::none_of(places.len()));
        let desk = Arc::new(Desk {
            heard,
            table: Arc::new(Table::new(MOST_KEPT)),
            own,
            places: Mutex::new(places),
        });
        let shared = Arc::clone(&desk);
        let thread = thread::Builder::new().name("coordinator".to_owned());
        thread.spawn(move || accept(&listener, &shared))?;
        Ok(Self { desk })
    }

    /// The values.
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.desk.table)
    }

    /// The beats that have come.
    pub fn heard(&self) -> Arc<Heard> {
        Arc::clone(&self.desk.heard)
    }

    /// Tells the others `reason`, for which this process ends, and lets them go first.
    pub fn dismiss(&self, reason: &str) {
        let reason = StoreError::new(StoreErrorKind::Lost, reason);
        self.desk.table.close(reason);
        self.wait_until_alone(FAREWELL);
    }

    /// Waits until the connections of all others have ended, but not longer than `most`.
    pub fn wait_until_alone(&self, most: Duration) {
        let start = Instant::now();
        // One is held here, and one by the thread that accepts connections.
        while Arc::strong_count(&self.desk) > 2 && start.elapsed() < most {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn accept(listener: &TcpListener, desk: &Arc<Desk>) {
    let most = CONNECTIONS * (1 + desk.own.processes as usize);
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // Too many files are open, for example.
            thread::sleep(Duration::from_millis(100));
            continue;
        };
        // Every connection holds the desk. One that is dropped is closed.
        if Arc::strong_count(desk) > most {
            continue;
        }
        let desk = Arc::clone(desk);
        let thread = thread::Builder::new().name("coordinator".to_owned());
        // Without a thread the connection is closed, and the other side says so.
        let _ = thread.spawn(move || desk.attend(stream));
    }
}

impl Desk {
    /// Answers one connection until it ends.
    fn attend(&self, mut stream: TcpStream) {
        // Whoever does not say who it is, is nobody.
        let Ok(Some(hello)) = hear(&mut stream) else {
            return;
        };
        let admitted = self.admit(&hello);
        let answer = admitted.map(|()| Vec::new());
        let is_refused = answer.is_err();
        if answer_to(&mut stream, &answer).is_err() || is_refused {
            return;
        }
        let process = hello.process;
        let answered = self.answer_all(&mut stream, process as usize);
        let parting = watch::parting(process as usize);
        if self.table.try_get(parting.as_bytes()).is_ok() {
            return;
        }
        let words = watch::last_words(process as usize);
        let reason = match (self.table.try_get(words.as_bytes()), answered) {
            (Ok(words), _) => text::one_line(&String::from_utf8_lossy(&words)).into_owned(),
            (Err(_), Ok(())) => self.gone(&hello, "its connection was closed"),
            (Err(_), Err(error)) => self.gone(&hello, &error.to_string()),
        };
        self.table
            .close(StoreError::new(StoreErrorKind::Lost, reason));
    }

    /// Answers requests of `process` until there are no more.
    fn answer_all(&self, stream: &mut TcpStream, process: usize) -> io::Result<()> {
        stream.set_read_timeout(None)?;
        loop {
            let bytes = match message::receive(stream, MOST) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            };
            let Some(request) = Request::decode(&bytes) else {
                return Err(io::Error::other("it sent what is no request"));
            };
            if request == Request::Beat {
                self.heard.note(process);
            }
            let answer = self.answer(request, stream);
            answer_to(stream, &answer)?;
        }
    }

    fn answer(&self, request: Request, stream: &TcpStream) -> Answer {
        match request {
            Request::Put { key, value } => self.table.put(&key, &value).map(|()| Vec::new()),
            Request::Get { key, milliseconds } => {
                let timeout = Duration::from_millis(milliseconds.into());
                // Who has ended while it waited shall be missed at once.
                self.table.get_while(&key, timeout, || is_open(stream))
            }
            Request::TryGet { key } => self.table.try_get(&key),
            Request::Hello(_) | Request::Beat => Ok(Vec::new()),
        }
    }

    /// What there is to say of a process that ended without a word.
    fn gone(&self, hello: &Hello, reason: &str) -> String {
        let (process, count) = (hello.process, hello.processes);
        let host = self.table.try_get(format!("{HOSTS}/{process}").as_bytes());
        let host = host.map_or(String::new(), |host| {
            format!(", on {},", text::one_line(&String::from_utf8_lossy(&host)))
        });
        format!(
            "process {process} of {count}{host} has ended, or the network to it ({reason}); see what it said last"
        )
    }

    /// Takes note of a process, or refuses it, and with it the whole run if that has not begun.
    fn admit(&self, hello: &Hello) -> Result<(), StoreError> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let refusal = refusal(&self.own, hello, &places);
        let Some(refusal) = refusal else {
            places[hello.process as usize] = Some(hello.place.clone());
            return Ok(());
        };
        let refusal = StoreError::new(StoreErrorKind::Refused, refusal);
        if places.iter().any(Option::is_none) {
            self.table.close(refusal.clone());
        }
        Err(refusal)
    }
}

/// Why `hello` does not fit to what process 0 says, `own`, and to the others, which are at `places`; none if it does.
fn refusal(own: &Hello, hello: &Hello, places: &[Option<String>]) -> Option<String> {
    let Hello {
        program,
        processes,
        process,
        place,
    } = hello;
    if *program != own.program {
        return Some(format!(
            "process 0 is of {}, and process {process} of {program}; start the same program in all",
            own.program
        ));
    }
    if *processes != own.processes {
        return Some(format!(
            "process 0 says that there are {} processes, and process {process} that there are {processes}; start all with \
             the same number",
            own.processes
        ));
    }
    match places.get(*process as usize) {
        None => Some(format!(
            "one of {processes} processes says that it is process {process}; expected 0 to {}",
            processes - 1
        )),
        Some(Some(before)) if before != place => Some(format!(
            "two processes say that they are process {process} of {processes}; start each with a number of its own"
        )),
        Some(_) => None,
    }
}

/// What the other side says about itself; none if it says something else.
fn hear(stream: &mut TcpStream) -> io::Result<Option<Hello>> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let bytes = message::receive(stream, MOST_HELLO)?;
    Ok(match Request::decode(&bytes) {
        Some(Request::Hello(hello)) => Some(hello),
        _ => None,
    })
}

/// Whether the other side, which waits for an answer, is still there.
fn is_open(stream: &TcpStream) -> bool {
    let peeked = stream
        .set_nonblocking(true)
        .and_then(|()| stream.peek(&mut [0]));
    let is_blocking = stream.set_nonblocking(false).is_ok();
    let is_there = match peeked {
        Ok(bytes) => bytes > 0,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    };
    is_there && is_blocking
}

fn answer_to(stream: &mut TcpStream, answer: &Answer) -> io::Result<()> {
    message::send(stream, &message::encode_answer(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(process: u32, place: &str) -> Hello {
        Hello {
            program: "resnet-xla 1".to_owned(),
            processes: 3,
            process,
            place: place.to_owned(),
        }
    }

    #[test]
    fn processes_that_do_not_fit_together_are_told_what_differs() {
        let own = hello(0, "a");
        let places = [Some("a".to_owned()), Some("b".to_owned()), None];
        let refused = |hello: &Hello| refusal(&own, hello, &places);
        assert_eq!(refused(&hello(2, "c")), None);
        // The second connection of a process.
        assert_eq!(refused(&hello(1, "b")), None);
        let other_program = Hello {
            program: "resnet-xla 2".to_owned(),
            ..hello(2, "c")
        };
        let other_number = Hello {
            processes: 4,
            ..hello(2, "c")
        };
        for (hello, said) in [
            (
                other_program,
                "process 0 is of resnet-xla 1, and process 2 of resnet-xla 2",
            ),
            (
                other_number,
                "process 0 says that there are 3 processes, and process 2 that there are 4",
            ),
            (
                hello(1, "c"),
                "two processes say that they are process 1 of 3",
            ),
            (
                hello(0, "c"),
                "two processes say that they are process 0 of 3",
            ),
            (
                hello(3, "c"),
                "one of 3 processes says that it is process 3; expected 0 to 2",
            ),
        ] {
            let refusal = refused(&hello).unwrap();
            assert!(refusal.starts_with(said), "{refusal}");
        }
    }
}
