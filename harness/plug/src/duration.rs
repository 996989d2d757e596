//! Durations as people write them, and as Duress does: `30s`, `500ms`, `1.5s`, `2m`, `1s 500ms`.
//!
//! There is this one grammar for scenarios, scripts, repro files and the command line: one or more
//! numbers, each with a unit; all but the units of a calendar.

use std::time::Duration;

/// The units, longest first, with their nanoseconds. The first name of each is written.
const UNITS: &[(&[&str], u64)] = &[
    (&["d", "day", "days"], 86_400_000_000_000),
    (&["h", "hr", "hrs", "hour", "hours"], 3_600_000_000_000),
    (&["m", "min", "mins", "minute", "minutes"], 60_000_000_000),
    (&["s", "sec", "secs", "second", "seconds"], 1_000_000_000),
    (&["ms", "msec", "millis"], 1_000_000),
    (&["us", "µs", "usec", "micros"], 1_000),
    (&["ns", "nsec", "nanos"], 1),
];

/// Reads a duration: numbers, which may have decimals, each with a unit.
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut nanos: u64 = 0;
    loop {
        let unit = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, after) = rest.split_at(unit);
        let after = after.trim_start();
        let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        nanos = nanos.checked_add(part(number, unit)?)?;
        rest = after.trim_start();
        if rest.is_empty() {
            return Some(Duration::from_nanos(nanos));
        }
    }
}

/// So many of a unit, in nanoseconds.
fn part(number: &str, unit: &str) -> Option<u64> {
    let (_, scale) = UNITS.iter().find(|(names, _)| names.contains(&unit))?;
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(decimals) || decimals.len() > 9 || number.ends_with('.') {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let decimal: u64 = if decimals.is_empty() { 0 } else { decimals.parse().ok()? };
    let decimal = u128::from(decimal) * u128::from(*scale) / 10u128.pow(decimals.len() as u32);
    whole.checked_mul(*scale)?.checked_add(u64::try_from(decimal).ok()?)
}

/// Reads a duration of the command line.
///
/// # Errors
/// If it is none; the words say how to write one.
pub fn read(text: &str) -> Result<Duration, String> {
    parse(text.trim()).ok_or_else(|| {
        let shown: String = text.chars().filter(|c| !c.is_control()).take(40).collect();
        format!("`{shown}` is no duration; write it like 30s, 500ms or 2m")
    })
}

/// Writes a duration the way scenarios do (`30s`, `2500ms`), to the microsecond.
pub fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let exact = |(_, scale): &&(&[&str], u64)| nanos.is_multiple_of(u128::from(*scale));
    // Nobody says 1m where everything else is in seconds; hours are another matter, and days are
    // nobody's measure.
    let usual = |(names, scale): &&(&[&str], u64)| match names[0] {
        "d" | "ns" => false,
        "m" => nanos >= 10 * u128::from(*scale),
        _ => true,
    };
    match UNITS.iter().filter(usual).find(exact) {
        _ if nanos == 0 => "0s".into(),
        Some((names, scale)) => format!("{}{}", nanos / u128::from(*scale), names[0]),
        None => format!("{}us", nanos / 1_000),
    }
}

/// Writes a duration to the nanosecond, unit by unit: `1s 500ms`.
pub fn exact(duration: Duration) -> String {
    let mut nanos = duration.as_nanos();
    let mut parts = Vec::new();
    for (names, scale) in UNITS {
        let count = nanos / u128::from(*scale);
        nanos %= u128::from(*scale);
        match names[0] {
            _ if count == 0 => {}
            // As repro files always had it.
            "d" => parts.push(format!("{count}{}", if count == 1 { "day" } else { "days" })),
            unit => parts.push(format!("{count}{unit}")),
        }
    }
    if parts.is_empty() { "0s".into() } else { parts.join(" ") }
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
            ("7ns", Some(Duration::from_nanos(7))),
            ("0s", Some(ms(0))),
            ("2 s", Some(ms(2_000))),
            ("1s 500ms", Some(ms(1_500))),
            ("1m30s", Some(ms(90_000))),
            ("1day 2h", Some(ms(26 * 3_600_000))),
            ("2min", Some(ms(120_000))),
            ("30", None),
            ("1s 30", None),
            ("s", None),
            ("-1s", None),
            ("1e3s", None),
            ("5 parsecs", None),
            ("3 weeks", None),
            ("1.s", None),
            (".5s", None),
            ("1s, 2ms", None),
            ("99999999999999999999s", None),
            ("9999999999999h", None),
            ("18446744073s 999999999999s", None),
            ("", None),
        ] {
            assert_eq!(parse(text), wanted, "{text}");
        }
        assert!(read("30").unwrap_err().contains("write it like 30s"));
    }

    #[test]
    fn what_is_written_is_read_again() {
        for us in [0, 1, 250, 1_000, 1_500, 999_999, 1_000_000, 90_000_000, 600_000_000, 3_600_000_000, 86_400_000_000]
        {
            let duration = Duration::from_micros(us);
            assert_eq!(parse(&format(duration)), Some(duration), "{}", format(duration));
            let odd = duration + Duration::from_nanos(7);
            assert_eq!(parse(&exact(odd)), Some(odd), "{}", exact(odd));
        }
        assert_eq!(format(Duration::from_secs(120)), "120s");
        assert_eq!(format(Duration::from_secs(900)), "15m");
        assert_eq!(format(Duration::from_millis(2_500)), "2500ms");
        assert_eq!(format(Duration::from_secs(48 * 3600)), "48h");
        assert_eq!(exact(Duration::from_micros(1_500_250)), "1s 500ms 250us");
        assert_eq!(exact(Duration::from_secs(86_400)), "1day");
        assert_eq!(exact(Duration::ZERO), "0s");
    }
}
