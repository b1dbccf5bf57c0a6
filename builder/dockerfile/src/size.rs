//! Sizes as people write them: those of a tmpfs here, and of whatever a container is given.
//!
//! Spec: docker's `units.RAMInBytes`.

/// Reads a size such as `64m`, `1.5g`, `100kb`, `10 KiB` or `1024`; units are powers of 1024, and the number is a decimal one, be
/// it with an exponent.
pub fn parse_size(text: &str) -> Option<u64> {
    let last = text.rfind(|c: char| c.is_ascii_digit() || matches!(c, '.' | ' '))?;
    let (number, unit) = text.split_at(last + 1);
    let number = number.strip_suffix(' ').unwrap_or(number);
    let unit = unit.to_ascii_lowercase();
    let shift = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit) {
        "" if unit != "ib" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    if let Ok(number) = number.parse::<u64>() {
        return number.checked_mul(1 << shift);
    }
    let has_digits = number.contains(|c: char| c.is_ascii_digit());
    let number = number.parse::<f64>().ok().filter(|_| has_digits)?;
    let bytes = number * f64::from(1_u32 << (shift / 2)) * f64::from(1_u32 << (shift / 2));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a size in whole bytes, checked to be one"
    )]
    (0.0..9e18).contains(&bytes).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        let cases = [
            ("0", Some(0)),
            ("1024", Some(1024)),
            ("64m", Some(64 << 20)),
            ("1.5G", Some(3 << 29)),
            ("10KiB", Some(10 << 10)),
            ("1tb", Some(1 << 40)),
            ("", None),
            ("-1", None),
            ("1x", None),
            ("1.2.3m", None),
            ("99999999999p", None),
            ("64 m", Some(64 << 20)),
            ("64  m", None),
            (" 64m", None),
            ("1e3", Some(1000)),
            ("+5k", Some(5 << 10)),
            ("5b", Some(5)),
            ("5ib", None),
            ("5kbb", None),
            ("inf", None),
            ("m", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_size(text), expected, "{text}");
        }
    }
}
