//! A number for each colour, as a user writes them.

use std::str::FromStr;

/// For red, green and blue. Written `0.4914,0.4822,0.4465`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Channels(pub [f32; 3]);

impl FromStr for Channels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed: Result<Vec<f32>, _> = text.split(',').map(|part| part.trim().parse()).collect();
        let fits = |value: &f32| (0.0..=1.0).contains(value);
        match parsed.map(<[f32; 3]>::try_from) {
            Ok(Ok(values)) if values.iter().all(fits) => Ok(Self(values)),
            _ => Err("expected three numbers from 0 to 1, for red, green and blue".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_three_from_0_to_1() {
        assert_eq!("0.5, 0,1".parse(), Ok(Channels([0.5, 0.0, 1.0])));
        for wrong in [
            "",
            "0.5",
            "0.5,0.5,0.5,0.5",
            "0,0,-0.1",
            "0,0,123",
            "a,b,c",
            "0,0,NaN",
        ] {
            assert!(wrong.parse::<Channels>().is_err(), "{wrong}");
        }
    }
}
