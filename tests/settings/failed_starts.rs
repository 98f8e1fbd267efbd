//! What a start that is refused leaves as it was.

use std::fs;

use crate::program::runs::quick_run;
use crate::program::{fail, snapshot, succeed, text};

#[test]
fn a_start_that_fails_leaves_the_folder_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let garbage = folder.path().join("garbage.safetensors");
    fs::write(&garbage, "garbage").unwrap();
    let damaged = folder.path().join("damaged");
    fs::create_dir(&damaged).unwrap();
    for name in (1..=5).map(|index| format!("data_batch_{index}")) {
        fs::write(damaged.join(name + ".bin"), "damaged").unwrap();
    }
    fs::write(damaged.join("test_batch.bin"), "damaged").unwrap();
    let runs = folder.path().join("runs");
    fs::create_dir_all(runs.join("noted")).unwrap();
    fs::write(runs.join("noted/notes.txt"), "mine").unwrap();
    let old = runs.join("old");
    fs::create_dir_all(old.join("checkpoints")).unwrap();
    fs::write(old.join("config.toml"), "preset = \"quick\"").unwrap();
    fs::write(old.join("checkpoints/step-00000001.safetensors"), "old").unwrap();
    let before = snapshot(&runs);

    let missing = folder.path().join("missing.safetensors");
    for (args, code) in [
        (&["--seed", "9223372036854775808"][..], 2),
        (&["--depth", "12"], 2),
        (&["--replicas", "3", "--batch-size", "8"], 2),
        (&["--init-weights", text(&missing)], 3),
        (&["--init-weights", text(&garbage)], 3),
        (&["--dataset", "cifar10", "--data-dir", text(&damaged)], 3),
        (&["--dataset", "cifar10", "--data-dir", text(&garbage)], 3),
        (&["--plugin", "no/such/plugin.so"], 4),
    ] {
        for (name, more) in [("new", ""), ("noted", ""), ("old", "--overwrite")] {
            let out = runs.join(name);
            fail(&[quick_run(&out, more), args.to_vec()].concat(), code);
            assert!(snapshot(&runs) == before, "{name}: {args:?}");
        }
    }
}

#[test]
fn weights_that_overwriting_would_remove_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    succeed(&quick_run(&run, "--max-steps 1 --eval-steps 1"));
    let before = snapshot(&run);
    let weights = run.join("checkpoints/step-00000001.safetensors");
    let args = quick_run(&run, "--overwrite --init-weights");
    let message = fail(&[args, vec![text(&weights)]].concat(), 2);
    assert!(message.contains("step-00000001.safetensors"), "{message}");
    let lock = run.join("run.lock");
    let mut after = snapshot(&run);
    after.insert(lock.clone(), before[&lock].clone());
    assert!(after == before);
}
