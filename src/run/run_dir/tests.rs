use std::os::unix::fs::symlink;

use super::*;

/// All files under a folder but the lock, by their relative paths, sorted.
fn files_under(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    found.retain(|name| name != LOCK);
    found.sort();
    found
}

fn touch(root: &Path, names: &[&str]) {
    for name in names {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
}

const A_RUN: [&str; 12] = [
    "config.toml",
    "env.json",
    "train.log",
    "history.csv",
    "result.json",
    "report.html",
    "checkpoints/step-00000390.safetensors",
    "plots/accuracy.png",
    "plots/loss.svg",
    "events/events.out.tfevents.1700000000.host",
    "events/plugins/profile/steps/host.xplane.pb",
    "profile.json",
];

#[test]
fn a_new_folder_is_made_with_its_parents_and_sub_folders() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("runs/quick");
    RunDir::create(&root, RunDirMode::Fresh).unwrap();
    for name in ["checkpoints", "plots", "events"] {
        assert!(root.join(name).is_dir(), "{name} is missing");
    }
    assert!(files_under(&root).is_empty());
}

#[test]
fn an_empty_run_folder_may_be_used_again() {
    let folder = tempfile::tempdir().unwrap();
    RunDir::create(folder.path(), RunDirMode::Fresh).unwrap();
    RunDir::create(folder.path(), RunDirMode::Fresh).unwrap();
}

#[test]
fn each_path_is_where_the_design_puts_it() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::create(folder.path(), RunDirMode::Fresh).unwrap();
    let paths = [
        (run.config(), "config.toml"),
        (run.env(), "env.json"),
        (run.train_log(), "train.log"),
        (run.history(), "history.csv"),
        (run.result(), "result.json"),
        (run.report(), "report.html"),
        (run.checkpoints(), "checkpoints"),
        (run.plots(), "plots"),
        (run.accuracy_plot(), "plots/accuracy"),
        (run.loss_plot(), "plots/loss"),
        (run.events(), "events"),
        (run.profile(), "profile.json"),
        (
            run.device_profile("host"),
            "events/plugins/profile/steps/host.xplane.pb",
        ),
        (
            run.shown_profile(),
            "events/plugins/profile/steps/cache_version.txt",
        ),
    ];
    for (path, expected) in paths {
        assert_eq!(path, folder.path().join(expected));
    }
}

#[test]
fn a_folder_with_any_file_of_a_run_is_refused_and_left_as_it_was() {
    for name in A_RUN.into_iter().filter(|name| *name != TRAIN_LOG) {
        let folder = tempfile::tempdir().unwrap();
        touch(folder.path(), &[name]);
        RunDir::check(folder.path(), RunDirMode::Fresh).unwrap_err();
        let error = RunDir::create(folder.path(), RunDirMode::Fresh).unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, RunDirError::HoldsRun { .. }), "{message}");
        for word in [name, "--out-dir", "--overwrite deletes"] {
            assert!(message.contains(word), "no {word} in: {message}");
        }
        // Only where there is something to go on from.
        let resumable = name.starts_with("checkpoints/");
        assert_eq!(message.contains("--resume"), resumable, "{message}");
        assert_eq!(files_under(folder.path()), [name]);
    }
}

#[test]
fn what_a_start_left_that_was_cut_short_while_it_compiled_is_no_run() {
    let folder = tempfile::tempdir().unwrap();
    RunDir::create(folder.path(), RunDirMode::Fresh).unwrap();
    touch(folder.path(), &["train.log"]);
    RunDir::check(folder.path(), RunDirMode::Fresh).unwrap();
    RunDir::create(folder.path(), RunDirMode::Fresh).unwrap();
    assert_eq!(files_under(folder.path()), ["train.log"]);
}

#[test]
fn a_check_makes_nothing_and_names_the_owner_of_a_folder_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("run");
    RunDir::check(&root, RunDirMode::Fresh).unwrap();
    assert!(!root.exists());
    let _owner = RunDir::create(&root, RunDirMode::Fresh).unwrap();
    touch(&root, &["config.toml"]);
    let error = RunDir::check(&root, RunDirMode::Fresh).unwrap_err();
    assert!(matches!(error, RunDirError::InUse { .. }), "{error}");
}

#[test]
fn resume_takes_the_folder_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    touch(folder.path(), &A_RUN);
    RunDir::create(folder.path(), RunDirMode::Resume).unwrap();
    assert_eq!(files_under(folder.path()).len(), A_RUN.len());
}

#[test]
fn overwrite_removes_the_files_of_a_run_and_nothing_else() {
    let foreign = [
        "checkpoints/notes/history.csv",
        "checkpoints/step-best.safetensors",
        "config.toml.bak",
        "events/readme.md",
        "notes.txt",
        "plots/history.csv",
    ];
    let folder = tempfile::tempdir().unwrap();
    touch(folder.path(), &A_RUN);
    touch(folder.path(), &foreign);
    touch(
        folder.path(),
        &[
            ".history.csv.Ab12Cd.tmp",
            "checkpoints/.step-00000780.safetensors.Ab12Cd.tmp",
        ],
    );
    RunDir::create(folder.path(), RunDirMode::Overwrite).unwrap();
    assert_eq!(files_under(folder.path()), foreign);
}

