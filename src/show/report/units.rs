//! Numbers with their units.

pub fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// Seconds in the two largest units that fit.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_the_two_largest_units() {
        let shown = [0.04, 9.96, 75.4, 3599.0, 7260.0].map(duration);
        assert_eq!(
            shown,
            ["0.0 s", "10 s", "1 min 15 s", "59 min 59 s", "2 h 1 min"]
        );
    }
}
