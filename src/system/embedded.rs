//! What the program has in itself, as `build.rs` compressed it.

use std::io::Read;

use flate2::read::ZlibDecoder;

/// The file that `compressed` was made of.
pub fn unpacked(compressed: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let read = ZlibDecoder::new(compressed).read_to_end(&mut file);
    // The compressed bytes are part of the program, whole as the compressor wrote them.
    read.expect("a file that comes with the program");
    file
}
