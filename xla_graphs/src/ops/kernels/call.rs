//! A call under construction: its operands, and where in them each array begins.

use kernel_contract::plan::{self, Start};
use kernel_contract::{Array, Format, PLAN, Plan};
use xla::{ElementType, XlaBuilder, XlaOp};

use super::typed::{IN_PLACE, RESULT};
use crate::arrays::{len_of, to_i64};
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

    /// Adds an array: `len` values from `place` on.
    ///
    /// # Errors
    /// [`GraphError::Bounds`] when that is more than there are.
    pub fn add(&mut self, what: &'static str, place: &Place, len: usize) -> Result<Start> {
        let start = self.start(what, place, len)?;
        if let Some((round, _)) = &place.round {
            self.round = Some(round.clone());
        }
        self.arrays.push(place.array.clone());
        Ok(start)
    }

    /// Where `len` values from `place` on begin, in the next operand.
    fn start(&self, what: &'static str, place: &Place, len: usize) -> Result<Start> {
        let (expected, got) = (place.offset + len, len_of(&place.array)?);
        if expected > got {
            return Err(GraphError::Bounds {
                layer: self.layer.to_owned(),
                what,
                expected,
                got,
            });
        }
        Ok(Start {
            operand: self.arrays.len(),
            offset: place.offset,
            per_round: place.round.as_ref().map_or(0, |(_, growth)| *growth),
        })
    }

    /// Adds `len` values at `place`, which is in the same array as `start`, without another operand.
    pub fn beside(
        &self,
        start: Start,
        what: &'static str,
        place: &Place,
        len: usize,
    ) -> Result<Start> {
        Ok(Start {
            operand: start.operand,
            ..self.start(what, place, len)?
        })
    }

    /// The results of the kernel that `plan` is for ([`Plan::results`]).
    ///
    /// # Errors
    /// [`GraphError::Kernel`] when the kernel cannot compute what the plan says.
    pub fn call<P: Plan>(self, builder: &XlaBuilder, plan: &P) -> Result<Vec<XlaOp>> {
        let kernel = P::KERNEL.name();
        let numbers = plan.encode().map_err(|reason| GraphError::Kernel {
            layer: self.layer.to_owned(),
            kernel,
            reason,
        })?;
        let round = match self.round {
            Some(round) => round,
            None => builder.c0(0i32)?,
        };
        let mut operands = vec![round];
        operands.extend(self.arrays);
        // The round is the first operand.
        let in_place = plan.in_place().map(|operand| operand + 1);
        let attributes = attributes(&numbers, in_place);
        let custom_call = |target, operands: &[XlaOp], array: &Array, configuration: &str| {
            let (ty, dims) = (element(array.format), to_i64(&array.dims));
            builder.custom_call(target, operands, ty, &dims, configuration.as_bytes())
        };
        let results = plan.results();
        let (first, several) = (&results[0], results.len() > 1);
        let call = custom_call(kernel, &operands, first, &attributes)?;
        if !several {
            return Ok(vec![call]);
        }
        let call = [call];
        let result = |(number, array): (usize, &Array)| {
            Ok(custom_call(RESULT, &call, array, &number.to_string())?)
        };
        results.iter().enumerate().map(result).collect()
    }
}

/// The attributes of a call, as XLA reads them. That the first result takes the place of operand `in_place` is for
/// [`super::complete`].
fn attributes(plan: &[i32], in_place: Option<usize>) -> String {
    let numbers: Vec<_> = plan.iter().map(i32::to_string).collect();
    let in_place = in_place.map(|operand| format!("{IN_PLACE}{operand} : i64, "));
    let in_place = in_place.unwrap_or_default();
    format!("{{{in_place}{PLAN} = array<i32: {}>}}", numbers.join(", "))
}

/// The element type of images in `format`.
pub fn element(format: Format) -> ElementType {
    match format {
        Format::F32 => ElementType::F32,
        Format::Bf16 => ElementType::Bf16,
    }
}

/// `len` values from `place` on, which is not in a loop.
pub fn part(place: &Place, len: usize) -> Result<XlaOp> {
    let Place { array, offset, .. } = place;
    let all = len_of(array)?;
    let flat = array.reshape(&[all as i64])?;
    if len == all {
        return Ok(flat);
    }
    Ok(flat.slice_in_dim(*offset as i64, (offset + len) as i64, 1, 0)?)
}

/// An array of dimensions `dims` whose values are not set: whoever takes it must write before reading.
/// `number` sets it apart from others of the same type, or XLA would make one of them and copy it.
pub fn unwritten(
    builder: &XlaBuilder,
    format: Format,
    dims: &[usize],
    number: usize,
) -> Result<XlaOp> {
    let dims = dims.to_vec();
    let array = Array { format, dims };
    let plan = plan::Unwritten { array, number };
    let mut results = Operands::new("an array of a loop").call(builder, &plan)?;
    Ok(results.remove(0))
}
