//! Loops inside one XLA program, over the rows of arrays.

use xla::{Shape, XlaBuilder, XlaOp};

use crate::Result;
use crate::ops::{scalar_like, to_i64};

/// An array of dimensions `dims` and of the element type of `like`, to be filled row by row.
pub fn empty(like: &XlaOp, dims: &[usize]) -> Result<XlaOp> {
    let zero = scalar_like(like, 0.0)?;
    Ok(zero.broadcast(&to_i64(dims))?)
}

/// Row `index` of `stack`.
pub fn read(stack: &XlaOp, index: &XlaOp) -> Result<XlaOp> {
    let mut sizes = to_i64(&stack.dims()?);
    sizes[0] = 1;
    let row = stack.dynamic_slice(&row_start(index, sizes.len())?, &sizes)?;
    Ok(row.reshape(&sizes[1..])?)
}

/// `stack` with `row` in place of its row `index`.
pub fn write(stack: &XlaOp, index: &XlaOp, row: &XlaOp) -> Result<XlaOp> {
    let mut sizes = to_i64(&stack.dims()?);
    sizes[0] = 1;
    let start = row_start(index, sizes.len())?;
    Ok(stack.dynamic_update_slice(&row.reshape(&sizes)?, &start)?)
}

/// The indices at which row `index` of an array with `rank` axes begins.
fn row_start(index: &XlaOp, rank: usize) -> Result<Vec<XlaOp>> {
    let mut start = vec![index.zeros_like()?; rank];
    start[0] = index.clone();
    Ok(start)
}

/// The number of the round behind round `index`.
pub fn next(index: &XlaOp) -> Result<XlaOp> {
    Ok((index + index.builder().c0(1i32)?)?)
}

/// The number that `round` has when `count` rounds are counted from the last one.
pub fn from_the_end(count: usize, round: &XlaOp) -> Result<XlaOp> {
    Ok((round.builder().c0(count as i32 - 1)? - round)?)
}

/// Goes round `count` times: `round` gets the number of the round, from 0, what the round before it
/// returned (the first one: `carried`), and `fixed`. Returns what the last round returned.
pub fn repeat<const C: usize, const F: usize>(
    count: usize,
    carried: [XlaOp; C],
    fixed: [XlaOp; F],
    round: impl FnOnce(&XlaOp, [XlaOp; C], [XlaOp; F]) -> Result<[XlaOp; C]>,
) -> Result<[XlaOp; C]> {
    // A loop sees nothing but its state: the number of the round, then all arrays.
    let builder = carried[0].builder().clone();
    let mut state = vec![builder.c0(0i32)?];
    state.extend(carried.into_iter().chain(fixed));
    let shapes = state.iter().map(XlaOp::shape);
    let shape = Shape::tuple(shapes.collect::<xla::Result<_>>()?);

    let more = XlaBuilder::new("more_rounds");
    let number = more.parameter_s(0, &shape, "state")?.get_tuple_element(0)?;
    let more = number.lt(&more.c0(count as i32)?)?.build()?;

    let body = XlaBuilder::new("round");
    let before = body.parameter_s(0, &shape, "state")?;
    let number = before.get_tuple_element(0)?;
    let fixed: [XlaOp; F] = elements(&before, 1 + C)?;
    let mut after = vec![next(&number)?];
    after.extend(round(&number, elements(&before, 1)?, fixed.clone())?);
    after.extend(fixed);
    let body = body.tuple(&after)?.build()?;

    elements(&XlaOp::while_(more, body, builder.tuple(&state)?)?, 1)
}

/// `N` elements of a tuple, from the one with the number `start`.
fn elements<const N: usize>(tuple: &XlaOp, start: usize) -> Result<[XlaOp; N]> {
    let mut elements = Vec::with_capacity(N);
    for number in start..start + N {
        elements.push(tuple.get_tuple_element(number as i64)?);
    }
    // As many as asked for were just put in.
    Ok(elements.try_into().ok().expect("N elements"))
}
