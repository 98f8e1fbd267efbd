//! Reads a zip archive whose files are not compressed, from its end as every reader does.

use std::collections::HashMap;

pub fn files(bytes: &[u8]) -> HashMap<String, Vec<u8>> {
    let end = &bytes[bytes.len() - 22..];
    assert_eq!(end[..4], *b"PK\x05\x06");
    let mut at = u32_at(end, 16);
    let mut files = HashMap::new();
    for _ in 0..u16_at(end, 10) {
        let entry = &bytes[at..];
        assert_eq!(entry[..4], *b"PK\x01\x02");
        assert_eq!(u16_at(entry, 10), 0, "the method is not to store");
        let name = &entry[46..46 + u16_at(entry, 28)];
        let local = &bytes[u32_at(entry, 42)..];
        assert_eq!(local[..4], *b"PK\x03\x04");
        // Both headers have the same fields, from the version that a reader needs to the length of the name.
        assert_eq!(local[4..28], entry[6..30]);
        let content = &local[30 + name.len()..][..u32_at(entry, 24)];
        assert_eq!(crc32(content), u32_at(entry, 16) as u32);
        let name = String::from_utf8(name.to_vec()).unwrap();
        at += 46 + name.len();
        assert!(files.insert(name, content.to_vec()).is_none());
    }
    assert_eq!(at, bytes.len() - 22);
    files
}

/// Bit by bit, as in ITU-T V.42.
fn crc32(bytes: &[u8]) -> u32 {
    let sum = bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    });
    !sum
}

fn u16_at(bytes: &[u8], at: usize) -> usize {
    u16::from_le_bytes([bytes[at], bytes[at + 1]]).into()
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}
