//! Completes what the builder cannot say: that a call is one of XLA's FFI, has several results, and that the first of them
//! takes the place of an operand.
//!
//! ```text
//!  traced                                              completed
//!  call:   custom-call, first result's shape    ─►    custom-call of the FFI, tuple of shapes
//!  result: custom-call "resnet_result", number  ─►    get-tuple-element, number
//! ```
//!
//! The rest of the computation stays as the builder made it.

use std::collections::HashMap;

use kernel_contract::Kernel;
use xla::XlaComputation;

use super::wire::{Content, Field, fields, numbers, put_bytes, put_number};
use crate::error::{GraphError, Result};

/// The target of a traced result of a call. Its configuration is the result's number.
pub const RESULT: &str = "resnet_result";

/// How the attributes of a call begin whose first result takes the place of an operand; the operand's number follows.
pub const IN_PLACE: &str = "in_place = ";

/// The field numbers of XLA's `hlo.proto` and `xla_data.proto`.
mod field {
    pub const MODULE_COMPUTATIONS: u32 = 3;
    pub const MODULE_NUMBER: u32 = 5;
    pub const COMPUTATION_INSTRUCTIONS: u32 = 2;

    pub const OPCODE: u32 = 2;
    pub const SHAPE: u32 = 3;
    pub const TUPLE_INDEX: u32 = 13;
    pub const TARGET: u32 = 28;
    pub const ID: u32 = 35;
    pub const OPERANDS: u32 = 36;
    pub const CONFIGURATION: u32 = 43;
    pub const CONSTRAIN_LAYOUT: u32 = 56;
    pub const OPERAND_SHAPES: u32 = 57;
    pub const ALIASES: u32 = 74;
    pub const API_VERSION: u32 = 77;

    pub const SHAPE_ELEMENT: u32 = 2;
    pub const SHAPE_PARTS: u32 = 4;

    pub const ALIAS_RESULT: u32 = 1;
    pub const ALIAS_OPERAND: u32 = 2;
}

/// `API_VERSION_TYPED_FFI` of `CustomCallApiVersion`.
const TYPED_FFI: u64 = 4;
/// `TUPLE` of `PrimitiveType`.
const TUPLE: u64 = 13;

/// `computation` as a serialised `HloModuleProto`, with its calls of kernels as the kernels are called. Every computation
/// that may have such calls must go through here before it is compiled.
///
/// XLA numbers the modules of a process. That number is left out: the same computation has the same bytes, whatever was
/// traced before it.
///
/// # Errors
/// [`GraphError::Proto`] when XLA's own form of the computation is not what we know.
pub fn complete(computation: &XlaComputation) -> Result<Vec<u8>> {
    let module = computation.proto().to_bytes()?;
    completed(&module).ok_or(GraphError::Proto)
}

fn completed(module: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(module.len());
    for field in fields(module)? {
        match field.content {
            Content::Bytes(computation) if field.number == field::MODULE_COMPUTATIONS => {
                put_bytes(&mut out, field.number, &completed_computation(computation)?);
            }
            _ if field.number == field::MODULE_NUMBER => {}
            _ => out.extend_from_slice(field.raw),
        }
    }
    Some(out)
}

fn completed_computation(computation: &[u8]) -> Option<Vec<u8>> {
    let all = fields(computation)?;
    let mut instructions = Vec::new();
    for field in &all {
        if let (field::COMPUTATION_INSTRUCTIONS, Content::Bytes(bytes)) =
            (field.number, &field.content)
        {
            instructions.push(Instruction(fields(bytes)?));
        }
    }
    let arrays = Arrays::of(&instructions)?;
    let mut out = Vec::with_capacity(computation.len());
    let mut instructions = instructions.iter();
    for field in &all {
        let instruction = match field.number {
            field::COMPUTATION_INSTRUCTIONS => instructions.next(),
            _ => None,
        };
        match instruction {
            Some(call) if call.is_call() => put_bytes(&mut out, field.number, &arrays.call(call)?),
            Some(part) if part.is_result() => put_bytes(&mut out, field.number, &result(part)?),
            _ => out.extend_from_slice(field.raw),
        }
    }
    Some(out)
}

struct Instruction<'a>(Vec<Field<'a>>);

