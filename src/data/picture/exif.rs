//! The orientation in a PNG.

use image::metadata::Orientation;

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// The orientation in the `eXIf` chunk of a PNG, wherever the chunk is; the decoder only finds one before
/// the pixels. `None` if there is none.
pub fn of_png(bytes: &[u8]) -> Option<Orientation> {
    let mut rest = bytes.strip_prefix(SIGNATURE)?;
    loop {
        // Length, name, content, checksum.
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (name, after) = after.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length) as usize;
        let content = after.get(..length)?;
        if name == b"eXIf" {
            return Orientation::from_exif_chunk(content);
        }
        rest = after.get(length..)?.get(4..)?;
    }
}
