//! Softmax cross-entropy, accuracy and the L2 penalty.

use xla::{ElementType, PrimitiveType, XlaOp};

use crate::Result;
use crate::ops::{cast, scalar_like, to_i64};

/// What [`forward`] returns.
pub struct Loss {
    /// Cross-entropy of each image, `[N]`, in nats.
    pub cross_entropy: XlaOp,
    /// 1 where the largest logit is the label's, else 0, `[N]`.
    pub correct: XlaOp,
    /// Softmax of the logits, `[N, K]`.
    pub probabilities: XlaOp,
    /// The labels as one-hot rows, `[N, K]`.
    pub one_hot: XlaOp,
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

/// cross_entropy = `log Σₖ exp(zₖ) − z[label]`, with the largest logit taken out first so that no
/// exponential overflows. `logits` `[N, K]` f32, `labels` `[N]` s32.
///
/// Of equal logits the one of lowest index counts as the prediction, as in `tf.argmax`.
pub fn forward(logits: &XlaOp, labels: &XlaOp) -> Result<Loss> {
    let dims = logits.dims()?;
    let one_hot = one_hot(labels, dims[1])?;
    let shifted = (logits - per_row(&logits.reduce_max(&[1], false)?, &dims)?)?;
    let exp = shifted.exp()?;
    let sum = exp.reduce_sum(&[1], false)?;
    let at_label = (&shifted * &one_hot)?.reduce_sum(&[1], false)?;
    let predicted = logits.argmax(ElementType::S32, 1)?;
    Ok(Loss {
        cross_entropy: (sum.log()? - at_label)?,
        correct: cast(&predicted.eq(labels)?, PrimitiveType::F32)?,
        probabilities: (exp / per_row(&sum, &dims)?)?,
        one_hot,
    })
}

/// dlogits = (softmax(z) − one_hot) / N for the mean of the cross-entropies over `count` images.
pub fn backward(loss: &Loss, count: usize) -> Result<XlaOp> {
    let difference = (&loss.probabilities - &loss.one_hot)?;
    let count = scalar_like(&difference, count as f32)?;
    Ok((difference / count)?)
}

/// strength · Σ w² over all elements of `weights`: Keras `l2(strength)`, without a half.
pub fn l2_penalty(weights: &[&XlaOp], strength: &XlaOp) -> Result<XlaOp> {
    let mut total = scalar_like(strength, 0.0)?;
    for weight in weights {
        let axes: Vec<i64> = (0..weight.rank()? as i64).collect();
        let squares = (*weight * *weight)?.reduce_sum(&axes, false)?;
        total = (total + squares)?;
    }
    Ok((total * strength)?)
}

/// Adds the penalty's gradient: 2 · strength · w.
pub fn l2_gradient(weight: &XlaOp, gradient: &XlaOp, strength: f32) -> Result<XlaOp> {
    let slope = scalar_like(weight, 2.0 * strength)?;
    Ok((gradient + weight * slope)?)
}
