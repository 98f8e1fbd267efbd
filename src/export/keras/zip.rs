//! Zip archives, as PKWARE's APPNOTE.TXT describes them, without compression: weights have nothing to compress.

use flate2::Crc;

const LOCAL_HEADER: u32 = 0x0403_4b50;
const CENTRAL_HEADER: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
/// The version of the format that a reader must know.
const VERSION: u16 = 20;
/// The first day that the format can tell, 1 January 1980: the same network gives the same file.
const DATE: u16 = 1 << 5 | 1;

/// An archive of `files`: names and contents, of less than 4 GiB together.
pub fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut directory = Vec::new();
    for (name, content) in files {
        let offset = archive.len() as u32;
        let entry = entry(name, content);
        put(&mut archive, LOCAL_HEADER);
        archive.extend(&entry);
        archive.extend(name.as_bytes());
        archive.extend(*content);

        put(&mut directory, CENTRAL_HEADER);
        // Made by the same version.
        directory.extend(VERSION.to_le_bytes());
        directory.extend(&entry);
        // No comment, the first disk, no attributes.
        directory.extend([0; 10]);
        put(&mut directory, offset);
        directory.extend(name.as_bytes());
    }
    let (start, length) = (archive.len() as u32, directory.len() as u32);
    archive.extend(directory);
    put(&mut archive, END);
    // The first disk of one.
    archive.extend([0; 4]);
    let count = (files.len() as u16).to_le_bytes();
    archive.extend([count, count].as_flattened());
    put(&mut archive, length);
    put(&mut archive, start);
    // No comment.
    archive.extend([0; 2]);
    archive
}

/// What both headers of a file say of it.
fn entry(name: &str, content: &[u8]) -> Vec<u8> {
    let mut sum = Crc::new();
    sum.update(content);
    let mut entry = Vec::new();
    entry.extend(VERSION.to_le_bytes());
    // No flags, not compressed, midnight.
    entry.extend([0; 6]);
    entry.extend(DATE.to_le_bytes());
    put(&mut entry, sum.sum());
    put(&mut entry, content.len() as u32);
    put(&mut entry, content.len() as u32);
    entry.extend((name.len() as u16).to_le_bytes());
    // Nothing extra.
    entry.extend([0; 2]);
    entry
}

fn put(bytes: &mut Vec<u8>, value: u32) {
    bytes.extend(value.to_le_bytes());
}