impl<'a> Instruction<'a> {
    fn bytes(&self, number: u32) -> Option<&'a [u8]> {
        self.0.iter().find_map(|field| match field.content {
            Content::Bytes(bytes) if field.number == number => Some(bytes),
            _ => None,
        })
    }

    /// 0, as for every field that is not there, where there is none.
    fn number(&self, number: u32) -> u64 {
        let number = self.0.iter().find_map(|field| match field.content {
            Content::Number(value) if field.number == number => Some(value),
            _ => None,
        });
        number.unwrap_or(0)
    }

    /// Its number in its computation.
    fn id(&self) -> u64 {
        within_computation(self.number(field::ID))
    }

    fn operands(&self) -> Option<Vec<u64>> {
        let lists = self.0.iter().filter(|f| f.number == field::OPERANDS);
        let lists = lists.map(|field| numbers(&field.content));
        let ids = lists.collect::<Option<Vec<_>>>()?.concat();
        Some(ids.into_iter().map(within_computation).collect())
    }

    /// All fields but those with the numbers `dropped`.
    fn without(&self, dropped: &[u32]) -> Vec<u8> {
        let kept = self.0.iter().filter(|f| !dropped.contains(&f.number));
        kept.flat_map(|field| field.raw).copied().collect()
    }

    fn is_result(&self) -> bool {
        self.bytes(field::TARGET) == Some(RESULT.as_bytes())
    }

    fn is_call(&self) -> bool {
        let target = self.bytes(field::TARGET);
        let mut kernels = Kernel::ALL.iter();
        kernels.any(|kernel| target == Some(kernel.name().as_bytes()))
    }
}

/// An instruction's number in its computation. An id may have the computation's number in its upper half.
fn within_computation(id: u64) -> u64 {
    id & u64::from(u32::MAX)
}

/// The arrays of a computation.
struct Arrays<'a> {
    /// The shape of each instruction.
    shapes: HashMap<u64, &'a [u8]>,
    /// The shapes of the results of each call that has several, in order.
    results: HashMap<u64, Vec<&'a [u8]>>,
}

impl<'a> Arrays<'a> {
    fn of(instructions: &[Instruction<'a>]) -> Option<Self> {
        let (mut shapes, mut results) = (HashMap::new(), HashMap::<_, Vec<_>>::new());
        for instruction in instructions {
            let shape = instruction.bytes(field::SHAPE)?;
            shapes.insert(instruction.id(), shape);
            if instruction.is_result() {
                let call = *instruction.operands()?.first()?;
                results.entry(call).or_default().push(shape);
            }
        }
        Some(Self { shapes, results })
    }

    /// The layouts of the arrays are fixed: the kernels know row-major arrays alone.
    fn call(&self, call: &Instruction) -> Option<Vec<u8>> {
        let mut out = call.without(&[field::SHAPE, field::API_VERSION]);
        let results = self.results.get(&call.id());
        match results {
            Some(results) => put_bytes(&mut out, field::SHAPE, &tuple(results)),
            None => put_bytes(&mut out, field::SHAPE, call.bytes(field::SHAPE)?),
        }
        let configuration = call.bytes(field::CONFIGURATION).unwrap_or_default();
        let configuration = str::from_utf8(configuration).ok()?;
        if let Some(operand) = in_place(configuration) {
            put_bytes(&mut out, field::ALIASES, &alias(operand, results.is_some()));
        }
        put_number(&mut out, field::CONSTRAIN_LAYOUT, 1);
        for operand in call.operands()? {
            put_bytes(&mut out, field::OPERAND_SHAPES, self.shapes.get(&operand)?);
        }
        put_number(&mut out, field::API_VERSION, TYPED_FFI);
        Some(out)
    }
}

/// The operand whose place the first result takes.
fn in_place(configuration: &str) -> Option<u64> {
    let rest = configuration.strip_prefix('{')?.strip_prefix(IN_PLACE)?;
    rest.split(' ').next()?.parse().ok()
}

/// That the only result, or the first of a tuple, lies where `operand` does.
fn alias(operand: u64, in_tuple: bool) -> Vec<u8> {
    let mut out = Vec::new();
    if in_tuple {
        put_bytes(&mut out, field::ALIAS_RESULT, &[0]);
    }
    put_number(&mut out, field::ALIAS_OPERAND, operand);
    out
}

fn result(result: &Instruction) -> Option<Vec<u8>> {
    let number = str::from_utf8(result.bytes(field::CONFIGURATION)?).ok()?;
    let mut out = result.without(&[
        field::OPCODE,
        field::TARGET,
        field::CONFIGURATION,
        field::API_VERSION,
    ]);
    put_bytes(&mut out, field::OPCODE, b"get-tuple-element");
    put_number(&mut out, field::TUPLE_INDEX, number.parse().ok()?);
    Some(out)
}

fn tuple(shapes: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    put_number(&mut out, field::SHAPE_ELEMENT, TUPLE);
    for shape in shapes {
        put_bytes(&mut out, field::SHAPE_PARTS, shape);
    }
    out
}
