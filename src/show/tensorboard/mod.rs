//! Event files for TensorBoard: scalars, histograms, images and text of a run.
//!
//! An event file is a sequence of records (`record.rs`), each with one `Event` message (`messages.rs`).

mod histogram;
mod messages;
mod record;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;
use thiserror::Error;

use crate::run::run_dir::EVENT_FILE_PREFIX;
use crate::system::proc;

use histogram::histogram;
use messages::{
    Content, Event, Image, Metadata, Plugin, START, STRING, SessionLog, Shape, Summary, Tensor,
    Value, What,
};

/// An event file that cannot be written.
#[derive(Debug, Error)]
#[error("cannot write the event file {}: {reason}; check that there is space left", path.display())]
pub struct EventError {
    path: PathBuf,
    reason: io::Error,
}

/// An event file that is being written. Every call leaves only complete records on disk.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: BufWriter<File>,
}

impl EventWriter {
    /// Starts a new event file in `folder`. A resumed run has one file per start, which TensorBoard joins in the
    /// order of their names. It discards events of earlier files from `step` on.
    pub fn create(folder: &Path, step: u64) -> Result<Self, EventError> {
        let failed = |path: &Path, reason| EventError {
            path: path.to_owned(),
            reason,
        };
        let latest = latest(folder).map_err(|reason| failed(folder, reason))?;
        let name = format!(
            "{EVENT_FILE_PREFIX}{:010}.{}.{}",
            // The clock may have been set back since the last start.
            now().as_secs().max(latest + 1),
            hostname(),
            std::process::id()
        );
        let path = folder.join(name);
        let file = File::create_new(&path).map_err(|reason| failed(&path, reason))?;
        let mut writer = Self {
            path,
            file: BufWriter::new(file),
        };
        writer.event(0, What::FileVersion("brain.Event:2".to_owned()))?;
        writer.event(step, What::SessionLog(SessionLog { status: START }))?;
        Ok(writer)
    }

    /// Writes numbers with their tags.
    pub fn scalars(&mut self, step: u64, scalars: &[(&str, f64)]) -> Result<(), EventError> {
        let values = scalars.iter().map(|(tag, value)| Value {
            tag: (*tag).to_owned(),
            metadata: None,
            content: Some(Content::Scalar(*value as f32)),
        });
        self.summary(step, values.collect())
    }

    /// Writes the distribution of a tensor's values.
    pub fn histogram(&mut self, step: u64, tag: &str, values: &[f32]) -> Result<(), EventError> {
        let content = Content::Histogram(histogram(values));
        self.summary(step, vec![value(tag, None, content)])
    }

    /// Writes a picture of `size` (width, height), encoded as PNG.
    pub fn image(
        &mut self,
        step: u64,
        tag: &str,
        (width, height): (u32, u32),
        png: Vec<u8>,
    ) -> Result<(), EventError> {
        let content = Content::Image(Image {
            height: height as i32,
            width: width as i32,
            colorspace: 3,
            encoded: png,
        });
        self.summary(step, vec![value(tag, None, content)])
    }

    /// Writes text, which TensorBoard shows as Markdown.
    pub fn text(&mut self, step: u64, tag: &str, text: &str) -> Result<(), EventError> {
        let content = Content::Tensor(Tensor {
            dtype: STRING,
            shape: Some(Shape {}),
            strings: vec![text.as_bytes().to_vec()],
        });
        self.summary(step, vec![value(tag, Some("text"), content)])
    }

    fn summary(&mut self, step: u64, values: Vec<Value>) -> Result<(), EventError> {
        self.event(step, What::Summary(Summary { values }))
    }

    fn event(&mut self, step: u64, what: What) -> Result<(), EventError> {
        let event = Event {
            wall_time: now().as_secs_f64(),
            step: step as i64,
            what: Some(what),
        };
        record::write_record(&mut self.file, &event.encode_to_vec())
            .and_then(|()| self.file.flush())
            .map_err(|reason| EventError {
                path: self.path.clone(),
                reason,
            })
    }
}

