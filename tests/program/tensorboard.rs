//! What TensorBoard and its plugins find in a folder of events.
//!
//! The Python that has them is `python3`, or the one that `TENSORBOARD_PYTHON` names.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What `script`, in `tests`, prints of `folder` as JSON; `None`, with the reason printed, where what it needs is not there.
pub fn read(script: &str, folder: &Path) -> Option<Value> {
    let python = std::env::var("TENSORBOARD_PYTHON").unwrap_or("python3".to_owned());
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(script);
    let output = match Command::new(&python).arg(script).arg(folder).output() {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: cannot start {python}: {error}");
            return None;
        }
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(77) {
        println!("skipped: {}; try TENSORBOARD_PYTHON", errors.trim());
        return None;
    }
    assert!(output.status.success(), "{errors}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// What TensorBoard's profile plugin shows of the only profile in `folder`, as a Chrome trace; `None` where it is not there.
pub fn shown_events(folder: &Path) -> Option<Vec<Value>> {
    let mut found = read("read_profile.py", folder)?;
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
    let profile = found[0].take();
    assert_eq!(profile["run"], "steps");
    Some(profile["events"].as_array().unwrap().clone())
}

/// The name of the process, for a profile a device or the host, that `event` of `events` belongs to.
pub fn process_of<'a>(event: &Value, events: &'a [Value]) -> &'a str {
    let mut names = events.iter().filter(|it| it["name"] == "process_name");
    let its = names.find(|name| name["pid"] == event["pid"]).unwrap();
    its["args"]["name"].as_str().unwrap()
}
