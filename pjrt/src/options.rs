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
    #[prost(message, optional, tag = "9")]
    device_assignment: Option<DeviceAssignmentProto>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DeviceAssignmentProto {
    #[prost(int32, tag = "1")]
    replica_count: i32,
    #[prost(int32, tag = "2")]
    computation_count: i32,
    #[prost(message, repeated, tag = "3")]
    computation_devices: Vec<ComputationDevice>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ComputationDevice {
    #[prost(int64, repeated, tag = "1")]
    replica_device_ids: Vec<i64>,
}

/// The compile options of a program for `replicas` devices, whichever the plugin takes: a serialised
/// `CompileOptionsProto`.
pub fn compile_options(replicas: usize) -> Vec<u8> {
    options(replicas, None)
}

/// The compile options of a program with a replica on each of the devices with these `ids`
/// ([`crate::Device::id`]).
pub fn compile_options_for(ids: &[i32]) -> Vec<u8> {
    let devices = ComputationDevice {
        replica_device_ids: ids.iter().map(|&id| id.into()).collect(),
    };
    let assignment = DeviceAssignmentProto {
        replica_count: ids.len() as i32,
        computation_count: 1,
        computation_devices: vec![devices],
    };
    options(ids.len(), Some(assignment))
}

fn options(replicas: usize, device_assignment: Option<DeviceAssignmentProto>) -> Vec<u8> {
    let build = ExecutableBuildOptionsProto {
        device_ordinal: -1,
        num_replicas: replicas as i64,
        num_partitions: 1,
        device_assignment,
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

    #[test]
    fn devices_are_assigned_as_protoc_writes_it() {
        // Field 9, 10 bytes: field 1 = 2, field 2 = 1, field 3, 4 bytes: field 1, 2 bytes: 3 and 5.
        let expected = [0x4a, 10, 0x08, 2, 0x10, 1, 0x1a, 4, 0x0a, 2, 3, 5];
        assert!(compile_options_for(&[3, 5]).ends_with(&expected));
    }
}
