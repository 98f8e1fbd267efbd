//! The texts of a run's progress.

use crate::run::history::{Best, EpochRecord};
use crate::run::observer::StepFigures;
use crate::run::schedule::in_short;

pub fn step_figures(figures: &StepFigures, eta: &str) -> String {
    format!(
        "loss {:.3} acc {:.3} {:.0} img/s eta {eta} wait {:.0}%",
        figures.loss,
        figures.acc,
        figures.images_per_sec,
        100.0 * figures.input_wait_frac
    )
}

/// The line that remains after an epoch: in full if `width` allows, otherwise a short form that fits 80 columns.
pub fn epoch_line(title: &str, record: &EpochRecord, best: Option<Best>, width: usize) -> String {
    let mut full = format!(
        "{title}  {:.1}s  loss {:.4}  acc {:.4}",
        record.seconds, record.loss, record.acc
    );
    let mut short = format!(
        "{title} {:.0}s loss {:.4} acc {:.4}",
        record.seconds, record.loss, record.acc
    );
    if let (Some(val_loss), Some(val_acc)) = (record.val_loss, record.val_acc) {
        full += &format!("  val_loss {val_loss:.4}  val_acc {val_acc:.4}");
        short += &format!(" val {val_loss:.4} {val_acc:.4}");
    }
    full += &format!("  lr {}", in_short(record.lr));
    if let Some(best) = best {
        let best = format!("best {:.4} @ {}", best.val_acc, best.epoch + 1);
        full += &format!("  ({best})");
        short += &format!(" {best}");
    }
    if full.len() <= width { full } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::progress::tests::{BEST, RECORD};

    #[test]
    fn the_line_of_an_epoch_fits_80_columns_when_it_has_to() {
        let late = EpochRecord {
            seconds: 1234.5,
            loss: 12.34567,
            ..RECORD
        };
        let line = epoch_line("Epoch 100/100", &late, BEST, 80);
        assert_eq!(
            line,
            "Epoch 100/100 1234s loss 12.3457 acc 0.5678 val 1.3456 0.5200 best 0.5432 @ 2"
        );
        assert!(line.len() <= 80);
    }

    #[test]
    fn an_epoch_without_evaluation_has_no_validation_figures() {
        let record = EpochRecord {
            val_loss: None,
            val_acc: None,
            ..RECORD
        };
        let line = epoch_line("Epoch 3/100", &record, None, usize::MAX);
        assert_eq!(line, "Epoch 3/100  12.3s  loss 1.2345  acc 0.5678  lr 0.1");
    }
}
