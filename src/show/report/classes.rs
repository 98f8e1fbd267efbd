//! How well each class is recognised, and which others it is taken for.

use super::units::percent;
use crate::data::{DatasetSpec, groups};
use crate::score::scores::{ClassScore, MOST_IN_A_MATRIX, Scores};

pub struct ClassRow<'a> {
    pub name: &'a str,
    pub images: usize,
    pub acc: String,
    /// Of the bar beside it, in percent.
    pub width: f64,
    pub precision: String,
}

pub struct ConfusionRow<'a> {
    pub truth: &'a str,
    pub predicted: &'a str,
    pub images: usize,
}

pub struct MatrixRow<'a> {
    pub name: &'a str,
    pub cells: Vec<MatrixCell>,
}

pub struct MatrixCell {
    pub count: usize,
    /// Share of the row's images, 0 to 1.
    pub share: f64,
    pub correct: bool,
    pub hint: String,
}

pub fn class_rows<'a>(spec: &'a DatasetSpec, scores: &Scores) -> Vec<ClassRow<'a>> {
    let all = scores.classes();
    let shown = match all.len() <= MOST_IN_A_MATRIX {
        true => (0..all.len()).collect(),
        false => scores.worst_classes(MOST_IN_A_MATRIX),
    };
    let rows = shown.into_iter();
    rows.map(|class| class_row(&spec.class_names[class], &all[class]))
        .collect()
}

/// A row for each group of classes, where the data set has some.
pub fn group_rows<'a>(spec: &DatasetSpec, scores: &Scores) -> Vec<ClassRow<'a>> {
    let Some(groups) = groups(spec) else {
        return Vec::new();
    };
    let scores = scores.groups(&groups.of_class, groups.names.len());
    let rows = groups.names.into_iter().zip(&scores.groups);
    rows.map(|(name, score)| class_row(name, score)).collect()
}

fn class_row<'a>(name: &'a str, score: &ClassScore) -> ClassRow<'a> {
    ClassRow {
        name,
        images: score.images,
        acc: (score.acc).map_or("–".to_owned(), |acc| format!("{:.1} %", 100.0 * acc)),
        width: 100.0 * score.acc.unwrap_or(0.0),
        precision: score.precision.map_or("–".to_owned(), percent),
    }
}

pub fn confusions<'a>(names: &'a [String], scores: &Scores) -> Vec<ConfusionRow<'a>> {
    let pairs = scores.confusions(MOST_IN_A_MATRIX).into_iter();
    let rows = pairs.map(|pair| ConfusionRow {
        truth: &names[pair.truth],
        predicted: &names[pair.predicted],
        images: pair.images,
    });
    rows.collect()
}

pub fn matrix<'a>(names: &'a [String], scores: &Scores) -> Vec<MatrixRow<'a>> {
    let rows = scores.matrix().unwrap_or_default();
    let rows = rows.into_iter().enumerate();
    rows.map(|(truth, counts)| {
        let images: usize = counts.iter().sum();
        let cells = counts
            .iter()
            .enumerate()
            .map(|(predicted, &count)| MatrixCell {
                count,
                share: count as f64 / images.max(1) as f64,
                correct: truth == predicted,
                hint: format!(
                    "{count} of {images} images of class {} were classified as {}",
                    names[truth], names[predicted]
                ),
            });
        MatrixRow {
            name: &names[truth],
            cells: cells.collect(),
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_without_images_has_no_accuracy() {
        // One image of the first class, taken for it.
        let scores = Scores::of(&[1.0, 0.0], 2, &[0]);
        let spec = DatasetSpec {
            side: 32,
            class_names: vec!["cat".to_owned(), "dog".to_owned()],
        };
        let rows = class_rows(&spec, &scores);
        let shown = |row: &ClassRow| (row.acc.clone(), row.width);
        assert_eq!(shown(&rows[0]), ("100.0 %".to_owned(), 100.0));
        assert_eq!(shown(&rows[1]), ("–".to_owned(), 0.0));
    }
}
