//! What processes say to the coordinator and what it answers, as bytes.
//!
//! ```text
//!  frame    length (u32, little-endian), then as many bytes: a request or an answer
//!  request  kind (u8), then its fields
//!  answer   kind (u8), then all the rest: the value, or why there is none
//!  field    a number (u32), or bytes with their length (u32) before them
//! ```

use std::io::{self, Read, Write};

use pjrt::{StoreError, StoreErrorKind};

/// The most bytes of a frame. What a plugin says about the devices of a thousand processes has a few million.
pub const MOST: usize = 64 << 20;

/// The most bytes of the first frame, from somebody who may be anybody.
pub const MOST_HELLO: usize = 4 << 10;

/// What every process of this program says first, in all its versions.
const MAGIC: &[u8] = b"resnet-xla coordinator";

/// What a process says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Version and commit of the program.
    pub program: String,
    pub processes: u32,
    pub process: u32,
    /// Where it is: [`crate::system::watch::own_place`].
    pub place: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Hello(Hello),
    Put {
        key: Vec<u8>,
        value: Vec<u8>,
    },
    Get {
        key: Vec<u8>,
        milliseconds: u32,
    },
    TryGet {
        key: Vec<u8>,
    },
    /// A sign of life, which is answered by another.
    Beat,
}

/// A value, which is empty where none was asked for.
pub type Answer = Result<Vec<u8>, StoreError>;

const HELLO: u8 = 0;
const PUT: u8 = 1;
const GET: u8 = 2;
const TRY_GET: u8 = 3;
const BEAT: u8 = 4;

const VALUE: u8 = 0;
/// The kinds of answer from 1 on.
const ERRORS: [StoreErrorKind; 7] = [
    StoreErrorKind::NotFound,
    StoreErrorKind::TimedOut,
    StoreErrorKind::AlreadyThere,
    StoreErrorKind::Full,
    StoreErrorKind::Refused,
    StoreErrorKind::Lost,
    StoreErrorKind::Internal,
];

impl Request {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Hello(hello) => {
                out.push(HELLO);
                add(&mut out, MAGIC);
                add(&mut out, hello.program.as_bytes());
                out.extend(hello.processes.to_le_bytes());
                out.extend(hello.process.to_le_bytes());
                add(&mut out, hello.place.as_bytes());
            }
            Self::Put { key, value } => {
                out.push(PUT);
                add(&mut out, key);
                add(&mut out, value);
            }
            Self::Get { key, milliseconds } => {
                out.push(GET);
                add(&mut out, key);
                out.extend(milliseconds.to_le_bytes());
            }
            Self::TryGet { key } => {
                out.push(TRY_GET);
                add(&mut out, key);
            }
            Self::Beat => out.push(BEAT),
        }
        out
    }

    /// The request in `bytes`, if they are one.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let request = match fields.byte()? {
            HELLO => {
                (fields.bytes()? == MAGIC).then_some(())?;
                Self::Hello(Hello {
                    program: fields.text()?,
                    processes: fields.number()?,
                    process: fields.number()?,
                    place: fields.text()?,
                })
            }
            PUT => Self::Put {
                key: fields.bytes()?.to_vec(),
                value: fields.bytes()?.to_vec(),
            },
            GET => Self::Get {
                key: fields.bytes()?.to_vec(),
                milliseconds: fields.number()?,
            },
            TRY_GET => Self::TryGet {
                key: fields.bytes()?.to_vec(),
            },
            BEAT => Self::Beat,
            _ => return None,
        };
        fields.0.is_empty().then_some(request)
    }
}

/// An answer as bytes.
pub fn encode_answer(answer: &Answer) -> Vec<u8> {
    let (kind, rest) = match answer {
        Ok(value) => (VALUE, value.as_slice()),
        Err(error) => {
            let number = ERRORS.iter().position(|kind| *kind == error.kind);
            // A kind that is not listed would be a fault of the store itself.
            let number = number.unwrap_or(ERRORS.len() - 1);
            (1 + number as u8, error.message.as_bytes())
        }
    };
    [&[kind], rest].concat()
}

