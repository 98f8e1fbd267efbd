//! Reads the cost estimates in the compiler's own program.
//!
//! XLA's TPU compiler writes into each instruction's `backend_config` (JSON) how many cycles it
//! expects it to take. Added up over the schedule, with loop bodies counted as often as they run, they
//! are the compiler's estimate of a step. Collectives and waits for copies have no estimate.

use std::collections::{BTreeMap, HashMap};

use prost::Message;
use serde::Serialize;

use crate::model::shape_proto::ShapeProto;

/// The part of XLA's `hlo.proto` that the estimate needs, with its field numbers.
pub mod proto {
    use crate::model::shape_proto::ShapeProto;

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct HloModuleProtoWithConfig {
        /// A serialised [`HloModuleProto`]: a message and its bytes look the same on the wire.
        #[prost(bytes = "vec", tag = "1")]
        pub hlo_module: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct HloModuleProto {
        #[prost(message, repeated, tag = "3")]
        pub computations: Vec<HloComputationProto>,
        #[prost(int64, tag = "6")]
        pub entry_computation_id: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct HloComputationProto {
        #[prost(message, repeated, tag = "2")]
        pub instructions: Vec<HloInstructionProto>,
        #[prost(int64, tag = "5")]
        pub id: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct HloInstructionProto {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(string, tag = "2")]
        pub opcode: String,
        #[prost(message, optional, tag = "3")]
        pub shape: Option<ShapeProto>,
        /// The value of a constant.
        #[prost(message, optional, tag = "8")]
        pub literal: Option<LiteralProto>,
        #[prost(int64, repeated, tag = "38")]
        pub called_computation_ids: Vec<i64>,
        #[prost(bytes = "vec", tag = "43")]
        pub backend_config: Vec<u8>,
        #[prost(string, tag = "63")]
        pub comparison_direction: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct LiteralProto {
        #[prost(int32, repeated, tag = "4")]
        pub s32s: Vec<i32>,
    }
}

use proto::{HloComputationProto, HloInstructionProto, HloModuleProto};

/// Why a program cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HloError {
    #[error("the compiler's program is not an HloModuleProtoWithConfig: {0}")]
    Decode(prost::DecodeError),
    #[error("the compiler's program has no module in it")]
    NoModule,
    #[error("the compiler's program calls computation {0}, which it does not have")]
    MissingComputation(i64),
}

/// The sums over a program's instructions.
#[derive(Debug, Default)]
pub struct Schedule {
    /// Sum of the compiler's estimates; 0 if it made none.
    pub cycles: u64,
    /// Loops whose number of rounds the compiler does not state; their bodies count once.
    pub loops_of_unknown_length: usize,
    /// Collectives that run in a step, loops unrolled.
    pub all_reduces: u64,
    /// Bytes that they reduce, on each chip.
    pub all_reduce_bytes: u64,
    /// Instructions with an estimate, the costliest first.
    pub costs: Vec<Cost>,
}

/// One instruction and what it costs in a step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    pub name: String,
    /// What it computes, in the order of its first appearance: `convolution, add, maximum`.
    pub does: String,
    /// Dimensions and precision of its results.
    pub result: String,
    /// How often a step runs it.
    pub runs: u64,
    /// The compiler's estimate of all runs.
    pub cycles: u64,
}

impl Schedule {
    /// Reads a serialised `HloModuleProtoWithConfig`.
    ///
    /// # Errors
    /// [`HloError`] if the bytes are something else, or the program calls a computation that it does not have.
    pub fn read(program: &[u8]) -> Result<Self, HloError> {
        let module =
            HloModuleProto::decode(module_bytes(program)?.as_slice()).map_err(HloError::Decode)?;
        let mut walk = Walk {
            computations: module.computations.iter().map(|c| (c.id, c)).collect(),
            schedule: Self::default(),
        };
        walk.computation(module.entry_computation_id, 1)?;
        let mut schedule = walk.schedule;
        schedule
            .costs
            .sort_by_key(|cost| std::cmp::Reverse(cost.cycles));
        Ok(schedule)
    }
}

/// The serialised `HloModuleProto` in a serialised `HloModuleProtoWithConfig`.
pub fn module_bytes(program: &[u8]) -> Result<Vec<u8>, HloError> {
    let module = proto::HloModuleProtoWithConfig::decode(program)
        .map_err(HloError::Decode)?
        .hlo_module;
    if module.is_empty() {
        return Err(HloError::NoModule);
    }
    Ok(module)
}

struct Walk<'a> {
    computations: HashMap<i64, &'a HloComputationProto>,
    schedule: Schedule,
}

