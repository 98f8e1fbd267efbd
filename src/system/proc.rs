//! What Linux says of the machine and of this process, in files of text. What it does not say is `None`.

use std::fs;

/// The machine's name.
pub fn hostname() -> Option<String> {
    line_of("/proc/sys/kernel/hostname")
}

/// What tells this machine's kernel, since it was started, from that of every other machine; the same in all containers.
pub fn kernel_id() -> String {
    let boot = line_of("/proc/sys/kernel/random/boot_id");
    boot.or_else(hostname).unwrap_or_default()
}

/// The kernel's release.
pub fn kernel() -> Option<String> {
    line_of("/proc/sys/kernel/osrelease")
}

/// The distribution with its version.
pub fn os() -> Option<String> {
    value_in("/etc/os-release", "PRETTY_NAME", '=')
}

/// The model of the first processor.
pub fn cpu() -> Option<String> {
    value_in("/proc/cpuinfo", "model name", ':')
}

/// The features of the first processor, as the kernel names them.
pub fn cpu_features() -> Option<String> {
    let flags = value_in("/proc/cpuinfo", "flags", ':');
    // Processors of ARM call them so.
    flags.or_else(|| value_in("/proc/cpuinfo", "Features", ':'))
}

/// The machine's memory in bytes.
pub fn memory_bytes() -> Option<u64> {
    kib_to_bytes(&value_in("/proc/meminfo", "MemTotal", ':')?)
}

/// The memory that is free for this process, in bytes: in the machine, and in its container where there is a limit.
pub fn available_bytes() -> Option<u64> {
    let free = kib_to_bytes(&value_in("/proc/meminfo", "MemAvailable", ':')?)?;
    let number = |path: &str| line_of(path)?.parse::<u64>().ok();
    let limit = number("/sys/fs/cgroup/memory.max");
    let used = number("/sys/fs/cgroup/memory.current").unwrap_or(0);
    let stat = fs::read_to_string("/sys/fs/cgroup/memory.stat").unwrap_or_default();
    Some(limit.map_or(free, |limit| free.min(left(limit, used, &stat))))
}

/// The bytes that a container may still take when it has `used` bytes of its `limit`; `stat` says of what kinds.
fn left(limit: u64, used: u64, stat: &str) -> u64 {
    // Files that were read stay in memory until it is needed for something else.
    let cache = value_of(stat, "inactive_file", ' ').and_then(|bytes| bytes.parse().ok());
    limit.saturating_sub(used.saturating_sub(cache.unwrap_or(0)))
}

/// The memory that this process has resident, in bytes.
pub fn resident_bytes() -> Option<u64> {
    kib_to_bytes(&status("VmRSS")?)
}

/// The most memory that this process ever had resident, in bytes.
pub fn peak_resident_bytes() -> Option<u64> {
    kib_to_bytes(&status("VmHWM")?)
}

/// How often this process touched a page of memory that the system then had to give it.
pub fn page_faults() -> Option<u64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    stat_field(&stat, 10)?.parse().ok()
}

/// The processors that this process may run on, as a mask in hexadecimal digits with commas.
pub fn allowed_processors() -> Option<String> {
    status("Cpus_allowed")
}

/// The threads of this process.
pub fn threads() -> Option<usize> {
    Some(fs::read_dir("/proc/self/task").ok()?.count())
}

/// Seconds since this process was started, to a hundredth.
pub fn age() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    age_of(&stat, &line_of("/proc/uptime")?)
}

/// The age of the process of `stat`, when the system has been up for as long as the first number of `uptime` says.
fn age_of(stat: &str, uptime: &str) -> Option<f64> {
    // What Linux counts in here, whatever its clock does.
    const TICKS_PER_SECOND: f64 = 100.0;
    let started: f64 = stat_field(stat, 22)?.parse().ok()?;
    let now: f64 = uptime.split_ascii_whitespace().next()?.parse().ok()?;
    Some(now - started / TICKS_PER_SECOND)
}

/// The field `number` of a process's `stat` file as proc(5) counts them, from the third on.
fn stat_field(stat: &str, number: usize) -> Option<&str> {
    // The process's name, the second, may have spaces and brackets in it.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(number - 3)
}

/// A field of this process's `status` file.
fn status(field: &str) -> Option<String> {
    value_in("/proc/self/status", field, ':')
}

fn line_of(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}