#[test]
fn overwrite_does_not_reach_through_symbolic_links() {
    let outside = tempfile::tempdir().unwrap();
    touch(
        outside.path(),
        &["step-00000390.safetensors", "history.csv"],
    );
    let folder = tempfile::tempdir().unwrap();
    symlink(
        outside.path().join("history.csv"),
        folder.path().join("history.csv"),
    )
    .unwrap();
    RunDir::create(folder.path(), RunDirMode::Overwrite).unwrap();
    assert!(!folder.path().join("history.csv").is_symlink());
    let untouched = ["history.csv", "step-00000390.safetensors"];
    assert_eq!(files_under(outside.path()), untouched);
}

#[test]
fn a_link_in_the_place_of_a_sub_folder_is_refused_in_every_mode() {
    for name in ["checkpoints", "plots", "events", "events/plugins/profile"] {
        for mode in [RunDirMode::Fresh, RunDirMode::Overwrite, RunDirMode::Resume] {
            let outside = tempfile::tempdir().unwrap();
            touch(outside.path(), &["step-00000390.safetensors"]);
            let folder = tempfile::tempdir().unwrap();
            let link = folder.path().join(name);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(outside.path(), link).unwrap();
            let error = RunDir::create(folder.path(), mode).unwrap_err();
            assert!(matches!(error, RunDirError::Link { .. }), "{error}");
            let untouched = ["step-00000390.safetensors"];
            assert_eq!(files_under(outside.path()), untouched);
        }
    }
}

#[test]
fn what_a_killed_process_left_half_written_is_removed_on_resumption_and_nothing_else() {
    let left = [
        ".history.csv.Ab12Cd.tmp",
        "checkpoints/.step-00000780.safetensors.Ab12Cd.tmp",
        "plots/.loss.png.Ab12Cd.tmp",
    ];
    let foreign = [".notes.txt.Ab12Cd.tmp", "checkpoints/.hidden"];
    let folder = tempfile::tempdir().unwrap();
    touch(folder.path(), &left);
    touch(folder.path(), &foreign);
    touch(folder.path(), &A_RUN);
    RunDir::create(folder.path(), RunDirMode::Resume).unwrap();
    let mut expected: Vec<&str> = [&A_RUN[..], &foreign].concat();
    expected.sort();
    assert_eq!(files_under(folder.path()), expected);
}

#[test]
fn a_file_in_the_place_of_a_folder_is_reported() {
    for name in ["run", "run/plots"] {
        for mode in [RunDirMode::Fresh, RunDirMode::Overwrite, RunDirMode::Resume] {
            let folder = tempfile::tempdir().unwrap();
            touch(folder.path(), &[name]);
            RunDir::check(&folder.path().join("run"), mode).unwrap_err();
            let error = RunDir::create(&folder.path().join("run"), mode).unwrap_err();
            assert!(matches!(error, RunDirError::NotAFolder { .. }), "{error}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_reported_with_its_path() {
    // No user, root included, can make a folder there.
    let path = Path::new("/proc/resnet-xla-run");
    let error = RunDir::create(path, RunDirMode::Fresh).unwrap_err();
    assert!(matches!(error, RunDirError::Unusable { .. }), "{error}");
    assert!(
        error.to_string().contains("/proc/resnet-xla-run"),
        "{error}"
    );
}

#[test]
fn a_folder_that_cannot_be_written_to_is_reported_with_its_path() {
    // The process's own folder in /proc is there, and no file can be made in it.
    let path = Path::new("/proc/self/task");
    let error = RunDir::create(path, RunDirMode::Resume).unwrap_err();
    assert!(matches!(error, RunDirError::Unusable { .. }), "{error}");
    assert!(error.to_string().contains("/proc/self/task"), "{error}");
}

#[test]
fn decoded_images_are_next_to_the_run_whichever_path_leads_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let runs = folder.join("runs");
    let expected = Some(runs.join("decoded-images"));
    // Of a run that is still to be made, too.
    assert_eq!(RunDir::of(&runs.join("one")).decoded_images(), expected);
    touch(&runs.join("one"), &A_RUN);
    symlink(runs.join("one"), folder.join("link")).unwrap();
    for path in [
        "runs/one",
        "runs/one/",
        "runs/one/checkpoints",
        "runs/one/checkpoints/step-00000390.safetensors",
        "link",
        "link/checkpoints",
    ] {
        let run = RunDir::around(&folder.join(path)).unwrap();
        assert_eq!(run.decoded_images(), expected, "{path}");
    }
    assert_eq!(RunDir::of(Path::new("/")).decoded_images(), None);
}