impl<'a> Walk<'a> {
    /// Counts a computation that a step runs `runs` times.
    fn computation(&mut self, id: i64, runs: u64) -> Result<(), HloError> {
        for instruction in &self.find(id)?.instructions {
            self.instruction(instruction, runs)?;
        }
        Ok(())
    }

    fn find(&self, id: i64) -> Result<&'a HloComputationProto, HloError> {
        let found = self.computations.get(&id).copied();
        found.ok_or(HloError::MissingComputation(id))
    }

    fn instruction(
        &mut self,
        instruction: &HloInstructionProto,
        runs: u64,
    ) -> Result<(), HloError> {
        let config: serde_json::Value =
            serde_json::from_slice(&instruction.backend_config).unwrap_or_default();
        if let Some(cycles) = count(&config["window_config"]["estimated_cycles"]) {
            self.schedule.cycles += runs * cycles;
            self.schedule.costs.push(Cost {
                name: instruction.name.clone(),
                does: self.does(instruction)?,
                result: instruction.shape.as_ref().map(describe).unwrap_or_default(),
                runs,
                cycles: runs * cycles,
            });
        }
        match instruction.opcode.as_str() {
            "all-reduce" | "all-reduce-start" => {
                self.schedule.all_reduces += runs;
                let bytes = instruction.shape.as_ref().map_or(0, bytes);
                self.schedule.all_reduce_bytes += runs * bytes;
            }
            "while" => {
                let rounds = match count(&config["known_trip_count"]["n"]) {
                    None => self.rounds(instruction)?,
                    known => known,
                };
                self.schedule.loops_of_unknown_length += usize::from(rounds.is_none());
                self.called(instruction, runs * rounds.unwrap_or(1))?;
            }
            "call" | "conditional" | "async-start" => self.called(instruction, runs)?,
            // What a fusion or a reduction calls is part of its own estimate.
            _ => {}
        }
        Ok(())
    }

    /// The rounds of a loop, read from its condition: the loops of this program count up from 0 while
    /// the number is less than a constant.
    fn rounds(&self, instruction: &HloInstructionProto) -> Result<Option<u64>, HloError> {
        // The body is the first computation that a loop calls, the condition the second.
        let Some(&condition) = instruction.called_computation_ids.get(1) else {
            return Ok(None);
        };
        let condition = &self.find(condition)?.instructions;
        let compares: Vec<_> = condition.iter().filter(|i| i.opcode == "compare").collect();
        let less = compares.iter().all(|i| i.comparison_direction == "LT");
        let numbers = condition.iter().filter_map(|i| i.literal.as_ref());
        let numbers: Vec<i32> = numbers.flat_map(|literal| literal.s32s.clone()).collect();
        Ok(match numbers[..] {
            [rounds] if less && compares.len() == 1 => u64::try_from(rounds).ok(),
            _ => None,
        })
    }

    fn called(&mut self, instruction: &HloInstructionProto, runs: u64) -> Result<(), HloError> {
        for &id in &instruction.called_computation_ids {
            self.computation(id, runs)?;
        }
        Ok(())
    }

    /// The operations in an instruction, except those that only move or rename values.
    fn does(&self, instruction: &HloInstructionProto) -> Result<String, HloError> {
        if instruction.opcode != "fusion" {
            return Ok(instruction.opcode.clone());
        }
        let mut counts = BTreeMap::new();
        self.count_operations(instruction, &mut counts)?;
        let mut operations: Vec<_> = counts.into_iter().collect();
        // The most telling ones first: convolutions, then reductions, then the rest.
        operations.sort_by_key(|(name, count)| {
            let rank = match name.as_str() {
                "convolution" | "dot" => 0,
                "reduce" => 1,
                _ => 2,
            };
            (rank, std::cmp::Reverse(*count))
        });
        let texts = operations.iter().map(|(name, count)| match count {
            1 => name.clone(),
            count => format!("{count} {name}"),
        });
        Ok(texts.collect::<Vec<_>>().join(", "))
    }

    fn count_operations(
        &self,
        instruction: &HloInstructionProto,
        counts: &mut BTreeMap<String, usize>,
    ) -> Result<(), HloError> {
        const SILENT: [&str; 9] = [
            "parameter",
            "constant",
            "broadcast",
            "bitcast",
            "tuple",
            "get-tuple-element",
            "convert",
            "reshape",
            "fusion",
        ];
        for &id in &instruction.called_computation_ids {
            for inner in &self.find(id)?.instructions {
                if !SILENT.contains(&inner.opcode.as_str()) {
                    *counts.entry(inner.opcode.clone()).or_default() += 1;
                }
                if inner.opcode == "fusion" {
                    self.count_operations(inner, counts)?;
                }
            }
        }
        Ok(())
    }
}

