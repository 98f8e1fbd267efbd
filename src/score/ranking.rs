//! Classes of images.

use anyhow::{Result, ensure};

/// A class an image may be of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    pub class: usize,
    /// Softmax of the class's logit.
    pub probability: f64,
}

/// All classes of an image, by falling probability.
pub type Ranking = Vec<Prediction>;

/// The ranking of each of the first `count` rows of `logits` `[N, classes]`.
pub fn predictions(logits: &[f32], classes: usize, count: usize) -> Result<Vec<Ranking>> {
    ensure!(
        logits.len() >= count * classes,
        "expected logits of {count} images, got {} values",
        logits.len()
    );
    let rows = logits.chunks_exact(classes).take(count);
    Ok(rows.map(ranked).collect())
}

/// The classes of one image by falling probability; of equals the lower label comes first.
pub fn ranked(logits: &[f32]) -> Ranking {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    // A stable sort.
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    // Relative to the largest logit no exponential overflows, and the largest term is 1.
    let largest = logits[order[0]];
    let relative = |class: usize| f64::from(logits[class] - largest).exp();
    let sum: f64 = order.iter().map(|&class| relative(class)).sum();
    let prediction = |&class: &usize| Prediction {
        class,
        probability: relative(class) / sum,
    };
    order.iter().map(prediction).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_ranked_by_their_softmax_even_when_logits_are_huge() {
        let mut logits = [0.0; 10];
        logits[3] = 4f32.ln();
        logits[7] = 2f32.ln();
        let [first, second, third] = ranked(&logits)[..3].try_into().unwrap();
        assert_eq!((first.class, second.class, third.class), (3, 7, 0));
        // 4, 2 and 1 of 4 + 2 + 8
        for (guess, expected) in [
            (first, 4.0 / 14.0),
            (second, 2.0 / 14.0),
            (third, 1.0 / 14.0),
        ] {
            assert!((guess.probability - expected).abs() < 1e-6);
        }
        assert!(ranked(&[1e38; 10])[0].probability.is_finite());
    }

    #[test]
    fn too_few_logits_are_refused() {
        assert!(predictions(&[0.0; 19], 10, 2).is_err());
        assert_eq!(predictions(&[0.0; 25], 10, 2).unwrap().len(), 2);
    }
}
