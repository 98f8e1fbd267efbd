//! What the page shows of an evaluation.

use crate::data::{DatasetSpec, Validation};
use crate::run::evaluate::Evaluation;
use crate::score::ranking::{Ranking, ranked};
use crate::score::scores::{Mistake, Scores, confident_mistakes};

use super::TUTORIAL_IMAGES;

/// Guesses shown for each of the tutorial's images.
const GUESSES: usize = 3;
/// Mistakes shown: rows of seven on a computer, of three on a phone.
const MISTAKES: usize = 21;

/// An evaluation as far as the page shows it. It takes much time to make where there are many classes, and little room.
pub struct Scored {
    pub(super) scores: Scores,
    /// The most likely classes of the first images, as in the tutorial.
    pub(super) guesses: Vec<Ranking>,
    pub(super) mistakes: Vec<Mistake>,
}

impl Scored {
    /// Of an `evaluation` on the first images of `validation`, which `spec` describes.
    pub fn of(evaluation: &Evaluation, spec: &DatasetSpec, validation: &Validation) -> Self {
        let (logits, classes) = (&evaluation.logits, spec.classes());
        let labels = validation.split.labels.to_vec();
        let first = logits.chunks_exact(classes).take(TUTORIAL_IMAGES);
        let guesses = first.map(|row| ranked(row).into_iter().take(GUESSES).collect());
        Self {
            scores: Scores::of(logits, classes, &labels),
            guesses: guesses.collect(),
            mistakes: confident_mistakes(logits, classes, &labels, MISTAKES),
        }
    }
}