/// The answer in `bytes`, if they are one.
pub fn decode_answer(bytes: &[u8]) -> Option<Answer> {
    let (&kind, rest) = bytes.split_first()?;
    if kind == VALUE {
        return Some(Ok(rest.to_vec()));
    }
    let kind = *ERRORS.get(usize::from(kind) - 1)?;
    let message = std::str::from_utf8(rest).ok()?;
    Some(Err(StoreError::new(kind, message)))
}

/// Sends `bytes`, at most [`MOST`], as a frame.
pub fn send(stream: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let len = bytes.len() as u32;
    // In one piece, which one packet can carry.
    stream.write_all(&[&len.to_le_bytes(), bytes].concat())
}

/// The bytes of the next frame.
///
/// # Errors
/// A frame of more than `most` bytes, or one that ends early. Memory is taken only for bytes that came.
pub fn receive(stream: &mut impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut len = [0; 4];
    stream.read_exact(&mut len)?;
    let len = u32::from_le_bytes(len) as usize;
    if len > most {
        let message = format!("a message of {len} bytes, expected at most {most}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    let mut bytes = Vec::new();
    stream.by_ref().take(len as u64).read_to_end(&mut bytes)?;
    match bytes.len() == len {
        true => Ok(bytes),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn add(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u32).to_le_bytes());
    out.extend(bytes);
}

/// What is left of a request.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn number(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*first))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.number()? as usize;
        let (first, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(first)
    }

    fn text(&mut self) -> Option<String> {
        let bytes = self.bytes()?.to_vec();
        String::from_utf8(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request() -> impl Strategy<Value = Request> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..40);
        let hello = (any::<(u32, u32)>(), ".{0,9}", ".{0,9}");
        prop_oneof![
            hello.prop_map(
                |((processes, process), program, place)| Request::Hello(Hello {
                    program,
                    processes,
                    process,
                    place,
                })
            ),
            (bytes(), bytes()).prop_map(|(key, value)| Request::Put { key, value }),
            (bytes(), any::<u32>())
                .prop_map(|(key, milliseconds)| Request::Get { key, milliseconds }),
            bytes().prop_map(|key| Request::TryGet { key }),
            Just(Request::Beat),
        ]
    }

    proptest! {
        #[test]
        fn what_is_sent_is_received_and_what_is_cut_is_not(
            request in request(),
            at in any::<prop::sample::Index>(),
        ) {
            let bytes = request.encode();
            let mut frame = Vec::new();
            send(&mut frame, &bytes).unwrap();
            let received = receive(&mut frame.as_slice(), MOST).unwrap();
            prop_assert_eq!(Request::decode(&received), Some(request));
            prop_assert_eq!(Request::decode(&bytes[..at.index(bytes.len())]), None);
            prop_assert_eq!(Request::decode(&[&bytes[..], &[0]].concat()), None);
            let cut = &frame[..at.index(frame.len())];
            prop_assert!(receive(&mut &cut[..], MOST).is_err());
        }

        #[test]
        fn what_is_answered_is_understood(value in prop::collection::vec(any::<u8>(), 0..40), kind in 0usize..7) {
            let mut answers = vec![Ok(value)];
            answers.push(Err(StoreError::new(ERRORS[kind], "é")));
            for answer in answers {
                prop_assert_eq!(decode_answer(&encode_answer(&answer)), Some(answer));
            }
        }
    }

    #[test]
    fn a_length_that_is_a_lie_takes_no_memory() {
        let announced = (MOST as u32).to_le_bytes();
        let frame = [&announced[..], b"short"].concat();
        let taken = allocation_counter::measure(|| {
            assert!(receive(&mut frame.as_slice(), MOST).is_err());
        });
        assert!(taken.bytes_max < 100_000, "{} bytes", taken.bytes_max);
        let longer = (MOST as u32 + 1).to_le_bytes();
        let fault = receive(&mut longer.as_slice(), MOST).unwrap_err();
        assert!(fault.to_string().contains("expected at most"), "{fault}");
    }
}
