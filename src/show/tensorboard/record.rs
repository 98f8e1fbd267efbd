//! TFRecord framing: a length and a payload, each with a checksum.
//!
//! A record is the payload's length (u64), the masked CRC-32C of these 8 bytes, the payload, and the
//! payload's masked CRC-32C; all little-endian (TensorFlow, `lib/io/record_writer.cc`).

use std::io::{self, Write};

use byteorder::{LittleEndian, WriteBytesExt};

/// Writes one record.
pub fn write_record(out: &mut impl Write, payload: &[u8]) -> io::Result<()> {
    let length = (payload.len() as u64).to_le_bytes();
    out.write_all(&length)?;
    out.write_u32::<LittleEndian>(masked_crc(&length))?;
    out.write_all(payload)?;
    out.write_u32::<LittleEndian>(masked_crc(payload))
}

/// CRC-32C, rotated and shifted, which keeps it strong for data that contains checksums itself.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Undoes the mask.
    fn unmasked(masked: u32) -> u32 {
        masked.wrapping_sub(0xa282_ead8).rotate_left(15)
    }

    #[test]
    fn the_checksum_is_the_crc_32c_of_rfc_3720() {
        // RFC 3720, appendix B.4.
        let rising: Vec<u8> = (0..32).collect();
        for (bytes, crc) in [
            (&[0u8; 32][..], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&rising, 0x46dd_794e),
        ] {
            assert_eq!(unmasked(masked_crc(bytes)), crc);
        }
    }

    #[test]
    fn an_empty_record_is_the_bytes_that_tensorboard_writes() {
        // RecordWriter(file).write(b"") of tensorboard.summary.writer.record_writer, version 2.21.
        let mut written = Vec::new();
        write_record(&mut written, b"").unwrap();
        let expected = [
            0, 0, 0, 0, 0, 0, 0, 0, 0x29, 3, 0x98, 7, 0xd8, 0xea, 0x82, 0xa2,
        ];
        assert_eq!(written, expected);
    }
}
