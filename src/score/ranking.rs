//! Classes of images.

use anyhow::{Result, ensure};

use crate::data::CLASSES;

/// A class an image may be of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    pub class: usize,
    /// Softmax of the class's logit.
    pub probability: f64,
}

/// All classes by falling probability for each of the first `count` rows of `logits` `[N, classes]`.
pub fn predictions(logits: &[f32], count: usize) -> Result<Vec<[Prediction; CLASSES]>> {
    ensure!(
        logits.len() >= count * CLASSES,
        "expected logits of {count} images, got {} values",
        logits.len()
    );
    Ok(logits.as_chunks::<CLASSES>().0[..count]
        .iter()
        .map(ranked)
        .collect())
}

/// The classes of one image by falling probability; of equals the lower label comes first.
pub fn ranked(logits: &[f32; CLASSES]) -> [Prediction; CLASSES] {
    let mut order: [usize; CLASSES] = std::array::from_fn(|class| class);
    // A stable sort.
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    // Relative to the largest logit no exponential overflows, and the largest term is 1.
    let largest = logits[order[0]];
    let relative = |class: usize| f64::from(logits[class] - largest).exp();
    let sum: f64 = order.iter().map(|&class| relative(class)).sum();
    order.map(|class| Prediction {
        class,
        probability: relative(class) / sum,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_ranked_by_their_softmax_even_when_logits_are_huge() {
        let mut logits = [0.0; CLASSES];
        logits[3] = 4f32.ln();
        logits[7] = 2f32.ln();
        let [first, second, third, ..] = ranked(&logits);
        assert_eq!((first.class, second.class, third.class), (3, 7, 0));
        // 4, 2 and 1 of 4 + 2 + 8
        for (guess, expected) in [
            (first, 4.0 / 14.0),
            (second, 2.0 / 14.0),
            (third, 1.0 / 14.0),
        ] {
            assert!((guess.probability - expected).abs() < 1e-6);
        }
        assert!(ranked(&[1e38; CLASSES])[0].probability.is_finite());
    }

    #[test]
    fn too_few_logits_are_refused() {
        assert!(predictions(&[0.0; 19], 2).is_err());
        assert_eq!(predictions(&[0.0; 25], 2).unwrap().len(), 2);
    }
}
