//! Loops inside one XLA program, over the rows of arrays.

use xla::{Shape, XlaBuilder, XlaOp};

use crate::arrays::{scalar_like, to_i64};
use crate::error::Result;

/// What a loop passes on from round to round, or what all rounds read: a fixed number of arrays, and a
/// list of any length.
#[derive(Clone)]
pub struct Values<const N: usize> {
    pub each: [XlaOp; N],
    pub list: Vec<XlaOp>,
}

impl<const N: usize> Values<N> {
    fn into_vec(self) -> Vec<XlaOp> {
        let mut all = Vec::from(self.each);
        all.extend(self.list);
        all
    }
}

impl<const N: usize> From<[XlaOp; N]> for Values<N> {
    fn from(each: [XlaOp; N]) -> Self {
        let list = Vec::new();
        Self { each, list }
    }
}

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

/// The number of the round after round `index`.
pub fn next(index: &XlaOp) -> Result<XlaOp> {
    Ok((index + index.builder().c0(1i32)?)?)
}

/// The number that `round` has when `count` rounds are counted from the last one.
pub fn from_the_end(count: usize, round: &XlaOp) -> Result<XlaOp> {
    Ok((round.builder().c0(count as i32 - 1)? - round)?)
}

/// Runs `round` `count` times. It gets the number of the round, from 0, what the previous round
/// returned (`carried` in the first), and `fixed`. Returns what the last round returned.
pub fn repeat<const C: usize, const F: usize>(
    count: usize,
    carried: Values<C>,
    fixed: Values<F>,
    round: impl FnOnce(&XlaOp, Values<C>, Values<F>) -> Result<Values<C>>,
) -> Result<Values<C>> {
    let (listed, listed_fixed) = (carried.list.len(), fixed.list.len());
    let first_fixed = 1 + C + listed;
    // A loop sees nothing but its state: the number of the round, then all arrays.
    let builder = carried.each[0].builder().clone();
    let mut state = vec![builder.c0(0i32)?];
    state.extend(carried.into_vec());
    state.extend(fixed.into_vec());
    let shapes = state.iter().map(XlaOp::shape);
    let shape = Shape::tuple(shapes.collect::<xla::Result<_>>()?);

    let more = XlaBuilder::new("more_rounds");
    let number = more.parameter_s(0, &shape, "state")?.get_tuple_element(0)?;
    let more = number.lt(&more.c0(count as i32)?)?.build()?;

    let body = XlaBuilder::new("round");
    let before = body.parameter_s(0, &shape, "state")?;
    let number = before.get_tuple_element(0)?;
    let fixed: Values<F> = values(&before, first_fixed, listed_fixed)?;
    let mut after = vec![next(&number)?];
    let carried = values(&before, 1, listed)?;
    after.extend(round(&number, carried, fixed.clone())?.into_vec());
    after.extend(fixed.into_vec());
    let body = body.tuple(&after)?.build()?;

    values(
        &XlaOp::while_(more, body, builder.tuple(&state)?)?,
        1,
        listed,
    )
}

/// `N` elements of a tuple from number `start` on, and the `listed` elements after them.
fn values<const N: usize>(tuple: &XlaOp, start: usize, listed: usize) -> Result<Values<N>> {
    let element = |number: usize| tuple.get_tuple_element(number as i64);
    let mut each = Vec::with_capacity(N);
    for number in start..start + N {
        each.push(element(number)?);
    }
    let list = (start + N..start + N + listed).map(element);
    Ok(Values {
        // As many as asked for were just put in.
        each: each.try_into().ok().expect("N elements"),
        list: list.collect::<xla::Result<_>>()?,
    })
}
