//! Inputs and outputs of a computation, as its program says.

use prost::Message;
use serde::{Deserialize, Serialize};

use crate::model::shape_proto::{ProgramShapeProto, ShapeProto};

/// Inputs and outputs of a computation on one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    pub inputs: Vec<Input>,
    /// For example `f32[128,10]`.
    pub outputs: Vec<String>,
}

/// An input with its name, and its type as in [`Signature::outputs`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    pub name: String,
    pub array: String,
}

impl Signature {
    /// The signature of `hlo`, a serialised `HloModuleProto`.
    pub fn of(hlo: &[u8]) -> Result<Self, prost::DecodeError> {
        let module = HloModuleProto::decode(hlo)?;
        let names = module.parameter_names();
        let shape = module.host_program_shape.unwrap_or_default();
        let inputs = names.into_iter().zip(&shape.parameters);
        let result = shape.result.unwrap_or_default();
        let outputs = match &result.tuple_shapes[..] {
            [] => std::slice::from_ref(&result),
            several => several,
        };
        Ok(Self {
            inputs: inputs
                .map(|(name, shape)| Input {
                    name,
                    array: describe(shape),
                })
                .collect(),
            outputs: outputs.iter().map(describe).collect(),
        })
    }
}

/// The part of XLA's `hlo.proto` that says what goes in and out, with its field numbers.
#[derive(Clone, PartialEq, prost::Message)]
struct HloModuleProto {
    #[prost(message, repeated, tag = "3")]
    computations: Vec<HloComputationProto>,
    #[prost(int64, tag = "6")]
    entry_computation_id: i64,
    #[prost(message, optional, tag = "4")]
    host_program_shape: Option<ProgramShapeProto>,
}

impl HloModuleProto {
    /// The names that the inputs were given. Those in the shape of the whole module do not outlive its completion by
    /// [`xla_graphs::ops::kernels::complete`]; those of the computation have numbers at their ends.
    fn parameter_names(&self) -> Vec<String> {
        let mut computations = self.computations.iter();
        let entry = computations.find(|computation| computation.id == self.entry_computation_id);
        let shape = entry.and_then(|entry| entry.program_shape.as_ref());
        let names = shape.map_or(&[][..], |shape| &shape.parameter_names);
        let given = |name: &String| match name.rsplit_once('.') {
            Some((given, number)) if number.parse::<u64>().is_ok() => given.to_owned(),
            _ => name.clone(),
        };
        names.iter().map(given).collect()
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct HloComputationProto {
    #[prost(message, optional, tag = "4")]
    program_shape: Option<ProgramShapeProto>,
    #[prost(int64, tag = "5")]
    id: i64,
}

/// `f32[3,3,16,16]`.
fn describe(shape: &ShapeProto) -> String {
    let dims: Vec<_> = shape.dimensions.iter().map(i64::to_string).collect();
    let element = match shape.element_type {
        4 => "s32".to_owned(),
        11 => "f32".to_owned(),
        16 => "bf16".to_owned(),
        other => format!("type {other}"),
    };
    format!("{element}[{}]", dims.join(","))
}