fn value_in(path: &str, key: &str, separator: char) -> Option<String> {
    value_of(&fs::read_to_string(path).ok()?, key, separator)
}

/// The value of the first `key`, separator, value line of `text`, without quotes.
fn value_of(text: &str, key: &str, separator: char) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once(separator))
        .find(|(name, _)| name.trim() == key)
        .map(|(_, value)| value.trim().trim_matches('"').to_owned())
}

/// "16 kB", as these files write it, in bytes; their kB are 1024 bytes.
fn kib_to_bytes(text: &str) -> Option<u64> {
    let kib: u64 = text.strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// What a program prints, or nothing when this machine does not have it.
    fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
        let output = Command::new(program).args(arguments).output().ok()?;
        Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
    }

    #[test]
    fn the_machine_is_described_as_the_systems_own_tools_describe_it() {
        for (program, arguments, ours) in
            [("uname", ["-r"], kernel()), ("uname", ["-n"], hostname())]
        {
            match output_of(program, &arguments) {
                Some(theirs) => assert_eq!(ours, Some(theirs), "{program} {arguments:?}"),
                None => println!("skipped: no {program} here to compare with"),
            }
        }
    }

    #[test]
    fn the_age_of_a_process_is_counted_from_its_start() {
        // As proc(5) has it: field 22 is the start, 1,234.56 s after that of the system.
        let stat = "7 (a (name) b) S 1 7 7 0 -1 4194560 9 0 0 0 1 2 0 0 20 0 3 0 123456 99 9 1";
        let found = age_of(stat, "1240.06 99.0").unwrap();
        assert!((found - 5.5).abs() < 1e-9, "{found}");
        assert_eq!(age_of("7 (short) S 1", "1240.06 99.0"), None);
        assert!(age().is_some_and(|age| age >= 0.0));
    }

    #[test]
    fn memory_that_is_touched_for_the_first_time_faults() {
        // Field 10 of the same line.
        let stat = "7 (a (name) b) S 1 7 7 0 -1 4194560 9 0 0 0 1 2 0 0 20 0 3 0 123456 99 9 1";
        assert_eq!(stat_field(stat, 10), Some("9"));
        let Some(before) = page_faults() else {
            println!("skipped: this system does not say");
            return;
        };
        // Some 30 pages even where they have 2 MiB.
        let touched = std::hint::black_box(vec![1u8; 64 << 20]);
        assert!(page_faults().unwrap() > before + 20, "{}", touched.len());
    }

    #[test]
    fn values_are_found_in_the_systems_files() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Fast CPU @ 2.00GHz\n\nprocessor\t: 1\nmodel name\t: Other\n";
        let cpu = value_of(cpuinfo, "model name", ':');
        assert_eq!(cpu.as_deref(), Some("Fast CPU @ 2.00GHz"));
        let release = "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        let os = value_of(release, "PRETTY_NAME", '=');
        assert_eq!(os.as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
        let status = "Cpus_allowed:\t3\nCpus_allowed_list:\t0-1\n";
        assert_eq!(value_of(status, "Cpus_allowed", ':').as_deref(), Some("3"));
        assert_eq!(value_of("no such thing", "model name", ':'), None);
    }

    #[test]
    fn a_kb_of_these_files_is_1024_bytes() {
        assert_eq!(kib_to_bytes("24579360 kB"), Some(25_169_264_640));
        assert_eq!(kib_to_bytes("much"), None);
        assert_eq!(kib_to_bytes("18446744073709551615 kB"), None);
    }

    #[test]
    fn files_that_were_read_do_not_count_as_used_memory() {
        let stat = "anon 300\nfile 600\ninactive_file 500\nactive_file 100\n";
        assert_eq!(left(1000, 900, stat), 600);
        assert_eq!(left(1000, 900, ""), 100);
        assert_eq!(left(1000, 1100, ""), 0);
    }

    #[test]
    fn less_memory_is_free_than_there_is() {
        let (Some(free), Some(all)) = (available_bytes(), memory_bytes()) else {
            println!("skipped: this system does not say");
            return;
        };
        assert!(free < all, "{free} of {all}");
    }

    #[test]
    fn the_peak_of_memory_is_at_least_what_is_resident() {
        let Some(resident) = resident_bytes() else {
            println!("skipped: this system does not say");
            return;
        };
        // Asked for later, so that it counts what was resident before.
        assert!(peak_resident_bytes().unwrap() >= resident);
    }
}