fn value(tag: &str, plugin: Option<&str>, content: Content) -> Value {
    Value {
        tag: tag.to_owned(),
        metadata: plugin.map(|name| Metadata {
            plugin: Some(Plugin {
                name: name.to_owned(),
            }),
        }),
        content: Some(content),
    }
}

/// The latest time in the names of the event files in `folder`; 0 if there are none.
fn latest(folder: &Path) -> io::Result<u64> {
    let time_of = |name: String| {
        name.strip_prefix(EVENT_FILE_PREFIX)?
            .split('.')
            .next()?
            .parse()
            .ok()
    };
    let mut latest = 0;
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name().into_string().ok();
        latest = latest.max(name.and_then(time_of).unwrap_or(0));
    }
    Ok(latest)
}

/// Time since 1970; a clock set before that counts as 1970.
fn now() -> std::time::Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// The machine's name, restricted to characters that are allowed in a file name.
pub fn hostname() -> String {
    let name = proc::hostname().unwrap_or_default();
    let name: String = name
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .collect();
    if name.is_empty() {
        "host".to_owned()
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events in a file; the checksums are tested in `record.rs`.
    fn events(path: &Path) -> Vec<Event> {
        let bytes = std::fs::read(path).unwrap();
        let mut rest = &bytes[..];
        let mut events = Vec::new();
        while let Some((length, tail)) = rest.split_first_chunk::<8>() {
            let end = 4 + u64::from_le_bytes(*length) as usize;
            events.push(Event::decode(&tail[4..end]).unwrap());
            rest = &tail[end + 4..];
        }
        events
    }

    #[test]
    fn a_file_begins_with_its_version_and_holds_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(folder.path(), 391).unwrap();
        writer
            .scalars(395, &[("train/loss", 1.5), ("train/acc", 0.25)])
            .unwrap();
        let name = writer.path.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("events.out.tfevents."), "{name}");
        let events = events(&writer.path);
        let version = What::FileVersion("brain.Event:2".to_owned());
        assert_eq!(events[0].what, Some(version));
        let start = What::SessionLog(SessionLog { status: 1 });
        assert_eq!((events[1].step, &events[1].what), (391, &Some(start)));
        assert_eq!(events[2].step, 395);
        let Some(What::Summary(summary)) = &events[2].what else {
            panic!("{:?}", events[2]);
        };
        assert_eq!(summary.values[1].tag, "train/acc");
        assert_eq!(summary.values[1].content, Some(Content::Scalar(0.25)));
    }

    #[test]
    fn a_later_file_comes_after_the_one_before_it_whatever_the_clock_says() {
        let folder = tempfile::tempdir().unwrap();
        let future = folder.path().join("events.out.tfevents.9000000000.host.1");
        std::fs::write(future, "").unwrap();
        let writer = EventWriter::create(folder.path(), 0).unwrap();
        let name = writer.path.file_name().unwrap().to_str().unwrap();
        assert!(
            name.starts_with("events.out.tfevents.9000000001."),
            "{name}"
        );
    }

    #[test]
    fn a_message_is_encoded_as_the_protocol_buffers_describe_it() {
        // By hand: field 1 fixed64 1.0, field 2 varint 3, field 5 of 10 bytes: field 1 of 8 bytes: field 1
        // "a", field 2 fixed32 0.5.
        let event = Event {
            wall_time: 1.0,
            step: 3,
            what: Some(What::Summary(Summary {
                values: vec![value("a", None, Content::Scalar(0.5))],
            })),
        };
        let expected = [
            &[0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f][..],
            &[0x10, 3, 0x2a, 10, 0x0a, 8],
            &[0x0a, 1, b'a', 0x15, 0, 0, 0, 0x3f],
        ];
        assert_eq!(event.encode_to_vec(), expected.concat());
        // Field 2 varint 3, field 7 of 2 bytes: field 1 varint 1.
        let event = Event {
            wall_time: 0.0,
            step: 3,
            what: Some(What::SessionLog(SessionLog { status: START })),
        };
        assert_eq!(event.encode_to_vec(), [0x10, 3, 0x3a, 2, 0x08, 1]);
    }
}
