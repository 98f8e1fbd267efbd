//! How a run came about: its time, settings, machine and command.

use serde_json::Value;

use super::units::duration;

/// The share of the run's time that one kind of work took.
pub struct Share {
    pub name: &'static str,
    pub class: &'static str,
    pub seconds: String,
    pub percent: f64,
}

/// How the run's time was spent, from `result.json`.
pub fn timing(timing: &Value) -> Vec<Share> {
    let kinds = [
        ("training steps", "compute", "compute_s"),
        ("between steps", "between", "between_steps_s"),
        ("waiting for input", "input", "input_s"),
        ("evaluation", "evaluation", "evaluation_s"),
        ("checkpoints", "checkpoint", "checkpoint_s"),
        ("plots and report", "report", "report_s"),
    ]
    .map(|(name, class, key)| (name, class, timing[key].as_f64().unwrap_or(0.0)));
    let total: f64 = kinds.iter().map(|(.., seconds)| seconds).sum();
    if total <= 0.0 {
        return Vec::new();
    }
    kinds
        .map(|(name, class, seconds)| Share {
            name,
            class,
            seconds: duration(seconds),
            percent: 100.0 * seconds / total,
        })
        .into()
}

pub fn settings(config: &toml::Table) -> Vec<(String, String)> {
    config
        .iter()
        .map(|(key, value)| (key.clone(), value.to_string().trim_matches('"').to_owned()))
        .collect()
}

pub fn environment(env: &Value) -> Vec<(String, String)> {
    [
        ("device", "device"),
        ("processor", "cpu"),
        ("cores", "cores"),
        ("memory_bytes", "memory_bytes"),
        ("machine", "hostname"),
        ("system", "os"),
        ("kernel", "kernel"),
        ("resnet-xla", "version"),
        ("commit", "git_commit"),
        ("XLA runtime", "runtime"),
        ("compiler", "rustc"),
    ]
    .into_iter()
    .filter_map(|(name, key)| match (&env[key], key) {
        (Value::Null, _) => None,
        (value, "memory_bytes") => {
            let gib = value.as_f64()? / f64::from(1 << 30);
            Some(("memory".to_owned(), format!("{gib:.1} GiB")))
        }
        (Value::String(text), _) => Some((name.to_owned(), text.clone())),
        (value, _) => Some((name.to_owned(), value.to_string())),
    })
    .collect()
}

pub fn command_line(env: &Value) -> String {
    let words = env["command_line"].as_array().into_iter().flatten();
    let words: Vec<String> = words.filter_map(Value::as_str).map(quoted).collect();
    words.join(" ")
}

/// A word quoted for a shell if needed.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:=+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_command_is_quoted_where_a_shell_would_take_it_apart() {
        let env =
            json!({"command_line": ["./resnet-xla", "--lr-drops=8:0.01", "my run", "it's", ""]});
        assert_eq!(
            command_line(&env),
            r"./resnet-xla --lr-drops=8:0.01 'my run' 'it'\''s' ''"
        );
    }
}
