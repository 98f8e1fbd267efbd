//! Softmax cross-entropy, accuracy and the L2 penalty.

use xla::{ElementType, PrimitiveType, XlaOp};

use crate::arrays::{cast, scalar_like, to_i64};
use crate::error::Result;

/// What [`forward`] returns.
pub struct Loss {
    /// Cross-entropy of each image, `[N]`, in nats.
    pub cross_entropy: XlaOp,
    /// 1 where the largest logit is the label's, else 0, `[N]`.
    pub correct: XlaOp,
    /// Softmax of the logits, `[N, K]`.
    pub probabilities: XlaOp,
    /// What the probabilities should be: the labels as one-hot rows, mixed and smoothed, `[N, K]`.
    pub targets: XlaOp,
}

/// The second labels of images that are mixed of two (Zhang et al. 2018, "mixup"; Yun et al. 2019, "CutMix").
pub struct Mixed {
    /// `[N]` s32.
    pub others: XlaOp,
    /// The share of each image's first label, 0 to 1, `[N]` f32; the rest is the second's.
    pub shares: XlaOp,
}

/// Integer labels `[N]` to one-hot rows `[N, classes]` in f32.
fn one_hot(labels: &XlaOp, classes: usize) -> Result<XlaOp> {
    let dims = [labels.dims()?[0], classes];
    let class = labels.builder().iota(ElementType::S32, &to_i64(&dims), 1)?;
    let label = labels.broadcast_in_dim(&to_i64(&dims), &[0])?;
    cast(&class.eq(&label)?, PrimitiveType::F32)
}

/// Row values `[N]` repeated over the columns of `[N, K]`.
fn per_row(values: &XlaOp, dims: &[usize]) -> Result<XlaOp> {
    Ok(values.broadcast_in_dim(&to_i64(dims), &[0])?)
}

/// One-hot rows with the share `smoothing` spread evenly over all classes:
/// (1 − smoothing) · one_hot + smoothing / K (Szegedy et al. 2016; Keras's `label_smoothing`). Where two
/// labels are mixed, share · one_hot + (1 − share) · one_hot of the second takes the place of one_hot.
fn targets(labels: &XlaOp, mixed: Option<&Mixed>, classes: usize, smoothing: f32) -> Result<XlaOp> {
    let first = one_hot(labels, classes)?;
    let shown = match mixed {
        Some(Mixed { others, shares }) => {
            let second = one_hot(others, classes)?;
            let shares = per_row(shares, &first.dims()?)?;
            (&second + (&shares * (&first - &second)?)?)?
        }
        None => first,
    };
    if smoothing == 0.0 {
        return Ok(shown);
    }
    let kept = (&shown * scalar_like(&shown, 1.0 - smoothing)?)?;
    Ok((kept + scalar_like(&shown, smoothing / classes as f32)?)?)
}

/// cross_entropy = `log Σₖ exp(zₖ) − Σₖ qₖ·zₖ` with the targets q, whose sum is 1: without `smoothing`,
/// qₖ·zₖ sums to `z[label]`. The largest logit is taken out first so that no exponential overflows.
/// `logits` `[N, K]` f32, `labels` `[N]` s32. An image of two labels is right if the first is predicted.
///
/// Of equal logits the one of lowest index counts as the prediction, as in `tf.argmax`.
pub fn forward(
    logits: &XlaOp,
    labels: &XlaOp,
    mixed: Option<&Mixed>,
    smoothing: f32,
) -> Result<Loss> {
    let dims = logits.dims()?;
    let targets = targets(labels, mixed, dims[1], smoothing)?;
    let shifted = (logits - per_row(&logits.reduce_max(&[1], false)?, &dims)?)?;
    let exp = shifted.exp()?;
    let sum = exp.reduce_sum(&[1], false)?;
    let at_targets = (&shifted * &targets)?.reduce_sum(&[1], false)?;
    let predicted = logits.argmax(ElementType::S32, 1)?;
    Ok(Loss {
        cross_entropy: (sum.log()? - at_targets)?,
        correct: cast(&predicted.eq(labels)?, PrimitiveType::F32)?,
        probabilities: (exp / per_row(&sum, &dims)?)?,
        targets,
    })
}

/// dlogits = (softmax(z) − targets) / N for the mean of the cross-entropies over `count` images.
pub fn backward(loss: &Loss, count: usize) -> Result<XlaOp> {
    let difference = (&loss.probabilities - &loss.targets)?;
    let count = scalar_like(&difference, count as f32)?;
    Ok((difference / count)?)
}

/// strength · Σ w² over the first `decaying` of the flat `weights`: Keras `l2(strength)`, without a
/// half. Columns are summed before rows, so that no f32 sum has more than a few thousand terms.
pub fn l2_penalty(weights: &XlaOp, decaying: usize, strength: f32) -> Result<XlaOp> {
    const COLUMNS: usize = 1024;
    let rows = decaying.div_ceil(COLUMNS);
    let filler = (rows * COLUMNS - decaying) as i64;
    let decaying = weights.slice_in_dim(0, decaying as i64, 1, 0)?;
    let filled = decaying.pad(&scalar_like(weights, 0.0)?, &[(0, filler, 0)])?;
    let table = filled.reshape(&to_i64(&[rows, COLUMNS]))?;
    let columns = (&table * &table)?.reduce_sum(&[0], false)?;
    let sum = columns.reduce_sum(&[0], false)?;
    Ok((sum * scalar_like(weights, strength)?)?)
}

/// Adds the penalty's gradient, 2 · strength · w for the first `decaying` of the flat `weights`.
pub fn l2_gradient(
    weights: &XlaOp,
    gradient: &XlaOp,
    decaying: usize,
    strength: f32,
) -> Result<XlaOp> {
    let count = weights.dims()?[0];
    let slope = |value: f32, count: usize| -> Result<XlaOp> {
        Ok(scalar_like(weights, value)?.broadcast(&[count as i64])?)
    };
    let slopes =
        slope(2.0 * strength, decaying)?.concat_in_dim(&[slope(0.0, count - decaying)?], 0)?;
    Ok((gradient + weights * slopes)?)
}
