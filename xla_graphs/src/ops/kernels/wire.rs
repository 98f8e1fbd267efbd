//! A serialised protocol buffer, field by field: what a change does not concern stays as it is, whatever it is.

use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

/// A field of a message.
pub struct Field<'a> {
    pub number: u32,
    pub content: Content<'a>,
    /// All of it, with its number.
    pub raw: &'a [u8],
}

pub enum Content<'a> {
    Number(u64),
    /// A text, a message or a list of numbers.
    Bytes(&'a [u8]),
    /// A number of a fixed size.
    Fixed,
}

/// The fields of `message`, in order; `None` if it is no message.
pub fn fields(message: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    let mut rest = message;
    while !rest.is_empty() {
        let before = rest;
        let (number, kind) = decode_key(&mut rest).ok()?;
        let content = match kind {
            WireType::Varint => Content::Number(decode_varint(&mut rest).ok()?),
            WireType::LengthDelimited => {
                let len = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
                Content::Bytes(take(&mut rest, len)?)
            }
            WireType::ThirtyTwoBit => take(&mut rest, 4).map(|_| Content::Fixed)?,
            WireType::SixtyFourBit => take(&mut rest, 8).map(|_| Content::Fixed)?,
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        let raw = &before[..before.len() - rest.len()];
        fields.push(Field {
            number,
            content,
            raw,
        });
    }
    Some(fields)
}

/// The numbers of a repeated field, as far as `content` has them.
pub fn numbers(content: &Content) -> Option<Vec<u64>> {
    match *content {
        Content::Number(number) => Some(vec![number]),
        Content::Bytes(mut rest) => {
            let mut numbers = Vec::new();
            while !rest.is_empty() {
                numbers.push(decode_varint(&mut rest).ok()?);
            }
            Some(numbers)
        }
        Content::Fixed => None,
    }
}

pub fn put_number(message: &mut Vec<u8>, number: u32, value: u64) {
    encode_key(number, WireType::Varint, message);
    encode_varint(value, message);
}

pub fn put_bytes(message: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    encode_key(number, WireType::LengthDelimited, message);
    encode_varint(bytes.len() as u64, message);
    message.extend_from_slice(bytes);
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(taken)
}
