//! The sum over all replicas, as a program. It is written down and not traced, so that a build that traces nothing has it
//! too: all that processes tell each other goes through it.
//!
//! ```text
//!  add:                a, b ─► a + b
//!  sum_over_replicas:  values ─► all-reduce by `add`
//! ```

use prost::Message;

use crate::model::shape_proto::{LayoutProto, ProgramShapeProto, ShapeProto};

/// XLA's number of the element type.
const F32: i32 = 11;

/// Numbers in the program; nothing else in it has the same.
const A: i64 = 1;
const B: i64 = 2;
const SUM: i64 = 3;
const ADD: i64 = 4;
const VALUES: i64 = 5;
const TOTAL: i64 = 6;
const ENTRY: i64 = 7;

/// The program, a serialised `HloModuleProto`: f32\[`len`\] on each replica in, their sum out, the same on each.
pub fn over_replicas(len: usize) -> Vec<u8> {
    let (number, list) = (scalar(), list(len));
    let add = ComputationProto {
        name: "add".to_owned(),
        instructions: vec![
            parameter(A, "a", 0, &number),
            parameter(B, "b", 1, &number),
            InstructionProto {
                operand_ids: vec![A, B],
                ..instruction(SUM, "sum", "add", &number)
            },
        ],
        program_shape: Some(program_shape(&[("a", &number), ("b", &number)], &number)),
        id: ADD,
        root_id: SUM,
    };
    let shape = program_shape(&[("values", &list)], &list);
    let entry = ComputationProto {
        name: "sum_over_replicas".to_owned(),
        instructions: vec![
            parameter(VALUES, "values", 0, &list),
            InstructionProto {
                operand_ids: vec![VALUES],
                called_computation_ids: vec![ADD],
                ..instruction(TOTAL, "total", "all-reduce", &list)
            },
        ],
        program_shape: Some(shape.clone()),
        id: ENTRY,
        root_id: TOTAL,
    };
    let module = ModuleProto {
        name: entry.name.clone(),
        entry_computation_name: entry.name.clone(),
        computations: vec![add, entry],
        host_program_shape: Some(shape),
        entry_computation_id: ENTRY,
    };
    module.encode_to_vec()
}

fn instruction(id: i64, name: &str, opcode: &str, shape: &ShapeProto) -> InstructionProto {
    InstructionProto {
        name: name.to_owned(),
        opcode: opcode.to_owned(),
        shape: Some(shape.clone()),
        id,
        ..Default::default()
    }
}

fn parameter(id: i64, name: &str, number: i64, shape: &ShapeProto) -> InstructionProto {
    InstructionProto {
        parameter_number: number,
        ..instruction(id, name, "parameter", shape)
    }
}

fn program_shape(parameters: &[(&str, &ShapeProto)], result: &ShapeProto) -> ProgramShapeProto {
    let (names, shapes): (Vec<&str>, Vec<&ShapeProto>) = parameters.iter().copied().unzip();
    ProgramShapeProto {
        parameters: shapes.into_iter().cloned().collect(),
        result: Some(result.clone()),
        parameter_names: names.into_iter().map(str::to_owned).collect(),
    }
}

fn scalar() -> ShapeProto {
    ShapeProto {
        element_type: F32,
        layout: Some(LayoutProto::default()),
        ..Default::default()
    }
}

fn list(len: usize) -> ShapeProto {
    ShapeProto {
        element_type: F32,
        dimensions: vec![len as i64],
        layout: Some(LayoutProto {
            minor_to_major: vec![0],
        }),
        is_dynamic_dimension: vec![false],
        ..Default::default()
    }
}

// The part of XLA's `hlo.proto` that such a program has, with its field numbers.

#[derive(Clone, PartialEq, prost::Message)]
struct ModuleProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    entry_computation_name: String,
    #[prost(message, repeated, tag = "3")]
    computations: Vec<ComputationProto>,
    #[prost(message, optional, tag = "4")]
    host_program_shape: Option<ProgramShapeProto>,
    #[prost(int64, tag = "6")]
    entry_computation_id: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ComputationProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    instructions: Vec<InstructionProto>,
    #[prost(message, optional, tag = "4")]
    program_shape: Option<ProgramShapeProto>,
    #[prost(int64, tag = "5")]
    id: i64,
    #[prost(int64, tag = "6")]
    root_id: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct InstructionProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    opcode: String,
    #[prost(message, optional, tag = "3")]
    shape: Option<ShapeProto>,
    #[prost(int64, tag = "9")]
    parameter_number: i64,
    #[prost(int64, tag = "35")]
    id: i64,
    #[prost(int64, repeated, tag = "36")]
    operand_ids: Vec<i64>,
    #[prost(int64, repeated, tag = "38")]
    called_computation_ids: Vec<i64>,
}
