//! Reads the arrays of an HDF5 file, of the kinds of groups and arrays that the program writes, by the HDF5 File Format
//! Specification.

use std::collections::HashMap;

use crate::array::Array;

/// All arrays by path.
pub fn arrays(file: &[u8]) -> HashMap<String, Array> {
    assert_eq!(file[..8], *b"\x89HDF\r\n\x1a\n");
    let base = &file[24..];
    assert_eq!((u64_at(base, 0), u64_at(base, 16)), (0, file.len()));
    let mut arrays = HashMap::new();
    read(file, u64_at(file, 64), "", &mut arrays);
    arrays
}

/// Collects the arrays in the object at `address`, called `path`.
fn read(file: &[u8], address: usize, path: &str, arrays: &mut HashMap<String, Array>) {
    let messages = messages(&file[address..]);
    let of_kind = |wanted: u16| messages.iter().filter(move |(kind, _)| *kind == wanted);
    for (_, link) in of_kind(6) {
        assert_eq!(link[..2], [1, 0], "a hard link with a short name");
        let (name, rest) = link[3..].split_at(link[2].into());
        let name = std::str::from_utf8(name).unwrap();
        let path = if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}/{name}")
        };
        read(file, u64_at(rest, 0), &path, arrays);
    }
    let Some((_, space)) = of_kind(1).next() else {
        return;
    };
    assert_eq!((space[0], space[2]), (1, 0));
    let dims: Vec<usize> = (0..usize::from(space[1]))
        .map(|axis| u64_at(space, 8 + 8 * axis))
        .collect();
    let (_, layout) = of_kind(8).next().unwrap();
    assert_eq!(layout[..2], [3, 1], "in one piece");
    let bytes = &file[u64_at(layout, 2)..][..u64_at(layout, 10)];
    let values = bytes
        .as_chunks()
        .0
        .iter()
        .map(|value| f64::from(f32::from_le_bytes(*value)));
    let array = Array::new(dims, values.collect());
    assert!(arrays.insert(path.to_owned(), array).is_none());
}

/// Kind and content of each message of the header that `bytes` begin with.
fn messages(bytes: &[u8]) -> Vec<(u16, &[u8])> {
    assert_eq!(bytes[0], 1);
    let count = u16_at(bytes, 2);
    let length = u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
    let mut rest = &bytes[16..16 + length];
    let mut messages = Vec::new();
    for _ in 0..count {
        let end = 8 + usize::from(u16_at(rest, 2));
        messages.push((u16_at(rest, 0), &rest[8..end]));
        rest = &rest[end..];
    }
    assert!(rest.is_empty());
    messages
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u64_at(bytes: &[u8], at: usize) -> usize {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize
}
