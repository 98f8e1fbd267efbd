//! Which processes have the TPU, where it is busy.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::device::entries::{entries, file_name};
use crate::device::hardware::tpu_files;

/// libtpu locks this file while a process has the TPU.
const TPU_LOCK: &str = "tmp/libtpu_lockfile";

/// The processes below `root` that hold the TPU, each with the file that shows it. Other users' open files
/// are not visible, but their locks are.
pub fn tpu_holders(root: &Path) -> Vec<String> {
    let mut holders = Vec::new();
    if let Some(pid) = lock_owner(root) {
        holders.push(describe_process(root, &pid, &format!("/{TPU_LOCK}")));
    }
    let files = tpu_files(root);
    for process in entries(&root.join("proc")) {
        let pid = file_name(&process);
        if !pid.bytes().all(|byte| byte.is_ascii_digit()) || pid == std::process::id().to_string() {
            continue;
        }
        let open = entries(&process.join("fd")).filter_map(|fd| std::fs::read_link(fd).ok());
        let held = open.map(|path| path.display().to_string());
        if let Some(file) = held.into_iter().find(|path| files.contains(path)) {
            holders.push(describe_process(root, &pid, &file));
        }
    }
    holders
}

/// The process that locks libtpu's lock file, according to the kernel.
fn lock_owner(root: &Path) -> Option<String> {
    let inode = std::fs::metadata(root.join(TPU_LOCK)).ok()?.ino();
    let locks = std::fs::read_to_string(root.join("proc/locks")).ok()?;
    locks.lines().find_map(|line| {
        // 2: POSIX  ADVISORY  WRITE 31190 fe:00:10010719 0 EOF
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let [_, _, _, _, pid, file, ..] = fields[..] else {
            return None;
        };
        let locked: u64 = file.rsplit(':').next()?.parse().ok()?;
        (locked == inode && pid != std::process::id().to_string()).then(|| pid.to_owned())
    })
}

fn describe_process(root: &Path, pid: &str, file: &str) -> String {
    let command = std::fs::read_to_string(root.join("proc").join(pid).join("comm"));
    let command = command.unwrap_or_default();
    format!("pid {pid} ({}) has {file}", command.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::test_root::root_with;

    /// The number of a process that is not this one.
    fn another_pid() -> u32 {
        std::process::id() + 1
    }

    #[test]
    fn the_process_that_locks_the_tpu_is_named() {
        let pid = another_pid();
        let root = root_with(&[(TPU_LOCK, ""), (&format!("proc/{pid}/comm"), "python3\n")]);
        let inode = std::fs::metadata(root.path().join(TPU_LOCK)).unwrap().ino();
        let locks = format!(
            "1: FLOCK  ADVISORY  WRITE 12 fe:00:{} 0 EOF\n\
             2: POSIX  ADVISORY  WRITE {pid} fe:00:{inode} 0 EOF\n",
            inode + 1
        );
        std::fs::write(root.path().join("proc/locks"), locks).unwrap();
        let holders = tpu_holders(root.path());
        let expected = format!("pid {pid} (python3) has /tmp/libtpu_lockfile");
        assert_eq!(holders, [expected]);
    }

    #[test]
    fn the_process_that_has_the_chip_open_is_named() {
        let pid = another_pid();
        let root = root_with(&[
            ("dev/accel0", ""),
            (&format!("proc/{pid}/comm"), "trainer\n"),
        ]);
        let chip = root.path().join("dev/accel0");
        let fds = root.path().join(format!("proc/{pid}/fd"));
        std::fs::create_dir_all(&fds).unwrap();
        std::os::unix::fs::symlink(&chip, fds.join("7")).unwrap();
        let holders = tpu_holders(root.path());
        let expected = format!("pid {pid} (trainer) has {}", chip.display());
        assert_eq!(holders, [expected]);
    }
}
