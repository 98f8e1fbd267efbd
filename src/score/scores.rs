//! What a network gets right and wrong, counted from its logits.

use serde::Serialize;

use crate::score::ranking::{Prediction, ranked};

/// Counts over a set of labelled images.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    pub images: usize,
    /// `confusion[truth][predicted]`
    pub confusion: Vec<Vec<usize>>,
    /// Images whose class is among the five largest logits.
    pub top5_hits: usize,
}

/// How well one class is recognised. A share of nothing is `None`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassScore {
    /// Images of the class.
    pub images: usize,
    /// Share of the images of the class that are recognised: its accuracy, or recall.
    pub acc: Option<f64>,
    /// Share of the images taken for the class that are of it.
    pub precision: Option<f64>,
}

/// An image taken for another class.
#[derive(Clone, Debug, PartialEq)]
pub struct Mistake {
    /// Index of the image in its split.
    pub index: usize,
    pub truth: usize,
    pub predicted: Prediction,
}

impl Scores {
    /// Compares `logits` `[N, classes]` with `labels` (the first N are read), each below `classes`.
    pub fn of(logits: &[f32], classes: usize, labels: &[u8]) -> Self {
        let mut scores = Self {
            images: 0,
            confusion: vec![vec![0; classes]; classes],
            top5_hits: 0,
        };
        for (row, label) in logits.chunks_exact(classes).zip(labels) {
            let ranking = ranked(row);
            let truth = usize::from(*label);
            scores.images += 1;
            scores.confusion[truth][ranking[0].class] += 1;
            let hit = ranking.iter().take(5).any(|guess| guess.class == truth);
            scores.top5_hits += usize::from(hit);
        }
        scores
    }

    /// Share of the images whose class has the largest logit.
    pub fn accuracy(&self) -> f64 {
        let rows = self.confusion.iter().enumerate();
        let correct: usize = rows.map(|(class, row)| row[class]).sum();
        correct as f64 / self.images as f64
    }

    /// Share of the images whose class is among the five largest logits.
    pub fn top5(&self) -> f64 {
        self.top5_hits as f64 / self.images as f64
    }

    /// The scores of each class, by label.
    pub fn classes(&self) -> Vec<ClassScore> {
        let rows = self.confusion.iter().enumerate();
        rows.map(|(class, row)| {
            let images = row.iter().sum();
            let taken_for_it = self.confusion.iter().map(|row| row[class]).sum();
            ClassScore {
                images,
                acc: share(row[class], images),
                precision: share(row[class], taken_for_it),
            }
        })
        .collect()
    }
}

fn share(count: usize, all: usize) -> Option<f64> {
    (all > 0).then(|| count as f64 / all as f64)
}

/// The `count` images that were taken for a wrong class with the highest probability.
pub fn confident_mistakes(
    logits: &[f32],
    classes: usize,
    labels: &[u8],
    count: usize,
) -> Vec<Mistake> {
    let rows = logits.chunks_exact(classes).zip(labels);
    let mut mistakes: Vec<Mistake> = rows
        .enumerate()
        .map(|(index, (row, label))| Mistake {
            index,
            truth: usize::from(*label),
            predicted: ranked(row)[0],
        })
        .filter(|mistake| mistake.predicted.class != mistake.truth)
        .collect();
    mistakes.sort_by(|a, b| {
        let (a, b) = (a.predicted.probability, b.predicted.probability);
        b.total_cmp(&a)
    });
    mistakes.truncate(count);
    mistakes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits whose largest is `class` by `margin`; the others fall with their index.
    fn row(class: usize, margin: f32) -> [f32; 10] {
        let mut logits: [f32; 10] = std::array::from_fn(|index| -(index as f32));
        logits[class] = margin;
        logits
    }

    #[test]
    fn counts_stand_where_truth_and_prediction_cross() {
        let logits = [row(3, 9.0), row(3, 1.0), row(5, 1.0)].concat();
        let scores = Scores::of(&logits, 10, &[3, 5, 5]);
        assert_eq!(scores.confusion[3][3], 1);
        assert_eq!(scores.confusion[5][3], 1);
        assert_eq!(scores.confusion[5][5], 1);
        assert_eq!(scores.accuracy(), 2.0 / 3.0);
        let classes = scores.classes();
        assert_eq!(
            (classes[3].acc, classes[3].precision),
            (Some(1.0), Some(0.5))
        );
        assert_eq!(
            (classes[5].acc, classes[5].precision),
            (Some(0.5), Some(1.0))
        );
        assert_eq!((classes[0].acc, classes[0].precision), (None, None));
    }

    #[test]
    fn the_fifth_place_is_a_top_5_hit_and_the_sixth_is_none() {
        // Largest first: class 9, then 0, 1, 2, 3, 4.
        let logits = [row(9, 1.0), row(9, 1.0)].concat();
        assert_eq!(Scores::of(&logits, 10, &[3, 4]).top5(), 0.5);
    }

    #[test]
    fn any_number_of_classes_is_counted() {
        let scores = Scores::of(&[0.0, 1.0, 2.0, 3.0, 5.0, 4.0], 3, &[2, 0]);
        assert_eq!(scores.confusion, [[0, 1, 0], [0, 0, 0], [0, 0, 1]]);
        assert_eq!((scores.accuracy(), scores.top5()), (0.5, 1.0));
        assert_eq!(scores.classes().len(), 3);
    }

    #[test]
    fn mistakes_come_with_the_most_confident_first() {
        let logits = [row(1, 1.0), row(2, 8.0), row(4, 5.0), row(7, 3.0)].concat();
        let mistakes = confident_mistakes(&logits, 10, &[0, 0, 4, 0], 2);
        let found: Vec<_> = mistakes
            .iter()
            .map(|m| (m.index, m.predicted.class))
            .collect();
        assert_eq!(found, [(1, 2), (3, 7)]);
    }
}
