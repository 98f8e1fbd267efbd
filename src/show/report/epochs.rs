//! The history of a run: curves, and a table with a row for each epoch.

use serde_json::json;

use super::units::duration;
use crate::run::history::EpochRecord;
use crate::run::schedule::in_short;
use crate::show::plot::has_moving_rate;

pub struct EpochRow {
    pub cells: Vec<String>,
}

/// The history as columns; numbers that are not finite become null.
pub fn curves(records: &[EpochRecord]) -> String {
    let column = |value: fn(&EpochRecord) -> Option<f64>| -> Vec<Option<f64>> {
        let finite = |number: &f64| number.is_finite();
        records
            .iter()
            .map(|record| value(record).filter(finite))
            .collect()
    };
    let columns = json!({
        "epoch": records.iter().map(|record| record.epoch + 1).collect::<Vec<_>>(),
        "acc": column(|record| Some(record.acc)),
        "val_acc": column(|record| record.val_acc),
        "loss": column(|record| Some(record.loss)),
        "val_loss": column(|record| record.val_loss),
        "lr": column(|record| Some(record.lr)),
        "lr_moves": has_moving_rate(records),
    });
    // Numbers, a flag and plain keys: nothing in it can end a script element.
    columns.to_string()
}

pub fn epoch_row(record: &EpochRecord) -> EpochRow {
    let optional =
        |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.4}"));
    EpochRow {
        cells: vec![
            (record.epoch + 1).to_string(),
            format!("{:.4}", record.loss),
            format!("{:.4}", record.acc),
            optional(record.val_loss),
            optional(record.val_acc),
            in_short(record.lr),
            duration(record.seconds),
            (record.rate()).map_or("–".to_owned(), |rate| format!("{rate:.0}")),
            format!("{:.1} %", 100.0 * record.input_wait_frac),
        ],
    }
}
