use std::fs;

use proptest::prelude::*;

use super::*;

const HEADER: &str = "epoch,loss,acc,val_loss,val_acc,lr,seconds,images_per_sec,input_wait_frac\n";

fn record(epoch: usize, val_acc: Option<f64>) -> EpochRecord {
    EpochRecord {
        epoch,
        loss: 1.25,
        acc: 0.5,
        val_loss: val_acc.map(|_| 1.5),
        val_acc,
        lr: 0.1,
        seconds: 12.5,
        images_per_sec: 4000.0,
        input_wait_frac: 0.015625,
    }
}

/// A history file with the given rows under the right header.
fn file_with(rows: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.csv");
    fs::write(&path, format!("{HEADER}{rows}")).unwrap();
    (folder, path)
}

fn read_error(rows: &str) -> String {
    let (_folder, path) = file_with(rows);
    History::read(&path).unwrap_err().to_string()
}

#[test]
fn each_epoch_becomes_one_row_under_the_header() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.csv");
    let mut history = History::create(&path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), HEADER);
    history.push(record(0, Some(0.25))).unwrap();
    history.push(record(1, None)).unwrap();
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        format!(
            "{HEADER}0,1.25,0.5,1.5,0.25,0.1,12.5,4000.0,0.015625\n1,1.25,0.5,,,0.1,12.5,4000.0,0.015625\n"
        )
    );
}

#[test]
fn a_hand_written_file_is_read_into_its_numbers() {
    let (_folder, path) = file_with("0,2.5,0.125,,,1e-1,3,40,0\n4,nan,0.5,2,0.75,0.01,1,2,1\n");
    let history = History::read(&path).unwrap();
    let [first, second] = history.records() else {
        panic!("expected two rows, got {:?}", history.records());
    };
    assert_eq!((first.epoch, first.loss, first.lr), (0, 2.5, 0.1));
    assert_eq!((first.val_loss, first.val_acc), (None, None));
    assert!(second.loss.is_nan());
    assert_eq!((second.epoch, second.val_acc), (4, Some(0.75)));
}

#[test]
fn truncating_drops_the_epochs_that_run_again_from_the_file_too() {
    let (_folder, path) = file_with("0,1,0,1,0,1,1,1,0\n1,1,0,1,0,1,1,1,0\n2,1,0,1,0,1,1,1,0\n");
    History::read(&path).unwrap().truncate_from(1).unwrap();
    let mut history = History::read(&path).unwrap();
    assert_eq!(history.records().len(), 1);
    history.push(record(1, None)).unwrap();
    assert_eq!(History::read(&path).unwrap().records().len(), 2);
}

#[test]
fn the_best_epoch_is_the_first_with_the_highest_validation_accuracy() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = History::create(&folder.path().join("history.csv")).unwrap();
    assert_eq!(history.best(), None);
    let accuracies = [None, Some(0.5), Some(f64::NAN), Some(0.75), Some(0.75)];
    for (epoch, val_acc) in accuracies.into_iter().enumerate() {
        history.push(record(epoch, val_acc)).unwrap();
    }
    let best = Best {
        epoch: 3,
        val_acc: 0.75,
    };
    assert_eq!(history.best(), Some(best));
}

#[test]
fn an_epoch_that_does_not_come_after_the_last_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = History::create(&folder.path().join("history.csv")).unwrap();
    history.push(record(3, None)).unwrap();
    let message = history.push(record(3, None)).unwrap_err().to_string();
    assert!(message.contains("holds epoch 3"), "{message}");
    assert_eq!(history.records().len(), 1);
}

#[test]
fn a_wrong_field_is_reported_with_line_column_expected_and_got() {
    let message = read_error("0,1,0,1,0,1,1,1,0\n1,1,many,1,0,1,1,1,0\n");
    let end = "history.csv line 3, column acc: expected a number, got 'many'";
    assert!(message.ends_with(end), "{message}");
    let message = read_error("-1,1,0,1,0,1,1,1,0\n");
    let end = "line 2, column epoch: expected a whole number from 0, got '-1'";
    assert!(message.ends_with(end), "{message}");
}

#[test]
fn the_rows_before_a_damaged_one_can_be_salvaged() {
    let (_folder, path) = file_with("0,1,0,1,0,1,1,1,0\n1,1,0.5\n2,1,0,1,0,1,1,1,0\n");
    let (history, fault) = History::salvage(&path);
    let epochs: Vec<usize> = history.records().iter().map(|r| r.epoch).collect();
    assert_eq!(epochs, [0]);
    assert_eq!(history.epochs(), 1);
    assert!(fault.unwrap().to_string().contains("line 3"));
}

#[test]
fn an_empty_loss_is_an_error_while_an_empty_validation_is_not() {
    assert!(read_error("0,,0,1,0,1,1,1,0\n").contains("column loss"));
}

#[test]
fn a_row_cut_short_is_reported_with_its_line() {
    let message = read_error("0,1,0,1,0,1,1,1,0\n1,1,0.5");
    let end = "line 3: expected 9 fields, got 3";
    assert!(message.ends_with(end), "{message}");
}

#[test]
fn a_foreign_or_empty_file_is_reported_with_the_header_that_was_expected() {
    for text in ["time,temperature\n1,2\n", ""] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.csv");
        fs::write(&path, text).unwrap();
        let message = History::read(&path).unwrap_err().to_string();
        assert!(message.contains(HEADER.trim_end()), "{message}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_record_survives_being_written_and_read(
        loss in any::<f64>().prop_filter("a number", |x| !x.is_nan()),
        acc in 0.0..1.0f64,
        validation in proptest::option::of((0.0..1e9f64, 0.0..1.0f64)),
        epoch in 0usize..1_000_000,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.csv");
        let record = EpochRecord {
            loss,
            acc,
            val_loss: validation.map(|(loss, _)| loss),
            val_acc: validation.map(|(_, acc)| acc),
            ..record(epoch, None)
        };
        History::create(&path).unwrap().push(record.clone()).unwrap();
        let history = History::read(&path).unwrap();
        prop_assert_eq!(history.records(), &[record][..]);
    }

    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in "\\PC*|([0-9a-z.,\"\n-]*)") {
        let (_folder, path) = file_with(&text);
        let _ = History::read(&path);
    }
}
