//! Durations as people write them: `30s`, `500ms`, `1.5s`, `2m`.

use std::time::Duration;

/// The units, longest first, with their nanoseconds.
const UNITS: &[(&str, u64)] =
    &[("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)];

/// Reads a duration: a number, which may have decimals, and a unit.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(split);
    let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let number = number.trim_end();
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(decimals) || decimals.len() > 9 || number.ends_with('.') {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let part: u64 = if decimals.is_empty() { 0 } else { decimals.parse().ok()? };
    let part = u128::from(part) * u128::from(*scale) / 10u128.pow(decimals.len() as u32);
    Some(Duration::from_nanos(whole.checked_mul(*scale)?.checked_add(u64::try_from(part).ok()?)?))
}

/// Writes a duration the way scenarios do (`30s`, `2500ms`), to the microsecond.
pub fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let exact = |(_, scale): &&(&str, u64)| nanos.is_multiple_of(u128::from(*scale));
    // Nobody says 1m where everything else is in seconds; hours are another matter.
    let units = UNITS.iter().filter(|(name, scale)| *name != "m" || nanos >= 10 * u128::from(*scale));
    match units.clone().find(exact) {
        _ if nanos == 0 => "0s".into(),
        Some((name, scale)) => format!("{}{name}", nanos / u128::from(*scale)),
        None => format!("{}us", nanos / 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        let ms = Duration::from_millis;
        for (text, wanted) in [
            ("30s", Some(ms(30_000))),
            ("500ms", Some(ms(500))),
            ("1.5s", Some(ms(1_500))),
            ("2m", Some(ms(120_000))),
            ("1h", Some(ms(3_600_000))),
            ("250us", Some(Duration::from_micros(250))),
            ("0s", Some(ms(0))),
            ("2 s", Some(ms(2_000))),
            ("30", None),
            ("s", None),
            ("-1s", None),
            ("1e3s", None),
            ("5 parsecs", None),
            ("1.s", None),
            (".5s", None),
            ("99999999999999999999s", None),
            ("9999999999999h", None),
            ("", None),
        ] {
            assert_eq!(parse(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for us in [0, 1, 250, 1_000, 1_500, 999_999, 1_000_000, 90_000_000, 600_000_000, 3_600_000_000, 86_400_000_000]
        {
            let duration = Duration::from_micros(us);
            assert_eq!(parse(&format(duration)), Some(duration), "{}", format(duration));
        }
        assert_eq!(format(Duration::from_secs(120)), "120s");
        assert_eq!(format(Duration::from_secs(900)), "15m");
        assert_eq!(format(Duration::from_millis(2_500)), "2500ms");
    }
}