/// A count in JSON; protocol buffers write 64-bit numbers as text.
fn count(value: &serde_json::Value) -> Option<u64> {
    value
        .as_str()
        .map_or_else(|| value.as_u64(), |text| text.parse().ok())
}

/// Name and size in bytes of an element type of `xla_data.proto`.
fn element(element_type: i32) -> (&'static str, u64) {
    match element_type {
        1 => ("pred", 1),
        2 => ("s8", 1),
        4 => ("s32", 4),
        6 => ("u8", 1),
        8 => ("u32", 4),
        10 => ("f16", 2),
        11 => ("f32", 4),
        16 => ("bf16", 2),
        _ => ("other", 0),
    }
}

fn bytes(shape: &ShapeProto) -> u64 {
    let elements: i64 = shape.dimensions.iter().product();
    let own = elements.unsigned_abs() * element(shape.element_type).1;
    own + shape.tuple_shapes.iter().map(bytes).sum::<u64>()
}

/// `f32[3,3,16,16]`, or several in parentheses.
fn describe(shape: &ShapeProto) -> String {
    if !shape.tuple_shapes.is_empty() {
        let elements: Vec<_> = shape.tuple_shapes.iter().map(describe).collect();
        return format!("({})", elements.join(", "));
    }
    let dims: Vec<_> = shape.dimensions.iter().map(i64::to_string).collect();
    format!("{}[{}]", element(shape.element_type).0, dims.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction(name: &str, opcode: &str, config: &str, calls: &[i64]) -> HloInstructionProto {
        HloInstructionProto {
            name: name.to_owned(),
            opcode: opcode.to_owned(),
            shape: Some(ShapeProto {
                element_type: 11,
                dimensions: vec![2, 3],
                ..ShapeProto::default()
            }),
            literal: None,
            called_computation_ids: calls.to_vec(),
            backend_config: config.as_bytes().to_vec(),
            comparison_direction: String::new(),
        }
    }

    fn cycles(name: &str, opcode: &str, cycles: u64, calls: &[i64]) -> HloInstructionProto {
        let config = format!(r#"{{"window_config":{{"estimated_cycles":"{cycles}"}}}}"#);
        instruction(name, opcode, &config, calls)
    }

    fn program(computations: Vec<(i64, Vec<HloInstructionProto>)>) -> Vec<u8> {
        let entry_computation_id = computations[0].0;
        let computations = computations
            .into_iter()
            .map(|(id, instructions)| HloComputationProto { instructions, id })
            .collect();
        let module = HloModuleProto {
            computations,
            entry_computation_id,
        };
        proto::HloModuleProtoWithConfig {
            hlo_module: module.encode_to_vec(),
        }
        .encode_to_vec()
    }

    #[test]
    fn a_loop_counts_its_body_as_often_as_it_runs() {
        let known = r#"{"known_trip_count":{"n":"17"}}"#;
        let program = program(vec![
            (
                7,
                vec![
                    cycles("outside", "fusion", 5, &[]),
                    instruction("loop", "while", known, &[8]),
                ],
            ),
            (
                8,
                vec![
                    cycles("inside", "fusion", 100, &[]),
                    instruction("sum", "all-reduce", "", &[]),
                ],
            ),
        ]);
        let schedule = Schedule::read(&program).unwrap();
        assert_eq!(schedule.cycles, 5 + 17 * 100);
        assert_eq!(schedule.costs[0].name, "inside");
        assert_eq!(
            (schedule.costs[0].runs, schedule.costs[0].cycles),
            (17, 1700)
        );
        assert_eq!(
            (schedule.all_reduces, schedule.all_reduce_bytes),
            (17, 17 * 24)
        );
        assert_eq!(schedule.loops_of_unknown_length, 0);
    }

    #[test]
    fn a_loop_that_counts_up_to_a_constant_says_how_often_it_runs() {
        let mut end = instruction("end", "constant", "", &[]);
        end.literal = Some(proto::LiteralProto { s32s: vec![17] });
        let mut compare = instruction("compare", "compare", "", &[]);
        let runs = |direction: &str, compare: &mut HloInstructionProto| {
            compare.comparison_direction = direction.to_owned();
            let program = program(vec![
                (1, vec![instruction("loop", "while", "{}", &[2, 3])]),
                (2, vec![cycles("inside", "fusion", 100, &[])]),
                (3, vec![end.clone(), compare.clone()]),
            ]);
            let schedule = Schedule::read(&program).unwrap();
            (schedule.cycles, schedule.loops_of_unknown_length)
        };
        assert_eq!(runs("LT", &mut compare), (1700, 0));
        assert_eq!(runs("NE", &mut compare), (100, 1));
    }

    #[test]
    fn a_loop_of_unknown_length_is_reported_and_counts_once() {
        let program = program(vec![
            (1, vec![instruction("loop", "while", "{}", &[2])]),
            (2, vec![cycles("inside", "fusion", 100, &[])]),
        ]);
        let schedule = Schedule::read(&program).unwrap();
        assert_eq!(
            (schedule.cycles, schedule.loops_of_unknown_length),
            (100, 1)
        );
    }

    #[test]
    fn what_a_fusion_calls_is_in_its_own_estimate() {
        let program = program(vec![
            (1, vec![cycles("fused", "fusion", 40, &[2])]),
            (
                2,
                vec![
                    cycles("a", "add", 30, &[]),
                    instruction("b", "add", "", &[]),
                    instruction("c", "convolution", "", &[]),
                    instruction("d", "parameter", "", &[]),
                ],
            ),
        ]);
        let schedule = Schedule::read(&program).unwrap();
        assert_eq!(schedule.cycles, 40);
        assert_eq!(schedule.costs[0].does, "convolution, 2 add");
        assert_eq!(schedule.costs[0].result, "f32[2,3]");
    }

    #[test]
    fn a_program_that_is_cut_short_is_an_error() {
        let whole = program(vec![(1, vec![cycles("a", "fusion", 1, &[])])]);
        assert!(Schedule::read(&whole[..whole.len() - 3]).is_err());
        let error = Schedule::read(&[]).unwrap_err().to_string();
        assert!(error.contains("no module"), "{error}");
    }

    #[test]
    fn a_call_of_nothing_is_an_error() {
        let program = program(vec![(1, vec![instruction("call", "call", "", &[9])])]);
        let error = Schedule::read(&program).unwrap_err().to_string();
        assert!(error.contains("computation 9"), "{error}");
    }
}
