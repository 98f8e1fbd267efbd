//! The compile options, as the interface takes them: a serialised protocol buffer.

use prost::Message;

/// The part of XLA's `compile_options.proto` that a replicated program needs.
#[derive(Clone, PartialEq, prost::Message)]
struct CompileOptionsProto {
    #[prost(message, optional, tag = "3")]
    executable_build_options: Option<ExecutableBuildOptionsProto>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ExecutableBuildOptionsProto {
    /// -1: none in particular.
    #[prost(int64, tag = "1")]
    device_ordinal: i64,
    #[prost(int64, tag = "4")]
    num_replicas: i64,
    #[prost(int64, tag = "5")]
    num_partitions: i64,
}

/// The compile options of a program for `replicas` devices: a serialised `CompileOptionsProto`.
pub fn compile_options(replicas: usize) -> Vec<u8> {
    let build = ExecutableBuildOptionsProto {
        device_ordinal: -1,
        num_replicas: replicas as i64,
        num_partitions: 1,
    };
    CompileOptionsProto {
        executable_build_options: Some(build),
    }
    .encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_are_what_protoc_makes_of_them() {
        // Field 3, 15 bytes: field 1 = -1 (ten bytes), field 4 = 8, field 5 = 1.
        let mut expected = vec![0x1a, 15, 0x08];
        expected.extend([0xff; 9]);
        expected.extend([0x01, 0x20, 8, 0x28, 1]);
        assert_eq!(compile_options(8), expected);
    }
}
