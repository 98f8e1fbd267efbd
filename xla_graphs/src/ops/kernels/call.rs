//! A call under construction: its operands, and where in them each array begins.

use kernel_contract::plan::{self, Start};
use kernel_contract::{Format, Plan};
use xla::{ElementType, XlaBuilder, XlaOp};

use crate::arrays::{places_of, to_i64};
use crate::error::{GraphError, Result};
use crate::tensors::Place;

/// The operands of a call.
pub struct Operands<'a> {
    /// What the call is for; errors name it.
    layer: &'a str,
    arrays: Vec<XlaOp>,
    /// In a loop, the number of the round.
    round: Option<XlaOp>,
}

impl<'a> Operands<'a> {
    /// No operands yet. `layer` is what the call is for.
    pub fn new(layer: &'a str) -> Self {
        Self {
            layer,
            arrays: Vec::new(),
            round: None,
        }
    }

    /// Adds an array: `len` places from `place` on.
    ///
    /// # Errors
    /// [`GraphError::Bounds`] when that is more than there are.
    pub fn add(&mut self, what: &'static str, place: &Place, len: usize) -> Result<Start> {
        let (expected, got) = (place.offset + len, places_of(&place.array)?);
        if expected > got {
            return Err(GraphError::Bounds {
                layer: self.layer.to_owned(),
                what,
                expected,
                got,
            });
        }
        if let Some((round, _)) = &place.round {
            self.round = Some(round.clone());
        }
        self.arrays.push(place.array.clone());
        Ok(Start {
            operand: self.arrays.len() - 1,
            offset: place.offset,
            per_round: place.round.as_ref().map_or(0, |(_, growth)| *growth),
        })
    }

    /// The call of the kernel that `plan` is for. Its result has dimensions `dims`.
    ///
    /// # Errors
    /// [`GraphError::Kernel`] when the kernel cannot compute what the plan says.
    pub fn call<P: Plan>(
        self,
        builder: &XlaBuilder,
        plan: &P,
        element: ElementType,
        dims: &[usize],
    ) -> Result<XlaOp> {
        let kernel = P::KERNEL.name();
        let numbers = plan.encode().map_err(|reason| GraphError::Kernel {
            layer: self.layer.to_owned(),
            kernel,
            reason,
        })?;
        let plan = builder.c1(&numbers)?;
        let round = match self.round {
            Some(round) => round,
            None => builder.c0(0i32)?,
        };
        let mut operands = vec![plan, round];
        operands.extend(self.arrays);
        Ok(builder.custom_call(kernel, &operands, element, &to_i64(dims), &[])?)
    }
}

/// The element type of images in `format`.
pub fn element(format: Format) -> ElementType {
    match format {
        Format::F32 => ElementType::F32,
        Format::Bf16 => ElementType::Bf16,
    }
}

/// `len` values of f32 from `place` on.
pub fn part(place: &Place, len: usize) -> Result<XlaOp> {
    part_in(Format::F32, place, len)
}

/// `len` values in `format` from `place` on.
pub fn part_in(format: Format, place: &Place, len: usize) -> Result<XlaOp> {
    let mut operands = Operands::new("a part of an array");
    let count = format.places(len);
    let plan = plan::Part {
        start: operands.add("the part", place, count)?,
        count,
    };
    operands.call(place.array.builder(), &plan, element(format), &[len])
}

/// An array of dimensions `dims` whose values are not set: whoever takes it must write before reading.
/// `number` sets it apart from others of the same size, or XLA would make one of them and copy it.
pub fn unwritten(
    builder: &XlaBuilder,
    format: Format,
    dims: &[usize],
    number: usize,
) -> Result<XlaOp> {
    let plan = plan::Unwritten { number };
    Operands::new("an array of a loop").call(builder, &plan, element(format), dims)
}
