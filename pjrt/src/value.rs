//! Named values: options for a plugin, and attributes that it reports.

#![allow(non_upper_case_globals, reason = "the names of the C header")]

use crate::api::{slice_of, text};
use crate::bindings::*;

/// A value of an option or an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(String),
    Int(i64),
    Ints(Vec<i64>),
    Float(f32),
    Bool(bool),
}

impl Value {
    /// The value, if it is a single number.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            Self::Float(value) => Some((*value).into()),
            Self::Text(_) | Self::Ints(_) | Self::Bool(_) => None,
        }
    }
}

/// A named value as the interface takes it; good as long as `name` and `value` are.
pub(crate) fn named(name: &str, value: &Value) -> PJRT_NamedValue {
    let mut named = PJRT_NamedValue {
        struct_size: PJRT_NamedValue_STRUCT_SIZE as usize,
        name: name.as_ptr().cast(),
        name_size: name.len(),
        value_size: 1,
        ..Default::default()
    };
    let content = &mut named.__bindgen_anon_1;
    named.type_ = match value {
        Value::Text(text) => {
            content.string_value = text.as_ptr().cast();
            named.value_size = text.len();
            PJRT_NamedValue_kString
        }
        Value::Int(value) => {
            content.int64_value = *value;
            PJRT_NamedValue_kInt64
        }
        Value::Ints(values) => {
            content.int64_array_value = values.as_ptr();
            named.value_size = values.len();
            PJRT_NamedValue_kInt64List
        }
        Value::Float(value) => {
            content.float_value = *value;
            PJRT_NamedValue_kFloat
        }
        Value::Bool(value) => {
            content.bool_value = *value;
            PJRT_NamedValue_kBool
        }
    };
    named
}

/// The names and values in an array of the plugin's, without those of a type that this crate does not know.
///
/// # Safety
/// `values` points to `len` named values, each with a name and a value of the sizes beside them.
pub(crate) unsafe fn read(values: *const PJRT_NamedValue, len: usize) -> Vec<(String, Value)> {
    // SAFETY: the caller's promise.
    let values = unsafe { slice_of(values, len) };
    let pairs = values.iter().filter_map(|named| {
        let (content, len) = (named.__bindgen_anon_1, named.value_size);
        // SAFETY: the caller's promise; the type says which member of the union is set.
        unsafe {
            let value = match named.type_ {
                PJRT_NamedValue_kString => Value::Text(text(content.string_value, len)),
                PJRT_NamedValue_kInt64 => Value::Int(content.int64_value),
                PJRT_NamedValue_kInt64List => {
                    Value::Ints(slice_of(content.int64_array_value, len).to_vec())
                }
                PJRT_NamedValue_kFloat => Value::Float(content.float_value),
                PJRT_NamedValue_kBool => Value::Bool(content.bool_value),
                _ => return None,
            };
            Some((text(named.name, named.name_size), value))
        }
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_as_a_named_value_is_read_back() {
        let values = [
            Value::Text("v5e:2x4".to_owned()),
            Value::Int(-8),
            Value::Ints(vec![2, 4]),
            Value::Float(0.5),
            Value::Bool(true),
        ];
        let written: Vec<_> = values.iter().map(|value| named("name", value)).collect();
        // SAFETY: `named` made them of texts and arrays that are still there.
        let read = unsafe { read(written.as_ptr(), written.len()) };
        let expected = values.map(|value| ("name".to_owned(), value));
        assert_eq!(read, expected);
    }
}
