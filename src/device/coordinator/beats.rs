//! Signs of life between process 0 and the others: each of them sends beats, and process 0 answers them.

use std::io::{self, Read};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use super::message::{self, Request};

/// Bytes of the answer to a beat: its length, and that it is a value, which is empty.
const ANSWER: usize = 5;

/// Process 0's side: of whom a beat has come.
pub struct Heard(Vec<AtomicBool>);

impl Heard {
    pub fn none_of(processes: usize) -> Self {
        Self((0..processes).map(|_| AtomicBool::new(false)).collect())
    }

    pub fn note(&self, process: usize) {
        self.0[process].store(true, Ordering::SeqCst);
    }

    /// Whether a beat of `process` has come since this was asked last.
    pub fn take(&self, process: usize) -> bool {
        self.0[process].swap(false, Ordering::SeqCst)
    }
}

/// Another process's side: a connection to process 0 that carries nothing else.
pub struct Pulse {
    stream: TcpStream,
    /// Bytes of the answer to the last beat that have not come yet.
    missing: usize,
}

impl Pulse {
    pub fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, missing: 0 })
    }

    /// Sends a beat, if the last one was answered. Returns whether anything has come since the last call; waits for
    /// nothing. A connection that has ended is one over which nothing comes: another one says so.
    pub fn beat(&mut self) -> bool {
        let mut answer = [0; ANSWER];
        let read = self.stream.read(&mut answer[..self.missing]).unwrap_or(0);
        self.missing -= read;
        // With no beat under way there is room for one.
        let sent = || message::send(&mut &self.stream, &Request::Beat.encode());
        if self.missing == 0 && sent().is_ok() {
            self.missing = ANSWER;
        }
        read > 0
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;
    use std::thread;
    use std::time::Duration;

    use super::super::message::encode_answer;
    use super::*;

    #[test]
    fn a_beat_follows_when_the_last_one_was_answered_and_an_answer_is_heard_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut first, _) = listener.accept().unwrap();
        let mut pulse = Pulse::over(stream).unwrap();
        assert!(!pulse.beat());
        let beat = message::receive(&mut first, 10).unwrap();
        assert_eq!(Request::decode(&beat), Some(Request::Beat));
        assert!(!pulse.beat());
        let answer = encode_answer(&Ok(Vec::new()));
        message::send(&mut first, &answer).unwrap();
        while !pulse.beat() {
            thread::sleep(Duration::from_millis(1));
        }
        assert!(!pulse.beat());
        // The second one, and no more.
        assert_eq!(message::receive(&mut first, 10).unwrap(), beat);
        first.set_nonblocking(true).unwrap();
        assert!(message::receive(&mut first, 10).is_err());
        first.set_nonblocking(false).unwrap();
        // In two pieces, each a sign of life.
        first.write_all(&[1, 0]).unwrap();
        while !pulse.beat() {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(pulse.missing, ANSWER - 2);
        drop(first);
        assert!(!pulse.beat());
    }

    #[test]
    fn process_0_hears_each_beat_once() {
        let heard = Heard::none_of(3);
        heard.note(1);
        assert_eq!(
            [0, 1, 2].map(|process| heard.take(process)),
            [false, true, false]
        );
        assert!(!heard.take(1));
    }
}
