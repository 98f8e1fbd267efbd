//! Limits of time that variables of the environment set, for machines and networks that are slower than usual.

use std::time::Duration;

/// A day.
const MOST: u64 = 24 * 60 * 60;

/// A variable that sets no limit.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{variable} is `{value}`; expected a whole number of seconds from {least} to {MOST}")]
pub struct SecondsError {
    variable: &'static str,
    least: u64,
    value: String,
}

/// The limit that `variable` sets, of `least` seconds or more, or else `usual`.
pub fn limit(
    variable: &'static str,
    least: u64,
    usual: Duration,
) -> Result<Duration, SecondsError> {
    let value = std::env::var_os(variable);
    let value = value.map(|value| value.to_string_lossy().into_owned());
    parse(value.as_deref(), least, usual).map_err(|value| SecondsError {
        variable,
        least,
        value,
    })
}

/// The limit in `value`, or else `usual`.
///
/// # Errors
/// The value, if it is no number of seconds from `least` to a day.
fn parse(value: Option<&str>, least: u64, usual: Duration) -> Result<Duration, String> {
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Ok(usual);
    };
    let seconds = value.trim().parse().ok();
    let seconds = seconds.filter(|seconds| (least..=MOST).contains(seconds));
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_whole_number_of_seconds_up_to_a_day() {
        let usual = Duration::from_millis(7);
        assert_eq!(parse(None, 1, usual), Ok(usual));
        assert_eq!(parse(Some(""), 1, usual), Ok(usual));
        assert_eq!(parse(Some(" 120"), 1, usual), Ok(Duration::from_secs(120)));
        for wrong in ["0", "-1", "2.5", "ten", "86401"] {
            assert_eq!(parse(Some(wrong), 1, usual), Err(wrong.to_owned()));
        }
        assert_eq!(parse(Some("0"), 0, usual), Ok(Duration::ZERO));
    }
}
